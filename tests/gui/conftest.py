"""A window without a screen, on a real control server; only the devices are said to be open."""

from __future__ import annotations

import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QLocale, QTranslator
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.service import Service, Wishes
from app.window import language
from app.window.catalogue import Catalogue
from app.window.engine_process import EngineProcess
from app.window.link import Link
from app.window.main_window import MainWindow
from app.window.settings_file import SettingsFile
from app.window.shell import Shell
from app.window.themes import Look
from app.window.tray_place import TrayPlace
from engine.control import ControlServer
from engine.denoiser import Denoiser, Knobs
from engine.devices import Device
from engine.live import Status
from engine.pipeline import Pipeline
from tests.estimators import Steady

ABOUT = {
    "input": "desk",
    "output": "Denoised Microphone",
    "model": "classic",
    "provider": "cpu",
}
STATUS = Status("running", -30.0, -40.0, 144.4, 7.25, 2, 0.9, 12.0, None)
DEVICES = [
    Device("desk", "Desk microphone", "input", True, False),
    Device("yeti", "Yeti", "input", False, False),
    Device("speakers.monitor", "Monitor of Speakers", "input", False, True),
    Device("denoise_app_microphone", "Denoised Microphone", "input", False, True),
    Device("speakers", "Speakers", "output", True, False),
]


class Session:
    """A service that answers, to be stopped and started again."""

    def __init__(self, at: Path, model: str = "classic") -> None:
        self.at, self.model = at, model
        self.start()

    def start(self) -> None:
        self.service = Service(Wishes(self.model, "cpu"), Knobs())
        self.service._about, self.service._status = {**ABOUT, "model": self.model}, STATUS
        self.server = ControlServer(self.service.answer, self.service.picture, at=self.at)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def play_tone(self, hz: float, seconds: float, gain: float) -> int:
        """Clean a tone, for pictures of it; returns how many columns that makes."""
        spec = self.service._network.spec
        steady = Steady(spec, np.full(spec.n_bins, gain, np.float32))
        frames = self.service._frames
        before = len(frames)
        pipeline = Pipeline(Denoiser(steady), spec.sample_rate, frames.append)
        time_s = np.arange(round(seconds * spec.sample_rate)) / spec.sample_rate
        pipeline.process((0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32))
        return len(frames) - before


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's is read or written, and their desktop is not asked for anything."""
    for name in ("CONFIG", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / f"xdg-{name.lower()}"))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """Devices that are said to be there; the list may be changed."""
    there = list(DEVICES)

    def find(kind: str, name: str | None) -> str:
        fitting = [one.name for one in there if one.kind == kind and name in (None, one.name)]
        if not fitting:
            from engine.errors import DeviceError

            raise DeviceError(f"no {kind} device is called {name!r}")
        return fitting[0]

    monkeypatch.setattr("engine.devices.devices", lambda: list(there))
    monkeypatch.setattr("engine.devices.find", find)
    return there


@pytest.fixture
def session(tmp_path: Path, devices: list[Device]) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.stop()


@pytest.fixture
def make_window(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], MainWindow]]:
    """Makes windows that start ``true`` for an engine: it ends at once."""
    made: list[MainWindow] = []
    monkeypatch.setattr(Catalogue, "start", lambda self: None)

    def make() -> MainWindow:
        settings = SettingsFile(tmp_path / "settings")
        window = MainWindow(Link(tmp_path), EngineProcess(tmp_path, ("true",)), settings)
        qtbot.addWidget(window)
        made.append(window)
        window.show()
        qtbot.waitExposed(window)
        return window

    yield make
    for window in made:
        window.quit()


@pytest.fixture
def window(qtbot: QtBot, session: Session, make_window: Callable[[], MainWindow]) -> MainWindow:
    """A window that has heard from the session."""
    window = make_window()
    qtbot.waitUntil(lambda: window.power.isEnabled() and window.controls.input.count() > 1)
    return window


@pytest.fixture
def spanish(qapp: QApplication) -> Iterator[None]:
    """What is made meanwhile speaks Spanish."""
    before = QLocale()
    assert language.speak(qapp, "es") == "es"
    yield
    for translator in qapp.findChildren(QTranslator):
        qapp.removeTranslator(translator)
        translator.setParent(None)
    QLocale.setDefault(before)


class Place(TrayPlace):
    """A desktop with a tray, without one, or with one that comes and goes."""

    def __init__(self, there: bool) -> None:
        super().__init__()
        self._at_first = there

    def look(self) -> None:
        self._set(self._at_first)
        self._wait_no_longer()


@pytest.fixture
def surround(qapp: QApplication) -> Iterator[Callable[[MainWindow, bool], Shell]]:
    """Ties windows to a desktop that has a tray or has none."""
    look = Look(qapp)
    yield lambda window, there: Shell(window, window._settings, Place(there), look)
    look.wear("light")
    look.deleteLater()
