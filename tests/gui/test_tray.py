"""The tray's menu as a user clicks it, closing to the tray, and what the desktop is told."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QSystemTrayIcon
from pytestqt.qtbot import QtBot

from app.cli import build_parser, main
from app.idle import Rest
from app.window import desktop, icons
from app.window.icons import SIZES, Sound
from app.window.instance import Instance
from app.window.main_window import MainWindow
from app.window.notices import DeviceNotices
from app.window.settings_file import SettingsFile
from app.window.shell import Shell
from engine.devices import Device
from tests.gui.conftest import Session


@pytest.fixture
def make_shell(
    qtbot: QtBot,
    session: Session,
    make_window: Callable[[], MainWindow],
    surround: Callable[[MainWindow, bool], Shell],
) -> Callable[[bool], Shell]:
    def make(there: bool) -> Shell:
        window = make_window()
        shell = surround(window, there)
        shell.start(minimised=False, after_ms=0)
        qtbot.waitUntil(window.power.isEnabled)
        return shell

    return make


@pytest.fixture
def shell(make_shell: Callable[[bool], Shell]) -> Shell:
    return make_shell(True)


def test_toggle_and_mute_by_the_tray(qtbot: QtBot, shell: Shell, session: Session) -> None:
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.ON)
    assert shell.tray.power.isChecked()
    shell.tray.power.trigger()
    qtbot.waitUntil(lambda: session.service._knobs.bypass)
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.OFF)
    assert not shell._window.power.isChecked(), "the window shows it too"
    shell.tray.mute.trigger()
    qtbot.waitUntil(lambda: session.service._knobs.muted)
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.MUTED)
    shell.tray.mute.trigger()
    shell.tray.power.trigger()
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.ON)
    assert not session.service._knobs.muted
    assert not session.service._knobs.bypass


def test_that_the_microphone_is_closed_is_told(
    qtbot: QtBot, shell: Shell, session: Session
) -> None:
    words = "Nobody listens: the microphone is off"
    icon = shell.tray.icon
    assert icon is not None
    assert words not in icon.toolTip()
    session.service._rest = Rest()
    qtbot.waitUntil(lambda: words in icon.toolTip() and shell._window.state.text() == words)
    assert shell.tray.sound is Sound.ON, "noise is taken out for whoever comes"
    session.service._rest = None
    qtbot.waitUntil(lambda: words not in icon.toolTip() and shell._window.state.text() != words)


def test_window_and_tray_turn_the_same_switch(qtbot: QtBot, shell: Shell, session: Session) -> None:
    """A click there and one here at once: neither waits for what the session tells."""
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.ON)
    window = shell._window
    window.power.click()
    shell.tray.power.trigger()
    assert (window.power.isChecked(), shell.tray.power.isChecked()) == (True, True)
    window.mute.click()
    shell.tray.power.trigger()
    window.power.click()
    shell.tray.power.trigger()
    qtbot.waitUntil(lambda: session.service._knobs.bypass and session.service._knobs.muted)
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.MUTED)
    assert not window.power.isChecked()


def test_a_middle_click_mutes(qtbot: QtBot, shell: Shell, session: Session) -> None:
    qtbot.waitUntil(shell.tray.mute.isEnabled)
    assert shell.tray.icon is not None
    shell.tray.icon.activated.emit(QSystemTrayIcon.ActivationReason.MiddleClick)
    qtbot.waitUntil(lambda: session.service._knobs.muted)


def test_what_others_turn_is_shown(qtbot: QtBot, shell: Shell, session: Session) -> None:
    session.service.answer({"do": "set", "on": False, "limit_db": 12.0})
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.OFF)
    checked = [action.isChecked() for action in shell.tray._presets.actions()]
    assert checked == [True, False, False]
    session.service.answer({"do": "set", "limit_db": 55.0})
    qtbot.waitUntil(lambda: not any(one.isChecked() for one in shell.tray._presets.actions()))
    session.stop()
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.NONE)
    assert not shell.tray.power.isEnabled()


def test_strength_and_profiles_by_the_tray(qtbot: QtBot, shell: Shell, session: Session) -> None:
    qtbot.waitUntil(shell.tray.power.isEnabled)
    shell.tray._presets.actions()[0].trigger()
    qtbot.waitUntil(lambda: session.service._knobs.limit_db == 12.0)
    assert shell._settings.now.current.limit_db == 12.0
    office = next(one for one in shell.tray.profiles.actions() if one.text() == "Office")
    office.trigger()
    qtbot.waitUntil(lambda: session.service._knobs.limit_db == 30.0)
    assert shell._window.profiles.picker.currentText() == "Office"
    shell._window.take_settings(shell._settings.now.added("R&D"))
    assert [one.text() for one in shell.tray.profiles.actions()][-1] == "R&&D"
    assert [one.isChecked() for one in shell.tray.profiles.actions()] == [False] * 3 + [True]


def test_closed_to_the_tray_the_sound_goes_on(qtbot: QtBot, shell: Shell, session: Session) -> None:
    window = shell._window
    (session.at / "window-started").write_text((session.at / "lock").read_text())
    window.close()
    assert not window.isVisible()
    assert not session.service._stopping
    assert "The window is here" in shell.tray.last_told
    shell.tray.last_told = ""
    shell.tray.power.trigger()
    qtbot.waitUntil(lambda: session.service._knobs.bypass)
    shell.tray.open.trigger()
    qtbot.waitUntil(window.isVisible)
    window.close()
    assert not window.isVisible()
    assert not shell.tray.last_told, "it is told once"
    with qtbot.waitSignal(window.has_quit):
        shell.tray.quit.trigger()
    assert session.service._stopping
    assert shell.tray.icon is None


def test_without_a_tray_closing_is_the_end(
    qtbot: QtBot, make_shell: Callable[[bool], Shell], session: Session
) -> None:
    shell = make_shell(False)
    (session.at / "window-started").write_text((session.at / "lock").read_text())
    assert shell.tray.icon is None
    with qtbot.waitSignal(shell._window.has_quit):
        shell._window.close()
    assert session.service._stopping


def test_who_does_not_want_the_tray_is_not_kept_there(
    qtbot: QtBot, shell: Shell, session: Session
) -> None:
    shell._settings.change(close_to_tray=False)
    with qtbot.waitSignal(shell._window.has_quit):
        shell._window.close()


def test_a_tray_that_goes_gives_the_window_back(qtbot: QtBot, shell: Shell) -> None:
    shell._window.close()
    assert not shell._window.isVisible()
    shell._place._set(False)
    qtbot.waitUntil(shell._window.isVisible)
    assert shell._window.isMinimized()
    shell._place._set(True)
    shell.come_forward()
    assert not shell._window.isMinimized()


@pytest.mark.parametrize("there", [True, False])
def test_it_starts_hidden_where_it_can_be_found(
    qtbot: QtBot,
    session: Session,
    make_window: Callable[[], MainWindow],
    surround: Callable[[MainWindow, bool], Shell],
    there: bool,
) -> None:
    window = make_window()
    window.hide()
    shell = surround(window, there)
    shell.start(minimised=True)
    assert window.isVisible() is not there
    assert window.isMinimized() is not there
    qtbot.waitUntil(lambda: shell.tray.sound is Sound.ON)


# What is told of devices


def as_told(*devices: tuple[str, str, bool]) -> list[dict[str, Any]]:
    return [
        Device(name, words, "input", False, virtual).as_dict() for name, words, virtual in devices
    ]


DESK, YETI = ("desk", "Desk microphone", False), ("yeti", "Yeti", False)


def test_devices_that_come_and_go_are_told(qapp: object) -> None:
    notices = DeviceNotices()
    assert notices.hear_devices(as_told(DESK)) == "", "what is there at first is no news"
    assert notices.hear_devices(as_told(DESK, YETI, ("m", "Monitor", True))) == "New device: Yeti"
    assert notices.hear_devices(as_told(DESK)) == "", "it may be back at once"
    assert notices.hear_devices(as_told(DESK, YETI)) == ""
    assert notices.hear_devices(as_told(DESK)) == ""
    assert notices.hear_devices(as_told(DESK)) == "Device gone: Yeti"
    assert notices.hear_devices(as_told(DESK)) == ""
    assert notices.hear_devices(as_told(DESK, YETI)) == "New device: Yeti"


def test_the_sessions_own_microphone_is_told(qapp: object) -> None:
    notices = DeviceNotices()
    notices.hear_devices(as_told(DESK, YETI))
    fine: dict[str, Any] = {"problem": None, "input": "yeti"}
    lost = {"problem": "no input device fits 'yeti'", "input": "desk"}
    told = [notices.hear_status(one) for one in (fine, lost, lost, fine, fine)]
    assert told == ["", "Lost: no input device fits 'yeti'", "", "Found again: Yeti", ""]


def test_a_notification_comes_of_it(
    qtbot: QtBot, shell: Shell, session: Session, devices: list[Device]
) -> None:
    shell._window.close()
    qtbot.waitUntil(lambda: shell._notices._known is not None, timeout=10_000)
    devices.append(Device("usb", "USB headset", "input", False, False))
    qtbot.waitUntil(lambda: shell.tray.last_told == "New device: USB headset", timeout=20_000)
    shell.tray.last_told = ""
    shell._tell("New device: USB headset")
    assert not shell.tray.last_told, "not again within the minute"
    shell._settings.change(notifications=False)
    session.service._problem = "gone"
    qtbot.waitUntil(lambda: shell._window._told.get("problem") == "gone", timeout=10_000)
    assert not shell.tray.last_told


# Drawn icons


def test_icons_differ_in_form_and_not_only_in_colour(qapp: object) -> None:
    for size in SIZES[:4]:
        greys = {}
        for sound in Sound:
            image = icons.pixmap(sound, size).toImage()
            assert image.pixelColor(0, 0).alpha() == 0
            points = [(x, y) for x in range(size) for y in range(size)]
            greys[sound] = tuple(image.pixelColor(x, y).lightness() > 200 for x, y in points)
        assert len(set(greys.values())) == len(Sound), size


# One window


def test_a_second_start_calls_the_first_window(qtbot: QtBot, tmp_path: Path) -> None:
    first = Instance(tmp_path)
    assert first.take()
    assert not Instance(tmp_path).take()
    (tmp_path / "window").write_text("left over")
    assert first.listen()
    program = (
        "import pathlib, sys; from app.window.instance import Instance; "
        f"sys.exit(Instance(pathlib.Path({str(tmp_path)!r})).call('token of the desktop'))"
    )
    root = Path(__file__).parents[2]
    with (
        qtbot.waitSignal(first.called, timeout=30_000) as called,
        subprocess.Popen([sys.executable, "-c", program], cwd=root) as caller,
    ):
        qtbot.waitUntil(lambda: caller.poll() is not None, timeout=30_000)
    assert called.args == ["token of the desktop"]
    assert caller.returncode == 1, "it was heard"
    first.leave()
    second = Instance(tmp_path)
    assert second.take()
    second.leave()


def test_a_window_that_was_killed_leaves_its_place(tmp_path: Path) -> None:
    program = (
        "import os, pathlib; from app.window.instance import Instance; "
        f"assert Instance(pathlib.Path({str(tmp_path)!r})).take(); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, check=False)
    assert done.returncode == -9
    assert Instance(tmp_path).take()


# What the desktop is told


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def entry(path: Path) -> dict[str, str]:
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] == "[Desktop Entry]"
    return dict(line.split("=", 1) for line in lines[1:])


def test_it_is_started_at_log_in(home: Path) -> None:
    assert not desktop.autostarts()
    desktop.set_autostart(True)
    path = home / "config" / "autostart" / "denoise-app.desktop"
    told = entry(path)
    assert told["Type"] == "Application"
    words = shlex.split(told["Exec"])
    assert words[0] == sys.executable
    assert Path(words[1]).is_file()
    assert build_parser().parse_args(words[2:]).minimised
    assert desktop.autostarts()
    path.write_text(path.read_text() + "Hidden=true\n")  # as desktops switch it off
    assert not desktop.autostarts()
    desktop.set_autostart(True)
    assert desktop.autostarts()
    desktop.set_autostart(False)
    assert not path.exists()
    desktop.set_autostart(False)
    assert [one.name for one in path.parent.iterdir()] == []


def test_it_is_put_into_the_menu(home: Path, qapp: object) -> None:
    desktop.set_in_menu(True)
    assert desktop.is_in_menu()
    told = entry(home / "data" / "applications" / "denoise-app.desktop")
    assert "--minimised" not in told["Exec"]
    picture = home / "data" / "icons" / "hicolor" / "256x256" / "apps" / f"{told['Icon']}.png"
    assert picture.stat().st_size > 1000
    desktop.set_in_menu(False)
    assert not desktop.is_in_menu()
    assert not picture.exists()


def test_a_folder_that_cannot_be_written_is_told(home: Path) -> None:
    (home / "config").write_text("a file")
    with pytest.raises(OSError, match=r"."):
        desktop.set_autostart(True)
    assert not desktop.autostarts()


def test_a_hidden_start_is_the_windows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        main(["--minimised", "--device"])
    assert "for the window alone" in capsys.readouterr().err
    started: list[bool] = []
    monkeypatch.setenv("DISPLAY", ":1")
    monkeypatch.setattr("app.window.beginning.begin", lambda: None)
    monkeypatch.setattr(
        "app.window.opening.open_window", lambda minimised, *_: started.append(minimised) or 0
    )
    assert main(["--minimised"]) == 0
    assert started == [True]


def test_settings_of_the_start_are_kept(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path)
    file.change(start_minimised=True, close_to_tray=False)
    file.save()
    assert SettingsFile(tmp_path).now.start_minimised
