"""How full the machine is. Not here: how busy we are ourselves."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_TOLD = Path("/proc/pressure/cpu")


def pressure(told: Path = _TOLD) -> float:
    """Share of the last 10 s in which something had to wait for a processor, 0 to 1.

    By the kernel's pressure stall information; where a system has none, by how many more want to
    run than there are processors, in the mean of the last minute.
    """
    try:
        for word in told.read_text().split():
            if word.startswith("avg10="):
                return float(word.removeprefix("avg10=")) / 100.0
    except (OSError, ValueError):
        pass
    wanting, there = psutil.getloadavg()[0], os.cpu_count() or 1
    return max(0.0, 1.0 - there / wanting) if wanting > 0.0 else 0.0
