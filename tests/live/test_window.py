"""The real window and the real engine: whichever dies, the other does what it should."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from app.private_server import PrivateServer
from engine.control import ControlClient
from engine.devices import SAMPLE_RATE
from engine.errors import ControlError
from engine.measure import level_dbfs

pytestmark = pytest.mark.live
pytest.importorskip("PySide6")

ROOT = Path(__file__).parents[2]
PART_S = 0.05


class Desk:
    """A sound server whose default microphone hears a tone, and windows on it."""

    def __init__(self, server: PrivateServer) -> None:
        self.server = server
        self.at = Path(server.environment["XDG_RUNTIME_DIR"]) / "denoise-app"
        self.windows: list[subprocess.Popen[bytes]] = []
        server.add_microphone("desk", "Desk")
        server.control("set-default-source", "desk.monitor")
        time_s = np.arange(60 * SAMPLE_RATE) / SAMPLE_RATE
        self.player = server.play(np.sin(2 * np.pi * 500 * time_s).astype(np.float32) / 4, "desk")

    def open_window(self) -> subprocess.Popen[bytes]:
        environment = {**self.server.environment, "QT_QPA_PLATFORM": "offscreen"}
        window = subprocess.Popen([sys.executable, str(ROOT / "main.py")], env=environment)
        self.windows.append(window)
        return window

    def ask(self, **request: Any) -> dict[str, Any]:
        with ControlClient(self.at) as client:
            return client.ask(**request)

    def engine(self) -> int | None:
        """The process that holds the session's lock."""
        try:
            number = int((self.at / "lock").read_text())
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return None
        except (OSError, ValueError, psutil.Error):
            return None
        return number

    def is_open(self) -> bool:
        """Whether a window listens for a second start."""
        return (self.at / "window").exists()

    def runs(self) -> bool:
        try:
            return self.ask(do="status").get("state") == "running"
        except ControlError:
            return False

    def close(self) -> None:
        for window in self.windows:
            window.kill()
            window.wait()
        engine = self.engine()
        if engine is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(engine, signal.SIGTERM)
            wait_until(lambda: self.engine() is None)
        self.player.kill()
        self.player.wait()


@pytest.fixture
def desk() -> Iterator[Desk]:
    with PrivateServer("pulseaudio") as server:
        desk = Desk(server)
        try:
            yield desk
        finally:
            desk.close()


def wait_until(so: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not so():
        assert time.monotonic() < deadline, "that never came"
        time.sleep(0.05)


def test_a_window_and_its_engine(desk: Desk) -> None:
    first = desk.open_window()
    wait_until(desk.runs)
    engine = desk.engine()
    desk.ask(do="set", on=False)  # bypassed, the tone itself is heard

    # A window that is killed takes no sound with it.
    call = desk.server.record("denoise_app_microphone")
    wait_until(lambda: call.seconds > 1.5)
    first.kill()
    killed_s = call.seconds
    first.wait()
    wait_until(lambda: call.seconds > killed_s + 1.5)
    heard = call.stop()[round(SAMPLE_RATE) :]
    parts = heard[: len(heard) // round(PART_S * SAMPLE_RATE) * round(PART_S * SAMPLE_RATE)]
    levels = [level_dbfs(part) for part in parts.reshape(-1, round(PART_S * SAMPLE_RATE))]
    assert len(levels) > 30
    assert np.median(levels) == pytest.approx(-15.0, abs=1.5)
    assert sum(level < -20 for level in levels) <= 1, "a hiccup of a busy machine at most"
    assert desk.engine() == engine

    # The next one takes it up, and starts another when it dies, as the last one was.
    (desk.at / "window").unlink(missing_ok=True)  # as it was left
    second = desk.open_window()
    wait_until(desk.is_open)
    assert second.poll() is None
    assert desk.engine() == engine
    assert engine is not None
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: desk.engine() not in (None, engine) and desk.runs())
    wait_until(lambda: desk.ask(do="status")["on"] is False)

    # Closed, it ends what a window has started.
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=10) == 0
    wait_until(lambda: desk.engine() is None, 5.0)
    assert "Denoised" not in desk.server.control("list", "sources")


def test_a_session_of_somebody_else_outlives_the_window(desk: Desk) -> None:
    with desk.server.clean("desk.monitor") as session:
        try:
            wait_until(desk.runs)
            window = desk.open_window()
            wait_until(desk.is_open)
            window.send_signal(signal.SIGTERM)
            assert window.wait(timeout=10) == 0
            time.sleep(0.5)
            assert session.poll() is None
            assert desk.runs()
        finally:
            session.terminate()
