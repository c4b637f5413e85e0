"""PortAudio finds a sound server that came after it; streams that cannot start do not hold us."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from app.private_server import PrivateServer
from engine import devices
from engine.errors import DeviceError

ROOT = Path(__file__).parents[2]

# A process of its own: PortAudio starts once, with the first import.
LATE = """
import sys
from engine import devices
from engine.errors import DeviceError

def call(*_): pass

try:
    devices.open_input("room.monitor", call)
except DeviceError as error:
    print(error, flush=True)
census = devices.Census()
try:
    census.devices()
except DeviceError as error:
    print(error, flush=True)
sys.stdin.readline()
stream = devices.open_input("room.monitor", call)
print(stream.active, [one.name for one in census.devices() if one.kind == "input"], flush=True)
try:
    devices.open_input("nowhere", call)
except DeviceError as error:
    print(error)
print(stream.active)
devices.close(stream)
"""


@pytest.mark.live
def test_a_server_that_comes_late_is_found() -> None:
    with PrivateServer("pulseaudio") as server:
        server.kill()
        with subprocess.Popen(
            [sys.executable, "-c", LATE],
            env={**server.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert "cannot be opened" in process.stdout.readline()
                assert "no sound server answers" in process.stdout.readline()
                server.restart()
                server.add_microphone("room", "Room")
                process.stdin.write("\n")
                process.stdin.flush()
                said = process.stdout.read().splitlines()
                assert said[0].startswith("True [")
                assert "'room.monitor'" in said[0]
                # One that fails for another reason leaves those that run alone.
                assert said[1].startswith("nowhere cannot be opened")
                assert said[2:] == ["True"]
                assert process.wait(timeout=10) == 0
            finally:
                process.kill()


class Stuck:
    """A stream that PortAudio never starts: its own thread ended with the lock in its hand."""

    closed = False

    def __init__(self, **_: Any) -> None:
        self.never = threading.Event()

    def start(self) -> None:
        self.never.wait(5.0)

    def close(self, ignore_errors: bool) -> None:
        raise AssertionError("closing it would wait for good")


def test_a_stream_that_never_starts_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_sound_server", lambda: False)
    monkeypatch.setattr(devices, "_START_S", 0.05)
    monkeypatch.setitem(devices._STREAMS, "input", (Stuck, "PULSE_SOURCE", devices.CAPTURE_BLOCK))
    try:
        with pytest.raises(DeviceError, match="left behind"):
            devices.open_input("microphone", lambda *_: None)
        assert not devices._renew(), "PortAudio would wait for it"
        assert not devices._ONE_AT_A_TIME.locked()
    finally:
        devices._opened.pop(devices._stuck.pop())
