"""A session that is opened anew again and again holds no more than before."""

from __future__ import annotations

import gc
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.live import LiveSession
from engine.network import Network
from tests.live.test_end_to_end import Session
from tests.onnx_models import FULLBAND, write_identity

pytestmark = pytest.mark.live


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    with PrivateServer("pulseaudio") as started:
        started.add_microphone("room", "Room")
        started.add_microphone("desk", "Desk")
        yield started


def held(process: int) -> tuple[int, int, int]:
    """Threads, files and memory of its own [kB] of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    files = len(os.listdir(f"/proc/{process}/fd"))
    return int(status["Threads"]), files, int(status["RssAnon"].split()[0])


def test_reopenings_leave_nothing(server: PrivateServer, tmp_path: Path) -> None:
    """With sessions that outlived their end memory grew by 0.28 MB each time."""
    model = write_identity(tmp_path / "identity.onnx", FULLBAND)
    at = Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
    with Session(server, "room.monitor", "--model", str(model)) as session:
        session.wait_for("running")
        with ControlClient(at) as client:
            inputs = ["desk.monitor", "room.monitor"] * 15
            for number, name in enumerate(inputs):
                if number == 6:
                    threads, files, memory_kb = held(session.process.pid)
                client.ask(do="set", input=name)
                deadline = time.monotonic() + 10.0
                while not is_well(told := client.ask(do="status"), name):
                    assert time.monotonic() < deadline, told
                    time.sleep(0.02)
            now = held(session.process.pid)
        assert now[:2] == (threads, files)
        assert now[2] < memory_kb + 4000  # 7.7 MB then
        assert session.stop() == 0


def is_well(told: dict[str, object], source: str) -> bool:
    return told["input"] == source and told.get("state") == "running"


def test_a_session_ends_with_its_last_reference(
    server: PrivateServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it held would stay for minutes otherwise, until the collector comes by."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    network = Network(write_identity(tmp_path / "identity.onnx", FULLBAND), provider="cpu")
    gc.collect()
    gc.disable()
    try:
        session = LiveSession(network, "room.monitor", ["speakers"])
        with session:
            assert session.wait_until_running(10.0)
        ended = weakref.ref(session)
        del session
        assert ended() is None
    finally:
        gc.enable()
