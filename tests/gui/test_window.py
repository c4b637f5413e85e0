"""The window, clicked and typed on, against a real control server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QAbstractButton, QComboBox, QSlider, QWidget
from pytestqt.qtbot import QtBot

from app.window.main_window import HIDDEN_MS, PULL_MS, MainWindow
from engine.devices import Device
from tests.gui.conftest import Session

CARD = {
    "name": "classic",
    "version": "3",
    "sample_rate": 11025,
    "latency_ms": 92.9,
    "megabytes": 11.2,
    "licence": "MIT",
    "description": "The classic.",
}
LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier


def test_it_shows_how_the_session_does(window: MainWindow) -> None:
    assert window.power.isChecked()
    assert not window.mute.isChecked()
    assert window.figures["delay"].text() == "Delay 144 ms"
    assert window.figures["cpu"].text() == "CPU 7.3 %"
    assert window.figures["drops"].text() == "Drops 2"
    assert window.figures["provider"].text() == "Runs on CPU"
    assert "Denoised Microphone" in window.state.text()
    assert window.banner.isHidden()


def test_a_click_turns_it_off_and_on(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    qtbot.mouseClick(window.power, LEFT)
    qtbot.waitUntil(lambda: session.service._knobs.bypass)
    qtbot.mouseClick(window.power, LEFT)
    qtbot.waitUntil(lambda: not session.service._knobs.bypass)
    assert window.power.isChecked()


@pytest.mark.parametrize(
    ("key", "modifier"),
    [(Qt.Key.Key_Space, PLAIN), (Qt.Key.Key_T, CONTROL)],
)
def test_keys_turn_it_off(
    qtbot: QtBot, window: MainWindow, session: Session, key: Qt.Key, modifier: Qt.KeyboardModifier
) -> None:
    window.activateWindow()
    window.power.setFocus()
    qtbot.waitUntil(window.power.hasFocus)
    qtbot.keyClick(window.power, key, modifier)
    qtbot.waitUntil(lambda: session.service._knobs.bypass)
    assert not window.power.isChecked()


def test_mute_by_click_and_by_key(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    qtbot.mouseClick(window.mute, LEFT)
    qtbot.waitUntil(lambda: session.service._knobs.muted)
    assert window.mute.accessibleDescription() == "Muted: Nobody hears you"
    assert window.power.accessibleDescription() == "On: Nobody hears you at the moment"
    qtbot.keyClick(window, Qt.Key.Key_M, CONTROL)
    qtbot.waitUntil(lambda: not session.service._knobs.muted)
    assert window.power.accessibleDescription() == "On: Noise is taken out of your voice"


def test_what_others_turn_is_shown(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    session.service.answer({"do": "set", "on": False, "limit_db": 20.0, "monitor": True})
    qtbot.waitUntil(lambda: not window.power.isChecked())
    assert window.controls.strength.value() == 20
    assert window.controls.monitor.isChecked()


def test_the_slider_is_the_limit(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    window.controls.strength.setFocus()
    qtbot.keyClick(window.controls.strength, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: session.service._knobs.limit_db == 0.0)
    for _ in range(2):
        qtbot.keyClick(window.controls.strength, Qt.Key.Key_PageUp)
    qtbot.waitUntil(lambda: session.service._knobs.limit_db == 20.0)
    assert window.controls.strength.accessibleName() == "Strength: 20 dB: balanced"


def test_a_microphone_is_picked(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    picker = window.controls.input
    told = [picker.itemText(at) for at in range(picker.count())]
    assert told == ["Default: Desk microphone", "Desk microphone", "Yeti", "Monitor of Speakers"]
    assert picker.value is None, "what is the default counts as a wish for the default"
    qtbot.keyClicks(picker, "Yet")
    picker.activated.emit(picker.currentIndex())
    qtbot.waitUntil(lambda: session.service._wishes.source == "yeti")
    session.service._about["input"] = "yeti"
    qtbot.wait(1200)
    assert picker.currentText() == "Yeti"


def test_outputs_and_models_are_picked(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    window.controls.output.chosen.emit("speakers")
    qtbot.waitUntil(lambda: session.service._wishes.output == "speakers")
    window.controls.output.chosen.emit(None)
    qtbot.waitUntil(lambda: session.service._wishes.output is None)
    assert window.controls.model.currentText() == "classic", "nothing more is known of it yet"
    window._catalogue.cards = [CARD]
    qtbot.waitUntil(lambda: "93 ms" in window.controls.model.currentText())
    assert window.controls.model.currentText() == "classic  (93 ms, up to 5.5 kHz)"
    window.controls.model.chosen.emit("no such model")
    qtbot.waitUntil(lambda: window.banner.isVisible())
    assert "no such model" in window.banner.text()
    assert window.controls.model.value == "classic"
    qtbot.mouseClick(window.controls.monitor, LEFT, pos=QPoint(8, 8))
    qtbot.waitUntil(lambda: session.service._wishes.monitor)


def test_plugging_in_is_seen(qtbot: QtBot, window: MainWindow, devices: list[Device]) -> None:
    devices.append(Device("usb", "USB headset", "input", False, False))
    qtbot.waitUntil(lambda: window.controls.input.findText("USB headset") > 0, timeout=4000)
    devices.pop()
    qtbot.waitUntil(lambda: window.controls.input.findText("USB headset") < 0, timeout=4000)


def test_pictures_arrive_where_they_belong(
    qtbot: QtBot, window: MainWindow, session: Session
) -> None:
    before, after = window.pictures.before, window.pictures.after
    with qtbot.waitSignal(window._timer.timeout):
        session.play_tone(1000.0, 1.5, 0.1)
    qtbot.waitUntil(lambda: before.colour_at(0.3, 1000.0).lightness() > 150)
    column_s = session.service._network.spec.hop_s
    for picture, least in ((before, 150), (after, 90)):
        tone = picture.colour_at(5 * column_s, 1000.0).lightness()
        assert tone > least
        for hz in (500.0, 2000.0):
            assert picture.colour_at(5 * column_s, hz).lightness() < 20
    assert (
        after.colour_at(5 * column_s, 1000.0).lightness()
        < before.colour_at(5 * column_s, 1000.0).lightness()
    )
    assert window.pictures.input_level.peak_dbfs == pytest.approx(-9.0, abs=2.5)
    assert window.pictures.output_level.peak_dbfs == pytest.approx(-29.0, abs=2.5)
    assert window.pictures.gain._gain_db[:100] == pytest.approx(-20.0, abs=0.5)


def test_pictures_are_paused(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    qtbot.keyClick(window, Qt.Key.Key_P, CONTROL)
    qtbot.waitUntil(lambda: window.pause.isChecked())
    session.play_tone(1000.0, 1.0, 1.0)
    qtbot.waitUntil(lambda: window.pictures.input_level.peak_dbfs > -20)
    assert window.pictures.before.colour_at(0.2, 1000.0).lightness() < 20
    qtbot.mouseClick(window.pause, LEFT)
    session.play_tone(1000.0, 1.0, 1.0)
    qtbot.waitUntil(lambda: window.pictures.before.colour_at(0.2, 1000.0).lightness() > 150)


def test_an_engine_that_ends_is_told_and_found_again(
    qtbot: QtBot, window: MainWindow, session: Session
) -> None:
    qtbot.mouseClick(window.mute, LEFT)
    qtbot.waitUntil(lambda: session.service._knobs.muted)
    qtbot.waitUntil(lambda: bool(window._told.get("muted")))
    session.stop()
    qtbot.waitUntil(lambda: window.banner.isVisible())
    assert window.banner.text().startswith("The engine ended; starting it again")
    assert not window.power.isEnabled()
    qtbot.waitUntil(lambda: window._engine.starts >= 2, timeout=4000)
    session.start()
    qtbot.waitUntil(window.power.isEnabled)
    qtbot.waitUntil(lambda: session.service._knobs.muted), "nobody is unmuted by an accident"
    assert window.mute.isChecked()


def test_what_is_wrong_is_shown(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    session.service._problem = "no input device fits 'yeti'"
    qtbot.waitUntil(lambda: window.banner.isVisible())
    assert window.banner.text() == "Trying again: no input device fits 'yeti'"
    session.service._problem = None
    qtbot.waitUntil(lambda: window.banner.isHidden())


def test_another_model_that_cleans_for_a_while_is_told_and_not_wished_for(
    qtbot: QtBot, window: MainWindow, session: Session
) -> None:
    about = session.service._about
    session.service._about = {**about, "model": "classic", "model_wanted": "fullband"}
    session.service._spare.overload = "machine"
    qtbot.waitUntil(lambda: window.banner.isVisible())
    assert window.banner.text() == (
        "fullband is too much for this machine at the moment: classic cleans instead"
    )
    window.controls.show_models([{**CARD, "name": name} for name in ("classic", "fullband")])
    qtbot.waitUntil(lambda: window._wished["model"] == "fullband")
    assert window.controls.model.value == "fullband"
    session.service._about, session.service._spare.overload = about, None
    qtbot.waitUntil(lambda: window.banner.isHidden())


def test_hidden_it_does_not_watch(qtbot: QtBot, window: MainWindow, session: Session) -> None:
    def watchers() -> int:
        return sum(client.watches for client in session.server._clients)

    qtbot.waitUntil(lambda: watchers() == 1)
    assert window._timer.interval() == PULL_MS
    window.hide()
    qtbot.waitUntil(lambda: watchers() == 0)
    assert window._timer.interval() == HIDDEN_MS
    window.show()
    qtbot.waitUntil(lambda: watchers() == 1)
    window.showMinimized()
    qtbot.waitUntil(lambda: watchers() == 0)


def test_closing_ends_only_what_a_window_started(
    qtbot: QtBot, window: MainWindow, session: Session, make_window: Callable[[], MainWindow]
) -> None:
    window.close()
    assert not session.service._stopping
    another = make_window()
    qtbot.waitUntil(another.power.isEnabled)
    (session.at / "window-started").write_text((session.at / "lock").read_text())
    another.close()
    assert session.service._stopping


def test_the_help_page_is_shown_once(
    qtbot: QtBot, window: MainWindow, make_window: Callable[[], MainWindow]
) -> None:
    window.explain_once()
    page = window._help.page.toPlainText()
    assert window._help.isVisible()
    for word in ("Zoom", "Meet", "Teams", "Discord", "OBS", "Denoised Microphone"):
        assert word in page
    window._help.reject()
    another = make_window()
    another.explain_once()
    assert not hasattr(another, "_help")
    qtbot.mouseClick(another.help, LEFT)
    assert another._help.isVisible()
    another._help.accept()


def test_the_keyboard_reaches_everything_by_name(window: MainWindow) -> None:
    kinds = (QAbstractButton, QComboBox, QSlider)
    wanted = [
        widget
        for kind in kinds
        for widget in window.findChildren(kind)
        if widget.isVisibleTo(window) and not isinstance(widget.parent(), QComboBox)
    ]
    assert len(wanted) >= 8
    for widget in wanted:
        name = widget.accessibleName() or (
            widget.text() if isinstance(widget, QAbstractButton) else ""
        )
        assert name, widget
    reached: set[QWidget] = set()
    at = window.power
    for _ in range(60):
        reached.add(at)
        at = at.nextInFocusChain()
    for widget in wanted:
        assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus, widget
        assert widget in reached


def test_what_others_send_is_cleaned_too(
    qtbot: QtBot, window: MainWindow, session: Session
) -> None:
    switch, hint = window.controls.speakers, window.controls.speakers_hint
    assert not switch.isChecked()
    assert hint.isHidden()
    qtbot.mouseClick(switch, LEFT, pos=QPoint(8, 8))
    qtbot.waitUntil(lambda: session.service.speakers.wishes.on)
    qtbot.waitUntil(lambda: not hint.isHidden())
    assert "Denoised Speakers" in hint.text()
    assert window._settings.now.current.speakers, "the next start is as this one"
    session.service.speakers._problem = "no output device fits 'ears'"
    qtbot.waitUntil(lambda: window.banner.isVisible())
    assert window.banner.text().endswith("not clean at the moment: no output device fits 'ears'")
    session.service.speakers._problem = None
    qtbot.keyClick(window, Qt.Key.Key_O, CONTROL)
    qtbot.waitUntil(lambda: not session.service.speakers.wishes.on)
    qtbot.waitUntil(hint.isHidden)


def test_our_own_devices_are_not_offered_as_microphones(
    qtbot: QtBot, window: MainWindow, devices: list[Device]
) -> None:
    devices.append(Device("denoise_app_speakers.monitor", "Monitor of ours", "input", False, True))
    devices.append(Device("usb", "USB headset", "input", False, False))
    qtbot.waitUntil(lambda: window.controls.input.findText("USB headset") > 0, timeout=4000)
    assert window.controls.input.findText("Monitor of ours") < 0
