"""Notices that the sound of a session has died, and says when the next try is due.

Knows clocks and callbacks only. Not here: opening and closing (``service``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

TICK_S = 0.1
"""How often ``Watch.look`` wants to be called."""

# With what silence counts as one and the ticks between, a dead device is noticed in a second.
_SILENT_S = 0.2
_DEAD_S = 0.7
# A device that was just opened may take its time (Bluetooth: one to two seconds).
_NEW_S = 2.0
# What clocks drift apart by themselves is much less.
_SLEPT_S = 2.0


class Watched(Protocol):
    """What a session tells of its devices."""

    def lost(self) -> str | None:
        """Name of a device whose stream has ended by itself."""

    def silent_s(self) -> float:
        """How long the device that called least recently is silent [s]; infinite: ever."""


class Watch:
    """Watches one session after the other.

    Parameters
    ----------
    clock : seconds that pass while the machine is awake
    slept : seconds that passed while it was not, from any beginning
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        slept: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._slept = slept or _slept_s
        self.begin()

    def begin(self) -> None:
        """Forget what was; a new session has been opened."""
        self._looked_s = self._clock()
        self._slept_s = self._slept()
        self._silence_s = 0.0
        self._patience_s = _NEW_S

    def look(self, session: Watched) -> str | None:
        """Why the session must be opened anew, or None."""
        now, slept_s = self._clock(), self._slept()
        # Time in which nobody looked is no silence: the process may have been stopped. What
        # lives calls again at once when it goes on.
        passed_s = min(now - self._looked_s, 2.0 * TICK_S)
        self._looked_s = now
        if abs(slept_s - self._slept_s) > _SLEPT_S:
            self._slept_s = slept_s
            return "the machine has slept"
        lost = session.lost()
        if lost is not None:
            return f"{lost} has gone away"
        if session.silent_s() < _SILENT_S:
            self._silence_s, self._patience_s = 0.0, _DEAD_S
            return None
        self._silence_s += passed_s
        if self._silence_s < self._patience_s:
            return None
        return "a device delivers nothing"

    @property
    def hears(self) -> bool:
        """Whether every device of the session has called by the last look."""
        return self._silence_s == 0.0 and self._patience_s == _DEAD_S


class Patience:
    """How long to wait before the next try: short at first, then longer.

    >>> patience = Patience()
    >>> [round(patience.next_s(), 1) for _ in range(6)]
    [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    """

    # Whoever comes back after minutes must be heard within 3 s.
    _FIRST_S, _LONGEST_S = 0.1, 1.0

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A try has succeeded."""
        self._wait_s = self._FIRST_S

    def next_s(self) -> float:
        """A try has failed: wait this long [s]."""
        wait_s = self._wait_s
        self._wait_s = min(2.0 * wait_s, self._LONGEST_S)
        return wait_s


def _slept_s() -> float:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.time() - time.monotonic()  # moved by setting the clock as well: no harm done
