"""The real program in the tray of a panel, on a display, a bus and a sound server of our own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.live import test_window
from tests.live.test_window import ROOT, Desk, DrivenWindow, wait_until
from tests.screen import screen

pytestmark = pytest.mark.live
desk = test_window.desk


class Process:
    """A program that says "ready" and then answers each line by one, or never."""

    def __init__(self, environment: dict[str, str], *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self._read()

    def end(self) -> None:
        self._process.kill()
        with self._process:
            pass


@contextlib.contextmanager
def bus() -> Iterator[str]:
    """Address of a session's bus."""
    command = ["dbus-daemon", "--session", "--nofork", "--print-address=1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as daemon:
        assert daemon.stdout is not None
        try:
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


def test_from_the_tray_and_by_a_key(desk: Desk) -> None:
    environment = desk.server.environment
    with contextlib.ExitStack() as stack:
        display = environment["DISPLAY"] = stack.enter_context(screen())
        environment["DBUS_SESSION_BUS_ADDRESS"] = stack.enter_context(bus())
        panel = Process(environment, "-m", "tests.live.panel")
        stack.callback(panel.end)
        portal = Process(environment, "tests/gui/portal.py", "allow")
        stack.callback(portal.end)
        window = DrivenWindow(environment, display)
        stack.callback(window.end)
        wait_until(desk.runs)

        def says(words: str) -> bool:
            return words in panel.ask("tooltip")

        # Closed, it goes on in the tray, and says so.
        wait_until(lambda: says("Noise is taken out"))
        labels = panel.ask("labels")
        for label in ("Open the window", "Mute", "Gentle", "Office", "Settings…", "Quit"):
            assert label in labels
        window.do("close")
        wait_until(lambda: "The window is here" in panel.ask("notices"))
        assert window.do("tell", "power") == "True", "the process lives"
        engine = desk.engine()

        # By the tray, by a key of the desktop's, and by the command line.
        assert panel.ask("click Take noise out") == "done"
        wait_until(lambda: desk.ask(do="status")["on"] is False and says("goes through as it is"))
        desk.until_heard(-15.0)
        portal.tell("toggle")
        wait_until(lambda: desk.ask(do="status")["on"] is True and says("Noise is taken out"))
        desk.command("toggle")
        wait_until(lambda: says("goes through as it is"))
        assert panel.ask("click Mute") == "done"
        wait_until(lambda: says("Muted"))
        desk.until_heard(-120.0)
        portal.tell("mute")
        desk.until_heard(-15.0)
        assert panel.ask("click Gentle") == "done"
        wait_until(lambda: desk.ask(do="status")["limit_db"] == 12.0)
        assert panel.ask("click Office") == "done"
        wait_until(lambda: desk.ask(do="status")["limit_db"] == 30.0)

        # A microphone that comes is told, and the window comes back by a click or a second start.
        desk.server.control(
            "load-module", "module-pipe-source", "source_name=usb", f"file={desk.at}/pipe",
            "source_properties='device.description=\"USB headset\"'",
        )  # fmt: skip
        wait_until(lambda: "New device: USB headset" in panel.ask("notices"), 30.0)
        for come in (
            lambda: panel.ask("activate"),
            lambda: subprocess.run(
                [sys.executable, str(ROOT / "main.py")], env=environment, timeout=60, check=True
            ),
        ):
            window.do("close")
            assert window.do("tell", "visible") == "False"
            come()
            wait_until(lambda: window.do("tell", "visible") == "True")
        assert desk.engine() == engine

        assert panel.ask("click Quit") == "done"
        assert window.process.wait(timeout=20) == 0
        wait_until(lambda: desk.engine() is None)
        assert "Denoised" not in desk.server.control("list", "sources")


def test_started_hidden_before_the_panel_is_up(desk: Desk) -> None:
    """As at log-in, where panels are often slower."""
    environment = desk.server.environment
    with contextlib.ExitStack() as stack:
        environment["DISPLAY"] = stack.enter_context(screen())
        environment["QT_QPA_PLATFORM"] = "xcb"
        environment["DBUS_SESSION_BUS_ADDRESS"] = stack.enter_context(bus())
        command = [sys.executable, str(ROOT / "main.py"), "--minimised"]
        window = stack.enter_context(subprocess.Popen(command, env=environment))
        stack.callback(window.kill)
        wait_until(desk.runs)
        wait_until(desk.is_open)
        panel = Process(environment, "-m", "tests.live.panel")
        stack.callback(panel.end)
        wait_until(lambda: "Noise is taken out" in panel.ask("tooltip"))
        assert panel.ask("click Quit") == "done"
        assert window.wait(timeout=20) == 0
        wait_until(lambda: desk.engine() is None)
