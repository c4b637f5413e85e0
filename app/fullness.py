"""How full the machine is. Not here: how busy we are ourselves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import psutil

# Anything takes all processors for a second or two.
_MEAN_S = 5.0
_LOOK_S = 0.5


class Fullness:
    """Share of all processors that is taken, by others and us, in the mean of some seconds.

    What runs only when nothing else wants to (nice) does not count. The kernel's pressure stall
    information does not tell this: with one process for each processor it says 3 % to 40 %.

    Parameters
    ----------
    clock : [s]
    times : processor times since the start, as psutil has them
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        times: Callable[[], Any] = psutil.cpu_times,
    ) -> None:
        self._clock, self._times = clock, times
        self._share = 0.0
        self._looked_s, self._before = clock(), self._read()

    def share(self) -> float:
        """0 to 1; call it once a second or so."""
        now_s = self._clock()
        elapsed_s = now_s - self._looked_s
        if elapsed_s >= _LOOK_S:
            (free, all_), before = self._read(), self._before
            self._looked_s, self._before = now_s, (free, all_)
            if all_ > before[1]:
                taken = 1.0 - (free - before[0]) / (all_ - before[1])
                self._share += (1.0 - math.exp(-elapsed_s / _MEAN_S)) * (taken - self._share)
        return self._share

    def _read(self) -> tuple[float, float]:
        """Free and all processor time since the start [s]."""
        told = self._times()
        free = sum(getattr(told, name, 0.0) for name in ("idle", "iowait", "nice"))
        # What guests run is in user and nice already.
        guests = getattr(told, "guest", 0.0) + getattr(told, "guest_nice", 0.0)
        return free, sum(told) - guests
