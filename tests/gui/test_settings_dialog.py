"""The page of settings: what is changed there holds at once and at the next start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from app.window import desktop
from app.window.main_window import MainWindow
from app.window.settings import Settings
from app.window.settings_dialog import SettingsDialog
from app.window.settings_file import SettingsFile
from app.window.shell import Shell
from app.window.shortcut import State
from tests.gui.conftest import Session

LEFT = Qt.MouseButton.LeftButton
BOX = QPoint(8, 8)


@pytest.fixture
def shell(
    qtbot: QtBot,
    session: Session,
    make_window: Callable[[], MainWindow],
    surround: Callable[[MainWindow, bool], Shell],
) -> Shell:
    shell = surround(make_window(), True)
    shell.start(minimised=False, after_ms=0)
    qtbot.waitUntil(shell._window.power.isEnabled)
    return shell


@pytest.fixture
def dialog(qtbot: QtBot, shell: Shell) -> SettingsDialog:
    """Opened as users do it."""
    qtbot.keyClick(shell._window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    assert shell.dialog is not None
    qtbot.waitUntil(shell.dialog.isVisible)
    return shell.dialog


def remembered(shell: Shell) -> Settings:
    assert shell._settings.save()
    return SettingsFile(shell._settings.path.parent).now


def choose(picker: QComboBox, value: str) -> None:
    picker.setCurrentIndex(picker.findData(value))
    picker.activated.emit(picker.currentIndex())


def test_what_is_ticked_is_remembered(qtbot: QtBot, shell: Shell, dialog: SettingsDialog) -> None:
    before = remembered(shell)
    for tick in (dialog.start_minimised, dialog.close_to_tray, dialog.notifications):
        qtbot.mouseClick(tick, LEFT, pos=BOX)
    now = remembered(shell)
    assert (now.start_minimised, now.close_to_tray, now.notifications) == (True, False, False)
    assert (before.start_minimised, before.close_to_tray, before.notifications) == (
        False,
        True,
        True,
    )
    with qtbot.waitSignal(shell._window.has_quit):
        shell._window.close()  # as it is not to go to the tray
    assert shell.dialog is None


def test_what_is_chosen_is_remembered(shell: Shell, dialog: SettingsDialog) -> None:
    for picker, value in (
        (dialog.start_on, "off"),
        (dialog.start_muted, "last"),
        (dialog.language, "es"),
    ):
        choose(picker, value)
    now = remembered(shell)
    assert (now.start_on, now.start_muted, now.language) == ("off", "last", "es")
    assert "next start" in dialog.note.text()


def test_a_look_is_worn_at_once(qtbot: QtBot, shell: Shell, dialog: SettingsDialog) -> None:
    def lightness() -> int:
        return shell._window.palette().color(shell._window.backgroundRole()).lightness()

    choose(dialog.theme, "dark")
    qtbot.waitUntil(lambda: lightness() < 60)
    choose(dialog.theme, "light")
    qtbot.waitUntil(lambda: lightness() > 200)
    assert remembered(shell).theme == "light"


def test_what_the_tray_changes_is_shown(shell: Shell, dialog: SettingsDialog) -> None:
    shell._window.take_settings(Settings(start_on="on", shortcut_keys="LOGO+n"))
    assert dialog.start_on.value == "on"
    assert dialog.keys.text() == "LOGO+n"


def test_keys_are_asked_for(qtbot: QtBot, shell: Shell, dialog: SettingsDialog) -> None:
    qtbot.waitUntil(lambda: shell.shortcut.state is State.NONE)  # there is no bus here
    assert "denoise-app toggle" in dialog.shortcut_state.text(), "it says what to do instead"
    asked = shell._asked_keys
    dialog.keys.setFocus()
    dialog.keys.selectAll()
    qtbot.keyClicks(dialog.keys, "CTRL+ALT+n")
    qtbot.keyClick(dialog.keys, Qt.Key.Key_Tab)
    assert shell._asked_keys != asked
    assert shell._asked_keys[0].wish == "CTRL+ALT+n"
    dialog.keys.setFocus()
    dialog.keys.selectAll()
    qtbot.keyClick(dialog.keys, Qt.Key.Key_Delete)
    qtbot.keyClick(dialog.keys, Qt.Key.Key_Tab)
    assert dialog.keys.text() == "CTRL+ALT+n", "no keys are none to ask for"
    qtbot.mouseClick(dialog.shortcut, LEFT, pos=BOX)
    qtbot.waitUntil(lambda: shell.shortcut.state is State.OFF)
    assert dialog.shortcut_state.text() == "Off."
    assert not dialog.keys.isEnabled()
    assert not remembered(shell).shortcut


def test_files_of_the_desktop_are_written(
    qtbot: QtBot, dialog: SettingsDialog, tmp_path: Path
) -> None:
    qtbot.mouseClick(dialog.autostart, LEFT, pos=BOX)
    qtbot.mouseClick(dialog.in_menu, LEFT, pos=BOX)
    assert desktop.autostarts()
    assert desktop.is_in_menu()
    qtbot.mouseClick(dialog.autostart, LEFT, pos=BOX)
    assert not desktop.autostarts()
    folder = tmp_path / "xdg-config" / "autostart"
    folder.rmdir()
    folder.write_text("no folder")
    qtbot.mouseClick(dialog.autostart, LEFT, pos=BOX)
    assert not dialog.autostart.isChecked()
    assert "could not be written" in dialog.note.text()


def test_diagnostics_are_copied(qtbot: QtBot, shell: Shell, dialog: SettingsDialog) -> None:
    qtbot.waitUntil(lambda: bool(shell._told) and bool(shell._devices))
    QGuiApplication.clipboard().clear()
    qtbot.mouseClick(dialog.copy, LEFT)
    words = QGuiApplication.clipboard().text()
    assert "Desk microphone (default)" in words
    assert "model: classic" in words
    assert dialog.copy.text() == "Copied"


def test_it_is_one_page_from_window_and_tray(
    qtbot: QtBot, shell: Shell, dialog: SettingsDialog
) -> None:
    shell.tray.settings.trigger()
    assert shell.dialog is dialog
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: shell.dialog is None)
    shell._window.close()
    shell.tray.settings.trigger()
    assert shell.dialog is not None
    assert shell.dialog.isVisible(), "also when the window is hidden"
    shell.dialog.reject()
    assert not shell._window.isVisible()
    qtbot.mouseClick(shell._window.settings, LEFT)
    assert shell.dialog is not None


def test_without_a_tray_nothing_is_promised(qtbot: QtBot) -> None:
    dialog = SettingsDialog(Settings(), tray=False)
    qtbot.addWidget(dialog)
    assert not dialog.close_to_tray.isEnabled()
    assert "no tray" in dialog.close_to_tray.toolTip()


@pytest.mark.parametrize("state", State)
def test_every_state_of_the_shortcut_has_words(qtbot: QtBot, state: State) -> None:
    dialog = SettingsDialog(Settings(), tray=True)
    qtbot.addWidget(dialog)
    dialog.show_shortcut(state, "Super+N")
    assert dialog.shortcut_state.text()
    assert ("Super+N" in dialog.shortcut_state.text()) is (state is State.BOUND)


def test_the_keyboard_reaches_everything_by_name(dialog: SettingsDialog) -> None:
    kinds = (QAbstractButton, QComboBox, QLineEdit)
    wanted = [
        widget
        for kind in kinds
        for widget in dialog.findChildren(kind)
        if widget.isVisibleTo(dialog) and not isinstance(widget.parent(), QComboBox)
    ]
    assert len(wanted) >= 13
    reached: set[QWidget] = set()
    at: QWidget = dialog.start_on
    for _ in range(80):
        reached.add(at)
        at = at.nextInFocusChain()
    for widget in wanted:
        assert widget.width() >= 16, "there is something to see"
        assert widget.height() >= 16
        name = widget.accessibleName() or (
            widget.text() if isinstance(widget, QAbstractButton) else ""
        )
        assert name, widget
        assert widget in reached
    keys = [
        words[words.index("&") + 1].lower()
        for words in (
            *(one.text() for one in wanted if isinstance(one, QAbstractButton)),
            *(one.text() for one in dialog.findChildren(QLabel)),
        )
        if "&" in words
    ]
    assert len(keys) == len(set(keys)), f"one key for two: {sorted(keys)}"
