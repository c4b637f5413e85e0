"""Nobody listens: the microphone is closed, and open again for whoever comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.private_server import PrivateServer, Recorder
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.listeners import Listeners
from tests.live.test_end_to_end import Session, modules
from tests.live.test_recovery import until
from tests.onnx_models import FULLBAND, write_identity

pytestmark = pytest.mark.live

VIRTUAL = "denoise_app_microphone"


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    with PrivateServer(getattr(request, "param", "pulseaudio")) as started:
        started.add_microphone("room", "Room")
        yield started


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_identity(tmp_path / "identity.onnx", FULLBAND))


def is_idle(told: dict[str, Any]) -> bool:
    return bool(told["idle"]) and told.get("state") == "idle" and told["problem"] is None


def is_awake(told: dict[str, Any]) -> bool:
    return not told["idle"] and told.get("state") == "running"


def ask(server: PrivateServer, **request: Any) -> dict[str, Any]:
    with ControlClient(Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app") as client:
        return client.ask(**request)


def recorders_of(server: PrivateServer, source: str) -> int:
    """How many streams record a source."""
    numbers = {
        line.split()[0]
        for line in server.control("list", "short", "sources").splitlines()
        if line.split()[1] == source
    }
    streams = server.control("list", "short", "source-outputs").splitlines()
    return sum(line.split()[1] in numbers for line in streams)


def players_to_us(server: PrivateServer) -> list[str]:
    """Numbers of the streams that play to the virtual microphone's sink."""
    sinks = server.control("list", "short", "sinks").splitlines()
    (ours,) = (line.split()[0] for line in sinks if line.split()[1] == "denoise_app_sink")
    streams = server.control("list", "short", "sink-inputs").splitlines()
    return [line.split()[0] for line in streams if line.split()[1] == ours]


def play_noise(server: PrivateServer) -> Any:
    noise = np.random.default_rng(3).normal(0.0, 0.1, 120 * SAMPLE_RATE).astype(np.float32)
    return server.play(noise, "room")


def wait_until_heard(call: Recorder, timeout_s: float = 20.0) -> None:
    """As loud as it was played, for a tenth of a second."""
    deadline = time.monotonic() + timeout_s
    n = SAMPLE_RATE // 10
    while len(newest := call.heard()[-n:]) < n or np.sqrt(np.mean(newest**2)) < 0.05:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("server", ["pipewire"], indirect=True)
def test_the_microphone_is_closed_until_a_call_records(server: PrivateServer, model: str) -> None:
    player = play_noise(server)
    with Session(server, "room.monitor", "--model", model, idle=True) as session:
        session.wait_for("running")
        assert recorders_of(server, "room.monitor") == 1
        (player_to_us,) = players_to_us(server)
        assert session.wait_for("idle")["idle"] is True
        assert recorders_of(server, "room.monitor") == 0
        assert players_to_us(server) == [player_to_us], "silence keeps PipeWire's sink awake"
        assert "Denoised Microphone" in server.control("list", "sources")
        call = server.record(VIRTUAL)
        wait_until_heard(call)
        told = until(server, is_awake)
        assert (told["recoveries"], told["problem"]) == (0, None)
        assert players_to_us(server) == [player_to_us], "a new one may be late or stuck"
        call.stop()
        assert session.stop() == 0
    assert not [line for line in modules(server) if "denoise_app" in line]
    player.kill()
    player.wait()


@pytest.mark.parametrize("server", ["pulseaudio", "pipewire"], indirect=True)
def test_what_goes_while_nobody_listens_is_there_for_who_comes(
    server: PrivateServer, model: str
) -> None:
    player = play_noise(server)
    with Session(server, "room.monitor", "--model", model, idle=True) as session:
        session.wait_for("running")
        # A call that comes in the very moment of going idle is heard: the microphone is closed
        # before the session says so.
        deadline = time.monotonic() + 20.0
        while recorders_of(server, "room.monitor"):
            assert time.monotonic() < deadline
        call = server.record(VIRTUAL)
        wait_until_heard(call)
        call.stop()
        until(server, is_idle)
        assert recorders_of(server, "room.monitor") == 0

        server.kill()
        player.wait()
        until(server, lambda told: told["problem"] is not None and told["idle"])
        server.restart()
        server.add_microphone("room", "Room")
        told = until(server, is_idle)
        assert told["recoveries"] == 1
        assert len([line for line in modules(server) if "denoise_app" in line]) == 2
        assert recorders_of(server, "room.monitor") == 0, "nobody listens to the new one either"
        (number,) = (line.split()[0] for line in modules(server) if "sink_name=denoise" in line)
        server.control("unload-module", number)
        until(server, lambda told: is_idle(told) and told["recoveries"] == 2)
        assert len([line for line in modules(server) if "denoise_app" in line]) == 2

        (number,) = (line.split()[0] for line in modules(server) if "sink_name=room " in line)
        server.control("unload-module", number)
        call = server.record(VIRTUAL)
        until(server, lambda told: told["problem"] is not None and not told["idle"])
        assert "Denoised Microphone" in server.control("list", "sources")
        server.add_microphone("room", "Room")
        player = play_noise(server)
        wait_until_heard(call)
        until(server, lambda told: is_awake(told) and told["problem"] is None)
        call.stop()
        assert session.stop() == 0
    player.kill()
    player.wait()


def test_who_asks_for_sound_or_hears_himself_listens(server: PrivateServer, model: str) -> None:
    with Session(server, "room.monitor", "--model", model, idle=True) as session:
        session.wait_for("idle")
        # What is wished for meanwhile is had without opening the microphone.
        server.add_microphone("desk", "Desk")
        ask(server, do="set", input="desk.monitor")
        until(server, lambda told: is_idle(told) and told["input"] == "desk.monitor")
        assert recorders_of(server, "desk.monitor") == 0

        ask(server, do="record", seconds=0.5)
        deadline = time.monotonic() + 20.0
        while ask(server, do="recorded")["share"] < 1.0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ask(server, do="set", monitor=True)
        time.sleep(6.0)  # for longer than it takes to go idle
        assert is_awake(ask(server, do="status"))
        assert session.stop() == 0


def test_listeners_are_counted_and_a_server_that_goes_makes_them_unknown(
    server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    heard: list[int | None] = []
    listeners = Listeners(lambda: heard.append(listeners.count))
    listeners.start()

    def wait_for(count: int | None) -> None:
        deadline = time.monotonic() + 20.0
        while listeners.count != count:
            assert time.monotonic() < deadline, listeners.count
            time.sleep(0.01)

    wait_for(0)
    for command in (
        "module-null-sink sink_name=denoise_app_sink",
        "module-remap-source source_name=denoise_app_microphone master=denoise_app_sink.monitor",
    ):
        server.control("load-module", *command.split())
    first = server.record(VIRTUAL)
    wait_for(1)
    second = server.record("denoise_app_sink.monitor")
    wait_for(2)
    first.stop()
    wait_for(1)
    another = server.record("room.monitor")
    second.stop()
    wait_for(0)
    server.kill()
    wait_for(None)
    another.stop()
    server.restart()
    wait_for(0)
    listeners.stop()
    assert heard == [0, 1, 2, 1, 0, None, 0]
