"""Keys from the desktop, asked for on a real bus of a portal that is a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.window.main_window import MainWindow
from app.window.shell import Shell
from app.window.shortcut import GlobalShortcut, Key, State
from tests.gui.conftest import Session

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("dbus-daemon") is None,
    reason="there is no D-Bus here",
)
KEYS = (Key("toggle", "Turn cleaning on and off", "CTRL+ALT+d"), Key("mute", "Mute"))


class Portal:
    """The process, what it says, and a way to press its keys."""

    def __init__(self, answer: str) -> None:
        script = Path(__file__).with_name("portal.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), answer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.said.extend(line.strip() for line in self._process.stdout)

    def press(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def bus(_apart: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A session's bus of our own."""
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert daemon.stdout is not None
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", daemon.stdout.readline().strip())
    yield
    daemon.terminate()
    daemon.wait()
    daemon.stdout.close()


@pytest.fixture
def start_portal(bus: None) -> Iterator[Callable[[str], Portal]]:
    started: list[Portal] = []

    def start(answer: str = "allow") -> Portal:
        started.append(Portal(answer))
        return started[-1]

    yield start
    for portal in started:
        portal.end()


@pytest.fixture
def shortcut(qtbot: QtBot, bus: None) -> Iterator[GlobalShortcut]:
    shortcut = GlobalShortcut()
    yield shortcut
    shortcut.stop()
    assert not [one for one in threading.enumerate() if one.name == "denoise shortcut"]


def test_a_key_is_had_and_pressed(
    qtbot: QtBot, shortcut: GlobalShortcut, start_portal: Callable[..., Portal]
) -> None:
    portal = start_portal()
    shortcut.start(KEYS)
    qtbot.waitUntil(lambda: shortcut.state is State.BOUND)
    assert shortcut.words == "<CTRL+ALT+d>"
    assert portal.said == [
        "registered denoise-app",
        "bind toggle CTRL+ALT+d Turn cleaning on and off",
        "bind mute - Mute",
    ]
    pressed: list[str] = []
    shortcut.pressed.connect(pressed.append)
    portal.press("toggle")
    portal.press("mute")
    qtbot.waitUntil(lambda: len(pressed) == 2)
    assert pressed == ["toggle", "mute"], "and nothing of somebody else's session"
    portal.press("rename Super+N")
    qtbot.waitUntil(lambda: shortcut.words == "Super+N")
    portal.press("close")
    qtbot.waitUntil(lambda: shortcut.state is State.REFUSED)
    portal.press("toggle")
    shortcut.stop()
    assert shortcut.state is State.OFF
    assert len(pressed) == 2


def test_a_user_who_says_no_is_heard(
    qtbot: QtBot, shortcut: GlobalShortcut, start_portal: Callable[..., Portal]
) -> None:
    start_portal("deny")
    shortcut.start(KEYS)
    qtbot.waitUntil(lambda: shortcut.state is State.REFUSED)


def test_without_a_portal_there_are_no_keys(qtbot: QtBot, shortcut: GlobalShortcut) -> None:
    shortcut.start(KEYS)
    qtbot.waitUntil(lambda: shortcut.state is State.NONE)


def test_without_a_bus_there_are_no_keys(qtbot: QtBot) -> None:
    shortcut = GlobalShortcut()
    shortcut.start(KEYS)
    qtbot.waitUntil(lambda: shortcut.state is State.NONE)
    shortcut.stop()


def test_a_portal_that_is_started_again_is_asked_again(
    qtbot: QtBot, shortcut: GlobalShortcut, start_portal: Callable[..., Portal]
) -> None:
    first = start_portal()
    shortcut.start(KEYS)
    qtbot.waitUntil(lambda: shortcut.state is State.BOUND)
    first.end()
    qtbot.waitUntil(lambda: shortcut.state is State.NONE)
    second = start_portal()
    qtbot.waitUntil(lambda: shortcut.state is State.BOUND)
    with qtbot.waitSignal(shortcut.pressed):
        second.press("toggle")


def test_a_pressed_key_toggles_the_session(
    qtbot: QtBot,
    start_portal: Callable[..., Portal],
    session: Session,
    make_window: Callable[[], MainWindow],
    surround: Callable[[MainWindow, bool], Shell],
) -> None:
    portal = start_portal()
    shell = surround(make_window(), True)
    shell.start(minimised=False, after_ms=0)
    qtbot.waitUntil(lambda: shell.shortcut.state is State.BOUND)
    qtbot.waitUntil(lambda: bool(shell._told))
    shell._window.close()  # to the tray
    portal.press("toggle")
    qtbot.waitUntil(lambda: session.service._knobs.bypass)
    portal.press("toggle")
    qtbot.waitUntil(lambda: not session.service._knobs.bypass)
    portal.press("mute")
    qtbot.waitUntil(lambda: session.service._knobs.muted)
    shell._window.take_settings(shell._settings.now)
    shell._settings.change(shortcut=False)
    shell._follow_settings()
    assert shell.shortcut.state is State.OFF
