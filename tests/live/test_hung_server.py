"""A sound server that lives and answers nobody: real ones, stopped by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import supervision
from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.errors import ControlError, DeviceError
from engine.sound_server import SoundServer, hang_up
from tests.live.test_end_to_end import Session, modules
from tests.onnx_models import FULLBAND, write_identity

pytestmark = pytest.mark.live


@pytest.fixture(params=["pulseaudio", "pipewire"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    with PrivateServer(request.param) as started:
        started.add_microphone("room", "Room")
        try:
            yield started
        finally:
            tell(started, signal.SIGCONT)


def tell(server: PrivateServer, number: signal.Signals) -> None:
    os.killpg(server._process.pid, number)


def until(wanted: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_session_answers_and_ends_all_the_same(server: PrivateServer, tmp_path: Path) -> None:
    model = write_identity(tmp_path / "identity.onnx", FULLBAND)
    at = Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
    with Session(server, "room.monitor", "--model", str(model)) as session:
        session.wait_for("running")
        with ControlClient(at) as client:
            before = client.ask(do="devices")
            time.sleep(0.5)  # the same would be told again at once
            tell(server, signal.SIGSTOP)
            assert client.ask(do="devices") == before
            with pytest.raises(ControlError, match="does not answer"):
                client.ask(do="set", input="room.monitor")
        assert session.stop() == 0
        assert [path.name for path in at.iterdir()] == ["lock"]
    tell(server, signal.SIGCONT)
    until(lambda: not [line for line in modules(server) if "denoise_app" in line])


def test_a_session_that_is_stuck_is_told_that_the_server_has_gone(
    server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(supervision, "_STUCK_S", 0.5)

    class Stuck:
        ticked_s, stopping = 0.0, False

        def run(self) -> None:
            with SoundServer() as connection:
                assert connection.devices()
                tell(server, signal.SIGSTOP)
                connection.devices()

    stuck = Stuck()
    with pytest.raises(DeviceError, match="listing devices"):
        supervision.supervise(stuck, stuck.run)
    assert hang_up() == 0, "nothing is left to be cut"


_HANGS = """
import time
from app import supervision

class Hangs:
    ticked_s, stopping = 0.0, True

supervision._LEFT_S = 0.5
print("begun", flush=True)
supervision.supervise(Hangs(), lambda: time.sleep(100), lambda: print("freed", flush=True))
"""


def test_a_session_that_ends_in_no_way_is_left_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HANGS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["begun", "freed"]
    assert "left behind" in done.stderr
    assert done.returncode == 1
