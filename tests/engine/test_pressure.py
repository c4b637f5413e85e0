"""A machine whose processors are all taken says so."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from engine import pressure as room
from engine.pressure import pressure


def test_it_is_what_the_kernel_tells(tmp_path):
    told = tmp_path / "cpu"
    told.write_text("some avg10=12.50 avg60=3.00 avg300=1.00 total=7\nfull avg10=0.00 total=0\n")
    assert pressure(told) == 0.125


@pytest.mark.parametrize("text", [None, "", "some avg10=much"])
def test_elsewhere_it_is_what_more_want_than_there_are(tmp_path, monkeypatch, text):
    told = tmp_path / "cpu"
    if text is not None:
        told.write_text(text)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(room.psutil, "getloadavg", lambda: (8.0, 1.0, 1.0))
    assert pressure(told) == 0.5
    monkeypatch.setattr(room.psutil, "getloadavg", lambda: (0.0, 1.0, 1.0))
    assert pressure(told) == 0.0


@pytest.mark.skipif(not room._TOLD.exists(), reason="this kernel does not tell of pressure")
def test_a_full_machine_is_seen():
    spin = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        deadline = time.monotonic() + 30.0
        while pressure() < 0.5:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        for process in busy:
            process.kill()
            process.wait()
