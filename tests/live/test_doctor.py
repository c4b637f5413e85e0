"""The doctor on real sound servers, well ones and ones with something amiss."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.private_server import PrivateServer
from tests.live.test_end_to_end import Session, modules
from tests.onnx_models import FULLBAND, write_identity

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["pulseaudio", "pipewire"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    with PrivateServer(request.param) as started:
        started.add_microphone("room", "Room")
        yield started


def examine(server: PrivateServer, *options: str, **environment: str) -> dict[str, Any]:
    """Findings by the name of their check."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "main", "doctor", "--json", *options],
        cwd=ROOT,
        env={**server.environment, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = json.loads(done.stdout)
    assert done.returncode == (1 if told["level"] == "failure" else 0), told
    return {finding["check"]: finding for finding in told["findings"]}


def add_desk(server: PrivateServer) -> None:
    """A microphone that is no monitor, as a real one."""
    server.control("load-module", "module-remap-source", "source_name=desk", "master=room.monitor")


def defaults(server: PrivateServer) -> list[str]:
    return [line for line in server.control("info").splitlines() if line.startswith("Default S")]


def test_the_self_test_hears_itself_and_leaves_nothing(
    server: PrivateServer, tmp_path: Path
) -> None:
    """Beside a running session, which goes on."""
    add_desk(server)
    server.control("set-default-source", "desk")
    with Session(
        server, "room.monitor", "--model", str(write_identity(tmp_path / "i.onnx", FULLBAND))
    ) as session:
        session.wait_for("running")
        before, stood = modules(server), defaults(server)
        found = examine(server)
        assert modules(server) == before
        assert defaults(server) == stood
        assert session.process.poll() is None
        assert session.stop() == 0
    told = found["self-test"]
    # A loaded machine may drop some or let some through; that is a warning.
    assert told["level"] in ("ok", "warning"), told
    assert told["facts"]["suppression_db"] > 10.0
    assert told["facts"]["delay_ms"] > 20.0  # what the model alone takes
    assert isinstance(told["facts"]["drops"], int)
    if told["facts"]["uncleaned_s"] > 0:
        assert "too busy to clean" in told["says"]
    assert found["session"]["facts"]["running"] is True
    for check in ("sound server", "portaudio", "devices", "default input"):
        assert found[check]["level"] == "ok", found[check]
    said = found["sound server"]["facts"]["name"].lower()
    assert server.kind in said


def test_a_muted_microphone_and_what_a_crash_left_are_told(
    server: PrivateServer, tmp_path: Path
) -> None:
    add_desk(server)
    server.control("set-default-source", "desk")
    server.control("set-source-mute", "desk", "1")
    with Session(
        server, "room.monitor", "--model", str(write_identity(tmp_path / "i.onnx", FULLBAND))
    ) as session:
        session.wait_for("running")
        session.process.send_signal(signal.SIGKILL)
        session.process.wait(timeout=10)
    before = modules(server)
    found = examine(server, "--no-sound")
    assert modules(server) == before  # it looks, and mends nothing
    assert found["default input"]["level"] == "warning"
    assert "It is muted" in found["default input"]["says"]
    assert found["leftovers"]["facts"]["modules"] >= 2
    assert "socket" in found["session"]["says"]
    server.control("set-source-mute", "desk", "0")
    server.control("set-source-volume", "desk", "0")
    assert "volume is 0" in examine(server, "--no-sound")["default input"]["says"]


@pytest.mark.parametrize("settings", ["", "pcm.!default { type null }\n"], ids=["none", "no pulse"])
def test_without_the_plug_in_it_says_what_to_install(settings: str, tmp_path: Path) -> None:
    """Without any settings of ALSA's PortAudio even ends the process that loads it."""
    (tmp_path / "asound.conf").write_text(settings)
    with PrivateServer("pulseaudio") as server:
        found = examine(server, ALSA_CONFIG_PATH=str(tmp_path / "asound.conf"))
    assert found["portaudio"]["level"] == "failure"
    assert "libasound2-plugins" in found["portaudio"]["advice"]
    assert found["self-test"]["level"] == "failure"
    assert found["sound server"]["level"] == "ok"
    assert found["devices"]["level"] == "warning"  # monitors only
