"""What the window remembers and what a new engine is made of it, on a real control server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QInputDialog, QMessageBox
from pytestqt.qtbot import QtBot

import models
from app.window.engine_process import EngineProcess, State, start_options
from app.window.link import Link
from app.window.main_window import MainWindow
from app.window.settings_file import FILE, SettingsFile
from engine.devices import Device
from tests.gui.conftest import Session

LEFT = Qt.MouseButton.LeftButton


def remembered(tmp_path: Path) -> SettingsFile:
    return SettingsFile(tmp_path / "settings")


def pick(window: MainWindow, name: str) -> None:
    picker = window.profiles.picker
    picker.setCurrentIndex(picker.findData(name))
    picker.activated.emit(picker.currentIndex())


def test_what_is_chosen_is_remembered(
    qtbot: QtBot, window: MainWindow, session: Session, tmp_path: Path
) -> None:
    window.controls.input.chosen.emit("yeti")
    window.controls.strength.setValue(20)
    qtbot.mouseClick(window.mute, LEFT)
    qtbot.waitUntil(lambda: session.service._knobs.muted)
    window.close()
    now = remembered(tmp_path).now
    assert now.current.input == "yeti"
    assert now.current.limit_db == 20.0
    assert (now.was_on, now.was_muted) == (True, True)


def test_it_is_saved_while_it_runs(qtbot: QtBot, window: MainWindow, tmp_path: Path) -> None:
    window.controls.strength.setValue(20)
    qtbot.waitUntil(lambda: remembered(tmp_path).now.current.limit_db == 20.0)


def test_what_was_refused_is_not_remembered(
    qtbot: QtBot, window: MainWindow, tmp_path: Path
) -> None:
    window.controls.model.chosen.emit("no such model")
    qtbot.waitUntil(lambda: window.banner.isVisible())
    window.close()
    assert remembered(tmp_path).now.current.model is None


def test_another_profile_is_another_session(
    qtbot: QtBot, window: MainWindow, session: Session, tmp_path: Path
) -> None:
    window.controls.input.chosen.emit("yeti")
    window.controls.strength.setValue(40)
    qtbot.waitUntil(lambda: session.service._wishes.source == "yeti")
    shown = [window.profiles.picker.itemText(at) for at in range(3)]
    assert shown == ["Home", "Office", "Train"]
    pick(window, "office")
    qtbot.waitUntil(lambda: session.service._wishes.source is None)
    qtbot.waitUntil(lambda: session.service._knobs.limit_db == 30.0)
    qtbot.waitUntil(lambda: window.controls.strength.value() == 30)
    pick(window, "home")
    qtbot.waitUntil(lambda: session.service._wishes.source == "yeti")
    qtbot.waitUntil(lambda: session.service._knobs.limit_db == 40.0)
    window.close()
    assert remembered(tmp_path).now.profile == "home"


def test_a_microphone_of_a_profile_is_awaited(
    qtbot: QtBot, window: MainWindow, session: Session, devices: list[Device], tmp_path: Path
) -> None:
    usb = Device("usb", "USB headset", "input", False, False)
    devices.append(usb)
    window.controls.input.chosen.emit("usb")
    qtbot.waitUntil(lambda: session.service._wishes.source == "usb")
    pick(window, "train")
    qtbot.waitUntil(lambda: session.service._wishes.source is None)
    devices.remove(usb)
    pick(window, "home")
    qtbot.waitUntil(lambda: window.banner.isVisible())
    assert session.service._wishes.source is None
    assert window._settings.now.current.input == "usb", "it is still the profile's"
    devices.append(usb)
    qtbot.waitUntil(lambda: session.service._wishes.source == "usb", timeout=8000)


def test_what_was_picked_long_ago_is_not_taken_back(
    qtbot: QtBot, window: MainWindow, session: Session, devices: list[Device]
) -> None:
    """A profile's device that is refused stays the profile's, whatever was picked before."""
    usb = Device("usb", "USB headset", "input", False, False)
    devices.append(usb)
    window.controls.input.chosen.emit("yeti")
    window.controls.input.chosen.emit("usb")
    qtbot.waitUntil(lambda: session.service._wishes.source == "usb")
    pick(window, "train")
    window.controls.input.chosen.emit("yeti")
    qtbot.waitUntil(lambda: session.service._wishes.source == "yeti")
    devices.remove(usb)
    pick(window, "home")
    qtbot.waitUntil(lambda: window._awaited == {"input": "usb"})
    assert window._settings.now.current.input == "usb"
    assert window._settings.now.in_use("train").current.input == "yeti"


def test_profiles_are_added_renamed_and_deleted(
    qtbot: QtBot, window: MainWindow, session: Session, tmp_path: Path
) -> None:
    bar = window.profiles
    window.controls.strength.setValue(40)

    def type_name(name: str) -> None:
        dialog = bar.dialog
        assert isinstance(dialog, QInputDialog)
        qtbot.waitUntil(dialog.isVisible)
        dialog.setTextValue("")
        qtbot.keyClicks(dialog.focusWidget(), name)
        qtbot.keyClick(dialog.focusWidget(), Qt.Key.Key_Return)

    bar.add.trigger()
    type_name("Boat")
    assert bar.picker.currentText() == "Boat"
    assert window._settings.now.current.limit_db == 40.0
    bar.rename.trigger()
    type_name("Ship")
    assert bar.picker.currentText() == "Ship"
    bar.rename.trigger()
    type_name("train")
    assert isinstance(bar.dialog, QMessageBox), "there is one of that name"
    bar.dialog.accept()
    assert bar.picker.currentText() == "Ship"
    bar.delete.trigger()
    asked = bar.dialog
    assert isinstance(asked, QMessageBox)
    qtbot.waitUntil(asked.isVisible)
    assert "Ship" in asked.text()
    qtbot.keyClick(asked, Qt.Key.Key_Escape)
    assert bar.picker.currentText() == "Ship"
    bar.delete.trigger()
    next(one for one in bar.dialog.buttons() if "Delete" in one.text()).click()
    assert bar.picker.currentText() == "Home"
    window.close()
    assert [one.name for one in remembered(tmp_path).now.profiles] == ["home", "office", "train"]


@pytest.fixture
def engine_that_tells(tmp_path: Path) -> tuple[tuple[str, ...], Path]:
    """Ends at once like one whose microphone is missing; what it was started with is in a file."""
    told = tmp_path / "started"
    program = f"import sys, json; open({str(told)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')"
    return (sys.executable, "-c", program), told


def test_an_engine_is_started_as_remembered(
    qtbot: QtBot,
    tmp_path: Path,
    engine_that_tells: tuple[tuple[str, ...], Path],
    devices: list[Device],
) -> None:
    """And when it does not start like that, with devices that are there; those are awaited."""
    command, told = engine_that_tells
    file = remembered(tmp_path)
    file.take(file.now.with_wishes({"input": "yeti", "model": "classic", "limit_db": 20.0}))
    file.change(start_on="off", start_muted="yes")
    window = MainWindow(Link(tmp_path), EngineProcess(tmp_path, command), file)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: told.exists() and len(told.read_text().splitlines()) >= 3)
    starts = [json.loads(line) for line in told.read_text().splitlines()[:3]]
    assert starts == [
        ["--device=yeti", "--model=classic", "--limit=20", "--json"],
        ["--device=", "--model=classic", "--limit=20", "--json"],
        ["--device=", f"--model={models.DEFAULT}", "--limit=20", "--json"],
    ]
    session = Session(tmp_path, models.DEFAULT)
    try:
        qtbot.waitUntil(lambda: session.service._knobs.muted)
        assert session.service._knobs.bypass
        qtbot.waitUntil(lambda: session.service._wishes.source == "yeti", timeout=8000)
        qtbot.waitUntil(lambda: session.service._wishes.model == "classic")
        assert window._settings.now.current.input == "yeti"
    finally:
        session.stop()


def test_somebody_elses_session_is_left_as_it_is(
    qtbot: QtBot, session: Session, tmp_path: Path, make_window: Callable[[], MainWindow]
) -> None:
    file = remembered(tmp_path)
    file.take(file.now.with_wishes({"input": "yeti", "limit_db": 20.0}))
    file.change(start_on="off", start_muted="yes")
    assert file.save()
    window = make_window()
    qtbot.waitUntil(window.power.isEnabled)
    qtbot.waitUntil(lambda: window.controls.input.count() > 1)
    assert session.service._wishes.source is None
    assert not session.service._knobs.bypass
    assert not session.service._knobs.muted


def test_tries_are_few_and_different() -> None:
    assert len(start_options({})) == 1
    assert len(start_options({"output": "speakers"})) == 2
    assert len(start_options({"input": "a", "model": "m"})) == 3


def test_an_engine_that_answered_is_started_as_wished(tmp_path: Path) -> None:
    """Only one that never answered is a reason to try something else."""
    engine = EngineProcess(tmp_path, ("true",))
    first, second = ("--device=a",), ("--device=",)
    assert engine.look(False, first, second) is State.STARTING
    assert engine._process is not None
    engine._process.wait()
    engine.look(True, first, second)
    engine.look(False, first, second)
    assert (engine.starts, engine.choice) == (2, 0)
    engine._process.wait()
    while engine.starts < 3:
        engine.look(False, first, second)
    assert engine.choice == 1
    engine._process.wait()


def test_a_damaged_file_is_told(
    qtbot: QtBot, session: Session, tmp_path: Path, make_window: Callable[[], MainWindow]
) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / FILE).write_text("{garbage")
    window = make_window()
    qtbot.waitUntil(lambda: window.banner.isVisible())
    assert "settings.damaged-1.json" in window.banner.text()
    qtbot.waitUntil(window.power.isEnabled)
