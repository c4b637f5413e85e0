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
from tests.screen import screen
from tests.tones import Tone

pytestmark = pytest.mark.live
pytest.importorskip("PySide6")

ROOT = Path(__file__).parents[2]
PART_S = 0.05


class DrivenWindow:
    """The real window on a display, clicked and typed on: see ``driven_window``."""

    def __init__(self, environment: dict[str, str], display: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.driven_window"],
            cwd=ROOT,
            env={**environment, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, *words: str) -> str:
        """Have it do something; returns what it tells."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\t".join(words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        with self.process:  # closes the pipes
            pass


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

    def command(self, *words: str) -> None:
        """Run the program as a shell would."""
        command = [sys.executable, str(ROOT / "main.py"), *words]
        subprocess.run(command, env=self.server.environment, check=True, capture_output=True)

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

    def heard_dbfs(self) -> float:
        """Level of half a second that a call app records now."""
        call = self.server.record("denoise_app_microphone")
        deadline = time.monotonic() + 5.0
        while call.seconds < 1.0 and time.monotonic() < deadline:
            time.sleep(0.02)
        heard = call.stop()[SAMPLE_RATE // 2 :]
        return level_dbfs(heard) if len(heard) else -120.0

    def until_heard(self, dbfs: float) -> None:
        """Wait until the call is that loud."""
        levels: list[float] = []
        deadline = time.monotonic() + 30
        while not levels or abs(levels[-1] - dbfs) > 1.5:
            assert time.monotonic() < deadline, levels
            levels.append(self.heard_dbfs())

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


def test_a_call_is_steered_from_everywhere(desk: Desk) -> None:
    """On a display, with a second microphone whose tone is 15 dB quieter."""
    desk.server.add_microphone("headset", "Headset")
    quiet = Tone(desk.server, "headset", 0.25 * 10 ** (-15 / 20))
    with contextlib.ExitStack() as stack:
        stack.callback(quiet.stop)
        display = stack.enter_context(screen())
        window = DrivenWindow(desk.server.environment, display)
        stack.callback(lambda: window.end())
        wait_until(desk.runs)
        engine = desk.engine()

        # Off, by whatever there is, the tone is heard as it is.
        def is_on(on: bool) -> bool:
            return desk.ask(do="status")["on"] is on and window.do("tell", "power") == str(on)

        wait_until(lambda: window.do("click", "power") == "done")
        wait_until(lambda: is_on(False))
        assert window.do("tray", "power") == "done"
        wait_until(lambda: is_on(True))
        wait_until(lambda: window.do("key", "Ctrl+T") == "done")
        wait_until(lambda: is_on(False))
        desk.command("toggle")
        wait_until(lambda: is_on(True))
        window.do("click", "power")
        desk.until_heard(-15.0)
        window.do("tray", "mute")
        desk.until_heard(-120.0)
        window.do("click", "mute")
        desk.until_heard(-15.0)

        # Another microphone while it runs; it is unplugged and plugged in again.
        wait_until(lambda: window.do("pick", "input", "headset.monitor") == "picked")
        desk.until_heard(-30.0)
        quiet.stop()
        (module,) = (
            line.split()[0]
            for line in desk.server.control("list", "short", "modules").splitlines()
            if "sink_name=headset " in line
        )
        desk.server.control("unload-module", module)
        wait_until(lambda: desk.ask(do="status")["problem"] is not None)
        wait_until(lambda: "headset" in window.do("tell", "banner"))
        assert desk.engine() == engine
        assert "Denoised Microphone" in desk.server.control("list", "sources")
        desk.server.add_microphone("headset", "Headset")
        quiet = Tone(desk.server, "headset", 0.25 * 10 ** (-15 / 20))
        stack.callback(quiet.stop)
        desk.until_heard(-30.0)
        wait_until(lambda: window.do("tell", "banner") == "")

        # The engine dies: another is as it was.
        assert engine is not None
        os.kill(engine, signal.SIGKILL)
        wait_until(lambda: desk.engine() not in (None, engine) and desk.runs())
        desk.until_heard(-30.0)
        assert desk.ask(do="status")["input"] == "headset.monitor"

        # The window dies: the call goes on, and the next window takes it up.
        engine = desk.engine()
        window.end()
        desk.until_heard(-30.0)
        (desk.at / "window").unlink(missing_ok=True)  # as it was left
        window = DrivenWindow(desk.server.environment, display)
        wait_until(lambda: window.do("tell", "power") == "False")
        assert desk.engine() == engine

        # Closed where there is no tray, it ends what a window has started.
        window.do("close")
        assert window.process.wait(timeout=20) == 0
        wait_until(lambda: desk.engine() is None)
        assert "Denoised" not in desk.server.control("list", "sources")
