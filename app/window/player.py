"""Plays one of two sounds of the same moments, and changes between them while it plays.

On the system's default output. Devices are opened and closed in a thread, because that takes a
tenth of a second. Not here: which sounds, and what is shown of them.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from engine.errors import DeviceError
from engine.stft import Float

_IDLE_S = 1.0


class Player:
    """Silent until told; to be looked after by calling ``look`` now and then.

    Parameters
    ----------
    sounds : (n,) float32 each, at the rate of ``engine.devices``

    Attributes
    ----------
    problem : why there is nothing to be heard, or nothing
    """

    def __init__(self, sounds: tuple[Float, Float]) -> None:
        self._sounds = sounds
        self.problem = ""
        # Written by the window: which, and from which sample on (None: from where it is).
        self._wanted: tuple[int, int | None] | None = None
        # Written by the callback: the wish it has taken up, the one that has come to its end,
        # and which sample of which sound is next.
        self._seen: tuple[int, int | None] | None = None
        self._done: tuple[int, int | None] | None = None
        self._now: tuple[int, int] | None = None
        self._stream: Any = None
        self._thread: threading.Thread | None = None
        self._heard_s = 0.0

    @property
    def plays(self) -> int | None:
        """Which of the two is to be heard."""
        wanted = self._wanted
        return None if wanted is None or wanted is self._done else wanted[0]

    @property
    def share(self) -> float:
        """How far it is, 0…1."""
        now = self._now
        return 0.0 if now is None else min(now[1] / len(self._sounds[0]), 1.0)

    def play(self, which: int, share: float | None = None) -> None:
        """Play one from ``share`` on: from where the other is, or else from the beginning."""
        at = None if share is None else round(share * len(self._sounds[0]))
        if at is None and self.plays is None:
            at = 0
        self.problem = ""
        self._wanted = (which, at)
        self._heard_s = time.monotonic()
        self._open_soon()

    def stop(self) -> None:
        """Be silent."""
        self._wanted = None

    def look(self) -> None:
        """Close the device when it has been silent for a while, or have it opened again."""
        if self.plays is not None:
            self._heard_s = time.monotonic()
            self._open_soon()
        elif self._stream is not None and time.monotonic() - self._heard_s > _IDLE_S:
            self._close_soon()

    def close(self) -> None:
        """Be silent for good."""
        self.stop()
        self._close_soon()

    # In threads

    def _open_soon(self) -> None:
        if self._stream is None and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._open, name="denoise player", daemon=True)
            self._thread.start()

    def _close_soon(self) -> None:
        before = self._thread

        def close() -> None:
            if before is not None:
                before.join()
            stream, self._stream, self._now = self._stream, None, None
            if stream is not None:
                stream.close(ignore_errors=True)

        self._thread = threading.Thread(target=close, name="denoise player", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            from engine import devices  # loads PortAudio

            self._stream = devices.open_output(devices.find("output", None), self._fill)
        except DeviceError as error:
            self.problem, self._wanted = str(error), None

    def _fill(self, block: Any, n: int, times: Any, flags: Any) -> None:
        """PortAudio's callback: from what was heard to what is wanted, faded over a block."""
        out = block[:, 0]
        before, wanted = self._now, self._wanted
        goal = before
        if wanted is None:
            goal = None
        elif wanted is not self._seen:
            which, at = wanted
            if at is None:
                at = 0 if before is None else before[1]
            goal = which, at
        self._seen = wanted
        if before == goal:
            self._part(goal, out)
        else:
            fade = np.linspace(0.0, 1.0, n, dtype=np.float32)
            old, new = np.zeros(n, np.float32), np.zeros(n, np.float32)
            self._part(before, old)
            self._part(goal, new)
            out[:] = (1.0 - fade) * old + fade * new
        if goal is not None:
            goal = goal[0], goal[1] + n
            if goal[1] >= len(self._sounds[0]):
                self._done, goal = wanted, None
        self._now = goal

    def _part(self, of: tuple[int, int] | None, out: Float) -> None:
        out[:] = 0.0
        if of is not None:
            part = self._sounds[of[0]][of[1] : of[1] + len(out)]
            out[: len(part)] = part
