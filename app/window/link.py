"""The window's side of the control socket: two threads talk, the window pulls.

One thread asks and tells wishes, one receives pictures. Both keep a bounded number of what
they got: a window that is slow misses the oldest, and what it gets is in order. Neither
knows Qt. Not here: the protocol (``engine.control``), what is made of it (``main_window``).
"""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.control import Answer, ControlClient
from engine.errors import ControlError

if TYPE_CHECKING:
    from app.window.comparison import Comparison

STATUS_S = 1.0
DEVICES_S, DEVICES_HIDDEN_S = 2.0, 6.0
"""How often devices are asked for while somebody looks, and else: that one came is told too."""
# Connecting in vain costs some 50 µs; a fresh engine is to hear of a mute before it has sound.
_RETRY_S = 0.05
# Two seconds of pictures.
_MOST_PICTURES = 60
_MOST_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Picture:
    """New columns of both spectrograms."""

    model: str
    top_hz: float
    column_s: float
    levels: np.ndarray
    """(columns, 2, rows) uint8, noisy and clean, row 0 the lowest."""
    gain: np.ndarray
    """(rows,) uint8, 255 for 1."""

    @classmethod
    def of(cls, told: Answer) -> Picture:
        """Unpack one; raises KeyError or ValueError when it is not one."""
        n_rows = int(told["rows"])
        levels = np.frombuffer(base64.b64decode(told["levels"]), np.uint8)
        gain = np.frombuffer(base64.b64decode(told["gain"]), np.uint8)
        if n_rows < 2 or gain.shape != (n_rows,) or not told["top_hz"] > 0 < told["column_s"]:
            raise ValueError("not a picture")
        return cls(
            str(told["model"]),
            float(told["top_hz"]),
            float(told["column_s"]),
            levels.reshape(int(told["columns"]), 2, n_rows),
            gain,
        )


@dataclass(frozen=True, slots=True)
class Told:
    """Something that came from the session."""

    kind: str
    """``status``, ``devices``, ``refused`` (a wish), or ``lost`` (the session)."""
    answer: Answer
    text: str = ""
    """Of ``refused`` and ``lost``: why."""
    wishes: int = 0
    """Of ``status``: how many wishes had been taken up by then."""


class Link:
    """Talks to the session that runs, whenever one does.

    Parameters
    ----------
    at : folder of the socket (default: the user's)
    """

    def __init__(self, at: Path | None = None) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._wanted: dict[str, Any] = {}
        self._wishes = 0
        self._events: deque[Told] = deque(maxlen=_MOST_EVENTS)
        self._pictures: deque[Picture] = deque(maxlen=_MOST_PICTURES)
        self._closed, self._wake, self._looking = (threading.Event() for _ in range(3))
        self._threads = [
            threading.Thread(target=self._ask, name="denoise link", daemon=True),
            threading.Thread(target=self._look, name="denoise pictures", daemon=True),
        ]

    def start(self) -> None:
        """Begin to talk."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both threads; what is wished for by now is still told. Safe to call twice."""
        self._closed.set()
        self._wake.set()
        self._looking.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=2.0)

    def want(self, **values: Any) -> None:
        """Have these set, newest first come last; kept until a session can be told."""
        with self._lock:
            self._wanted.update(values)
            self._wishes += 1
        self._wake.set()

    def watch(self, wanted: bool) -> None:
        """Whether pictures are of interest: nobody looks at a hidden window."""
        if wanted:
            self._looking.set()
            self._wake.set()
        else:
            self._looking.clear()
            self._pictures.clear()

    def events(self) -> list[Told]:
        """What has been told since the last call, the oldest first.

        A status from before the newest wish is left out: it would turn a switch back for a
        moment.
        """
        found = [self._events.popleft() for _ in range(len(self._events))]
        return [one for one in found if one.kind != "status" or one.wishes == self._wishes]

    def pictures(self) -> list[Picture]:
        """Pictures since the last call, the oldest first."""
        return [self._pictures.popleft() for _ in range(len(self._pictures))]

    def quit_session(self) -> None:
        """Ask the session to end; returns when it has heard."""
        with contextlib.suppress(ControlError), ControlClient(self._at, timeout_s=1.0) as client:
            client.ask(do="quit")

    def record(self, seconds: float) -> Comparison:
        """Begin to record the session's sound, before and after."""
        from app.window.comparison import Comparison  # not needed to open the window

        return Comparison(seconds, self._at)

    # The asking thread

    def _ask(self) -> None:
        while not self._closed.is_set():
            try:
                with ControlClient(self._at) as client:
                    self._converse(client)
            except ControlError as error:
                self._events.append(Told("lost", {}, str(error)))
                self._closed.wait(_RETRY_S)

    def _converse(self, client: ControlClient) -> None:
        """Ask and tell until closed, or until a wish is refused: then begin anew."""
        status_s, devices_s = 0.0, -DEVICES_HIDDEN_S
        while not self._closed.is_set() or self._wanted:
            now_s = time.monotonic()
            with self._lock:
                name = next(iter(self._wanted), None)
                wanted = {} if name is None else {name: self._wanted.pop(name)}
                others, wishes = bool(self._wanted), self._wishes
            if wanted:
                # One at a time: a name that is refused must not take a mute with it.
                try:
                    answer = client.ask(do="set", **wanted)
                except ControlError as error:
                    self._events.append(Told("refused", wanted, str(error)))
                    return
                if not others:
                    self._events.append(Told("status", answer, wishes=wishes))
                continue
            if now_s >= status_s:
                status_s = now_s + STATUS_S
                self._events.append(Told("status", client.ask(do="status"), wishes=wishes))
            every_s = DEVICES_S if self._looking.is_set() else DEVICES_HIDDEN_S
            if now_s >= devices_s + every_s:
                devices_s = now_s
                self._list_devices(client)
            self._wake.wait(max(min(status_s, devices_s + every_s) - time.monotonic(), 0.0))
            self._wake.clear()

    def _list_devices(self, client: ControlClient) -> None:
        """A sound server that is away is no reason to leave: the status tells of it."""
        with contextlib.suppress(ControlError):
            self._events.append(Told("devices", client.ask(do="devices")))

    # The watching thread

    def _look(self) -> None:
        while not self._closed.is_set():
            self._looking.wait()
            # A picture that makes no sense is treated as none: another version's, perhaps.
            with contextlib.suppress(ControlError, KeyError, TypeError, ValueError):
                self._receive()
            self._closed.wait(_RETRY_S)

    def _receive(self) -> None:
        with ControlClient(self._at) as client:
            for told in client.watch():
                if self._closed.is_set() or not self._looking.is_set():
                    return
                self._pictures.append(Picture.of(told))
