"""A machine whose processors are all taken says so, and not for a moment's work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

from app.fullness import Fullness


class Machine:
    """Two processors, of which a share is taken."""

    def __init__(self) -> None:
        self.now_s, self.spent = 50.0, {"user": 0.0, "nice": 0.0, "idle": 0.0, "guest": 0.0}
        self.fullness = Fullness(lambda: self.now_s, self._times)

    def _times(self):
        class Times(SimpleNamespace):
            def __iter__(self):
                return iter(vars(self).values())

        return Times(**self.spent)

    def pass_(self, seconds: float, **shares: float) -> float:
        for _ in range(round(2 * seconds)):
            self.now_s += 0.5
            for name, share in shares.items():
                self.spent[name] += 2 * 0.5 * share
            share = self.fullness.share()
        return share


def test_it_takes_seconds_to_be_full_and_to_be_free():
    machine = Machine()
    assert machine.pass_(3.0, user=1.0) < 0.5
    assert machine.pass_(12.0, user=1.0) > 0.9
    assert machine.pass_(3.0, idle=1.0) > 0.5
    assert machine.pass_(20.0, idle=1.0) < 0.05


def test_a_half_is_a_half():
    assert 0.49 < Machine().pass_(60.0, user=0.5, idle=0.5) < 0.51


def test_what_gives_way_and_what_guests_run_does_not_count_twice():
    assert Machine().pass_(60.0, nice=1.0) == 0.0
    # Linux counts a guest's time as user's too.
    assert 0.49 < Machine().pass_(60.0, user=0.5, guest=0.5, idle=0.5) < 0.51


def test_a_clock_that_stands_still_changes_nothing():
    machine = Machine()
    machine.now_s += 10.0
    assert machine.fullness.share() == 0.0


def test_a_full_machine_is_seen():
    fullness = Fullness()
    spin = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)]
    try:
        deadline = time.monotonic() + 60.0
        while fullness.share() < 0.85:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        for process in busy:
            process.kill()
            process.wait()
