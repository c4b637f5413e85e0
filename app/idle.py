"""When a session may rest, its microphone closed because nobody listens, and what it tells then.

Knows numbers and clocks only. Not here: who listens (``engine.listeners``), opening and closing
(``service``).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.live import Status
from engine.measure import dbfs

IDLE_WORDS = "idle: nobody listens, so the microphone is closed"

# Calls hang up and are taken up again; devices that go off and on with them help nobody.
_QUIET_S = 5.0
# A connection that broke is had again sooner, if the sound server lives.
_UNKNOWN_S = 3.0


class Idleness:
    """Rests after five seconds without listeners, and never while it is not known who listens.

    Parameters
    ----------
    clock : [s]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s: float | None = None  # when the last listener was seen to have gone
        self._known_s = float("-inf")
        self.rests = False

    def look(self, listeners: int | None, others: bool) -> bool:
        """Whether to rest; call it some times a second, and when listeners come.

        Parameters
        ----------
        listeners : how many record the virtual microphone; None: not known
        others : whether somebody listens in another way
        """
        now_s = self._clock()
        if listeners is not None:
            self._known_s = now_s
        known = listeners is not None or (self.rests and now_s <= self._known_s + _UNKNOWN_S)
        if listeners or others or not known:
            self._since_s = None
            self.rests = False
        elif not self.rests:
            if self._since_s is None:
                self._since_s = now_s
            self.rests = now_s >= self._since_s + _QUIET_S
        return self.rests

    def stay(self) -> None:
        """Do not rest yet: the sound is away, and it is to be seen that it comes back."""
        self._since_s = None
        self.rests = False


class Rest:
    """A time in which nobody listens."""

    def __init__(self) -> None:
        self._since_s = self._told_s = time.monotonic()
        self._cpu_s = time.process_time()

    def status(self) -> Status:
        """As a session's; the processor's share is of the time since the last call."""
        now_s, cpu_s = time.monotonic(), time.process_time()
        share = (cpu_s - self._cpu_s) / max(now_s - self._told_s, 1e-6)
        self._told_s, self._cpu_s = now_s, cpu_s
        return Status(
            state="idle",
            input_dbfs=dbfs(0.0),
            output_dbfs=dbfs(0.0),
            delay_ms=None,
            cpu_percent=100.0 * share,
            drops=0,
            speech=0.0,
            seconds=now_s - self._since_s,
            fault=None,
        )
