"""The sound comes back by itself, and the user's choices with it, on real sound servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.private_server import PrivateServer
from engine.control import ControlClient
from tests.live.test_doctor import add_desk
from tests.live.test_end_to_end import Session, modules
from tests.onnx_models import FULLBAND, write_identity

pytestmark = pytest.mark.live


@pytest.fixture(params=["pulseaudio", "pipewire"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    with PrivateServer(request.param) as started:
        started.add_microphone("room", "Room")
        yield started


@pytest.fixture
def session(server: PrivateServer, tmp_path: Path) -> Iterator[Session]:
    model = write_identity(tmp_path / "identity.onnx", FULLBAND)
    with Session(server, "room.monitor", "--model", str(model)) as session:
        session.wait_for("running")
        yield session
        assert session.stop() == 0
        assert not [line for line in modules(server) if "denoise_app" in line]


def ask(server: PrivateServer) -> dict[str, Any]:
    with ControlClient(Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app") as client:
        return client.ask(do="status")


def until(
    server: PrivateServer, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = 20.0
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while not wanted(told := ask(server)):
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    return told


def is_well(told: dict[str, Any]) -> bool:
    return told["problem"] is None and told.get("state") == "running"


def default_source(server: PrivateServer) -> str:
    return server.control("get-default-source").strip()


@pytest.mark.parametrize("chosen", ["denoise_app_microphone", "desk.monitor"])
def test_a_new_server_gets_the_microphone_and_the_default(
    server: PrivateServer, session: Session, chosen: str
) -> None:
    server.add_microphone("desk", "Desk")
    server.control("set-default-source", chosen)
    time.sleep(2.0)  # for the session to have seen it
    assert default_source(server) == chosen

    server.kill()
    until(server, lambda told: told["problem"] is not None)
    time.sleep(3.0)  # away for longer than any try waits
    assert session.process.poll() is None
    server.restart()
    server.add_microphone("desk", "Desk")
    server.add_microphone("room", "Room")
    told = until(server, is_well)
    assert told["recoveries"] == 1
    assert len([line for line in modules(server) if "denoise_app" in line]) == 2
    if chosen == "denoise_app_microphone":
        assert default_source(server) == chosen
    else:
        assert not default_source(server).startswith("denoise_app")
    log = Path(server.environment["XDG_STATE_HOME"], "denoise-app", "session.log").read_text()
    assert " WARNING app.service: no sound: " in log
    assert " WARNING app.service: sound again after " in log


def test_our_microphone_is_made_again_when_somebody_unloads_it(
    server: PrivateServer, session: Session
) -> None:
    call = server.record("denoise_app_microphone")
    time.sleep(2.0)  # for the session to know of it
    for name in ("sink_name=denoise_app_sink", "source_name=denoise_app_microphone"):
        recoveries = ask(server)["recoveries"]
        (number,) = (line.split()[0] for line in modules(server) if name in line)
        server.control("unload-module", number)
        until(server, lambda told, n=recoveries: is_well(told) and told["recoveries"] > n)
        assert "Denoised Microphone" in server.control("list", "sources")
        assert len([line for line in modules(server) if "denoise_app" in line]) == 2
        # Both servers had given the call another microphone meanwhile.
        deadline = time.monotonic() + 10.0
        while recorded_by(server, "parec") != ["denoise_app_microphone"]:
            assert time.monotonic() < deadline, recorded_by(server, "parec")
            time.sleep(0.1)
        time.sleep(2.0)
    call.stop()


def recorded_by(server: PrivateServer, program: str = "") -> list[str]:
    """Names of the sources that a program records, or all that are recorded."""
    sources = {
        line.split()[0]: line.split()[1]
        for line in server.control("list", "short", "sources").splitlines()
    }
    told = server.control("list", "source-outputs").split("Source Output #")[1:]
    of_it = [block for block in told if not program or f'application.name = "{program}"' in block]
    return [sources[block.split("Source: ")[1].split()[0]] for block in of_it]


def test_a_headset_comes_back_in_another_format(server: PrivateServer, session: Session) -> None:
    """As Bluetooth does, when a call begins."""
    (number,) = (line.split()[0] for line in modules(server) if "sink_name=room " in line)
    server.control("unload-module", number)
    until(server, lambda told: told["problem"] is not None)
    assert "Denoised Microphone" in server.control("list", "sources")
    server.control(
        *("load-module", "module-null-sink", "sink_name=room", "rate=16000", "channels=1"),
        "norewinds=1",
    )
    until(server, is_well)
    assert ask(server)["input"] == "room.monitor"


def test_who_has_the_default_microphone_follows_it(server: PrivateServer, tmp_path: Path) -> None:
    server.control("set-default-source", "room.monitor")
    model = write_identity(tmp_path / "identity.onnx", FULLBAND)
    with Session(server, "", "--model", str(model)) as session:
        session.wait_for("running")
        assert ask(server)["input"] == "room.monitor"
        server.add_microphone("desk", "Desk")
        server.control("set-default-source", "desk.monitor")
        until(server, lambda told: told["input"] == "desk.monitor" and is_well(told))
        assert ask(server)["recoveries"] == 0, "nothing was lost"
        assert session.stop() == 0


def test_the_only_microphone_is_waited_for(server: PrivateServer, tmp_path: Path) -> None:
    """What the others say, in a loudspeaker's monitor, is none in its place."""
    add_desk(server)
    server.control("set-default-source", "desk")
    model = write_identity(tmp_path / "identity.onnx", FULLBAND)
    with Session(server, "", "--model", str(model)) as session:
        session.wait_for("running")
        assert ask(server)["input"] == "desk"
        time.sleep(2.0)  # for the session to have seen it
        (number,) = (line.split()[0] for line in modules(server) if "source_name=desk" in line)
        server.control("unload-module", number)
        until(server, lambda told: told["problem"] is not None)
        time.sleep(3.0)  # for longer than any try waits
        told = ask(server)
        assert "no microphone is connected" in told["problem"]
        assert "room.monitor" not in recorded_by(server)
        add_desk(server)
        assert until(server, is_well)["input"] == "desk"
        assert session.stop() == 0


def test_the_disk_of_the_log_is_full(server: PrivateServer, tmp_path: Path) -> None:
    log = Path(server.environment["XDG_STATE_HOME"], "denoise-app", "session.log")
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    model = write_identity(tmp_path / "identity.onnx", FULLBAND)
    with Session(server, "room.monitor", "--model", str(model)) as session:
        session.wait_for("running")
        (number,) = (line.split()[0] for line in modules(server) if "sink_name=room " in line)
        server.control("unload-module", number)
        until(server, lambda told: told["problem"] is not None)
        server.add_microphone("room", "Room")
        until(server, is_well)
        assert session.stop() == 0
