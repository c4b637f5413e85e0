"""Hears whether a microphone gives more than the session gets from it.

A stream can live on and carry nothing: PipeWire leaves those deaf that recorded a device while
it was suspended, and gives sound to whoever comes new. Not here: what follows from it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from engine import devices
from engine.errors import DeviceError

# A microphone is never that silent, unless it is muted, and then there is nothing to hear.
_DEAF_S = 0.7
_LISTEN_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0


class SecondEar:
    """Listens for a moment when the session has heard no sound at all, and not often in vain.

    Parameters
    ----------
    clock : [s]
    open_input, close : as ``devices`` has them
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        open_input: Callable[[str, devices.Callback], Any] = devices.open_input,
        close: Callable[[Any], None] = devices.close,
    ) -> None:
        self._clock, self._open, self._close = clock, open_input, close
        self._stream: Any = None
        self.rest()

    def rest(self) -> None:
        """The session hears, or is another: stop listening and begin anew."""
        self.close()
        self._sounds = False
        self._next_s, self._pause_s = float("-inf"), _FIRST_PAUSE_S

    def close(self) -> None:
        """Stop listening."""
        if self._stream is not None:
            self._close(self._stream)
            self._stream = None

    def look(self, source: str, deaf_s: float) -> bool:
        """Whether the session is deaf; call it some times a second.

        Parameters
        ----------
        source : what it records
        deaf_s : for so long it has got nothing but digital silence [s]
        """
        if deaf_s < _DEAF_S:
            self.rest()
            return False
        now_s = self._clock()
        if self._stream is None:
            if now_s >= self._next_s:
                self._next_s = now_s + _LISTEN_S
                with contextlib.suppress(DeviceError):
                    self._stream = self._open(source, self._listen)
        elif self._sounds or now_s >= self._next_s:
            self.close()
            self._next_s = now_s + self._pause_s
            self._pause_s = min(2.0 * self._pause_s, _LONGEST_PAUSE_S)
        return self._sounds

    def _listen(self, block: Any, *_: Any) -> None:
        self._sounds = self._sounds or bool(block.any())
