"""Errors that nobody caught, and the report that is sent to who helps."""

from __future__ import annotations

import getpass
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest
from PySide6.QtCore import QTimer, qWarning
from PySide6.QtWidgets import QApplication, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from app import log
from app.window import diagnostics, mishaps
from app.window.diagnostics import Seen, last_errors, report, without_names
from app.window.mishaps import Mishaps
from app.window.settings import Settings


@pytest.fixture
def taken(qtbot: QtBot) -> Iterator[Mishaps]:
    """What nobody catches goes there, from here on, and into the window's log."""
    copied: list[bool] = []
    taken = Mishaps(lambda: copied.append(True))
    taken.copied = copied  # type: ignore[attr-defined]
    with log.kept(log.WINDOW), taken.caught():
        yield taken
    if taken.dialog is not None:
        taken.dialog.close()


def kept() -> str:
    return log.path(log.WINDOW).read_text()


def fail(words: str) -> None:
    raise ArithmeticError(words)


def test_an_error_in_a_slot_is_told_and_the_window_goes_on(qtbot: QtBot, taken: Mishaps) -> None:
    QTimer.singleShot(0, lambda: fail("of a slot"))
    qtbot.waitUntil(lambda: taken.dialog is not None)
    dialog = taken.dialog
    assert dialog is not None
    qtbot.waitUntil(dialog.isVisible)
    assert "Your sound goes on" in dialog.text()
    assert dialog.detailedText() == "ArithmeticError: of a slot"
    assert "Traceback" in kept()
    assert "ArithmeticError: of a slot" in kept()
    copy = next(one for one in dialog.findChildren(QPushButton) if "diagnostics" in one.text())
    copy.click()
    assert taken.copied == [True]  # type: ignore[attr-defined]
    assert dialog.isVisible(), "there is more to do in it"
    dialog.button(QMessageBox.StandardButton.Close).click()
    qtbot.waitUntil(lambda: taken.dialog is None)


def test_a_flood_is_one_dialog_and_few_lines(qtbot: QtBot, taken: Mishaps) -> None:
    timer = QTimer()
    timer.timeout.connect(lambda: fail("again and again"))
    timer.start(0)
    qtbot.waitUntil(lambda: max(taken._counts.values(), default=0) >= 200)
    timer.stop()
    shown = [one for one in QApplication.topLevelWidgets() if isinstance(one, QMessageBox)]
    assert [one for one in shown if one.isVisible()] == [taken.dialog]
    lines = [line for line in kept().splitlines() if " CRITICAL " in line]
    # The first, the tenth, the hundredth, and on a quick machine the thousandth.
    assert len(lines) == len(str(max(taken._counts.values())))
    assert taken.dialog is not None
    taken.dialog.close()
    qtbot.waitUntil(lambda: taken.dialog is None)
    QTimer.singleShot(0, lambda: {}["another place"])
    qtbot.waitUntil(lambda: "KeyError: 'another place'" in kept())
    qtbot.wait(50)
    assert taken.dialog is None, "who has just read one is left alone for a while"


def test_an_error_of_a_thread_is_told_in_the_windows(qtbot: QtBot, taken: Mishaps) -> None:
    thread = threading.Thread(target=lambda: fail("of a thread"))
    thread.start()
    thread.join()
    qtbot.waitUntil(lambda: taken.dialog is not None)
    assert "of a thread" in kept()


def test_who_interrupts_is_obeyed(taken: Mishaps, capsys: pytest.CaptureFixture[str]) -> None:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert taken.dialog is None
    assert not log.path(log.WINDOW).exists()
    assert "KeyboardInterrupt" in capsys.readouterr().err


def test_errors_from_everywhere_do_not_fill_the_memory(
    taken: Mishaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mishaps, "_MOST_PLACES", 5)
    for at in range(20):
        kind = type(f"Error{at}", (Exception,), {})
        sys.excepthook(kind, kind("x"), None)
    assert len(taken._counts) == 5


def test_what_qt_complains_about_is_kept(taken: Mishaps) -> None:
    qWarning("a plug is missing")
    qWarning("This plugin does not support propagateSizeHints()")
    assert kept().count("WARNING qt: a plug is missing") == 1
    assert "propagate" not in kept()


def test_a_full_disk_under_the_log_hurts_nothing(
    qtbot: QtBot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = log.path(log.WINDOW)
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    taken = Mishaps(lambda: None)
    with log.kept(log.WINDOW), taken.caught():
        QTimer.singleShot(0, lambda: fail("of a slot"))
        qtbot.waitUntil(lambda: taken.dialog is not None)
        assert taken.dialog is not None
        taken.dialog.close()
    assert "No space left" not in capsys.readouterr().err
    assert last_errors(log.WINDOW) == []


# The report


def seen(**values: object) -> Seen:
    told = {"state": "running", "model": "classic", "provider": "cpu", "delay_ms": 144.4}
    devices = [
        {"kind": "input", "name": "alsa.usb-SERIAL", "description": "Yeti", "default": True},
        {"kind": "output", "name": "x", "description": "Speakers", "virtual": True},
    ]
    found = {
        "told": told,
        "devices": devices,
        "settings": Settings(),
        "engine_starts": 2,
        "engine_words": "no such microphone",
        "tray": True,
        "shortcut": "bound Super+N",
    }
    return Seen(**{**found, **values})  # type: ignore[arg-type]


def test_the_report_says_what_helps(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_SERVER", "unix:/nonexistent")
    with log.kept(log.WINDOW):
        logging.getLogger("app").info("nothing of note")
        logging.getLogger("app").warning("the sound server went")
        try:
            fail("of the program")
        except ArithmeticError:
            logging.getLogger("app").exception("not caught")
    with log.kept(log.SESSION):
        logging.getLogger("app").error("overrun")
    words = report(seen())
    for expected in (
        f"Python {sys.version.split()[0]}",
        f"ONNX Runtime {onnxruntime.__version__}",
        "Qt platform offscreen, tray yes",
        "Sound server no sound server answers",
        "Global shortcut: bound Super+N",
        "last words: no such microphone",
        "provider: cpu",
        "input: Yeti (default)",
        "output: Speakers (virtual)",
        "WARNING app: the sound server went",
        "ArithmeticError: of the program",
        "ERROR app: overrun",
    ):
        assert expected in words
    assert "nothing of note" not in words
    assert "SERIAL" not in words
    assert "no session answers" in report(seen(told={}))


def test_a_sound_server_that_hangs_does_not_hang_the_report(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "_PATIENCE_S", 0.2)
    at = str(tmp_path / "pulse")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(at)
        mute.listen()
        monkeypatch.setenv("PULSE_SERVER", f"unix:{at}")
        assert "Sound server does not answer" in report(seen())
    for thread in threading.enumerate():
        if thread.name == "denoise diagnostics":
            thread.join(10.0)
            assert not thread.is_alive(), "it ends with the server"


def test_nothing_private_is_in_it(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_SERVER", "unix:/nonexistent")
    monkeypatch.setenv("HOME", "/ho" + "me/adalovelace")
    monkeypatch.setenv("LOGNAME", "adalovelace")
    monkeypatch.setattr(socket, "gethostname", lambda: "enigma.bletchley.example")
    assert getpass.getuser() == "adalovelace"
    private = (
        "model /ho" + "me/adalovelace/m.onnx of Adalovelace's on ENIGMA: "
        "cannot open /ho" + "me/charles/x, C:\\Us" + "ers\\ada\\y; "
        "bluez_input.AC_12_34_56_78_9F alsa_input.usb-Yeti_S3R1AL-00.analog-stereo "
        "enigma.bletchley.example aa:bb:cc:dd:ee:ff, enigmatic"
    )
    with log.kept(log.WINDOW):
        logging.getLogger("app").error(private)
    device = {"kind": "input", "name": "x", "description": "Adalovelace's AirPods"}
    words = report(seen(engine_words=private, devices=[device]))
    for secret in (
        "adalovelace",
        "charles",
        "\\ada",
        "bletchley",
        "34_56",
        "cc:dd",
        "S3R1AL",
        "ENIGMA:",
    ):
        assert secret.lower() not in words.lower(), secret
    assert "model ~/m.onnx of (user)'s on (host): cannot open ~/x" in words
    assert "alsa_input.(device) (host)" in words
    assert "enigmatic" in words, "words that only begin alike are left"
    assert "(user)'s AirPods" in words


def test_names_of_one_letter_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "a")
    monkeypatch.setattr(socket, "gethostname", lambda: "x")
    assert without_names("a device of class x") == "a device of class x"


def test_a_log_of_any_size_is_read(qtbot: QtBot) -> None:
    log.path(log.SESSION).parent.mkdir(parents=True)
    log.path(log.SESSION).symlink_to("/dev/zero")
    assert last_errors(log.SESSION) == []


def test_few_errors_are_enough(qtbot: QtBot) -> None:
    with log.kept(log.WINDOW):
        for at in range(100):
            logging.getLogger("app").warning("error %d %s", at, "x" * 1000)
    found = last_errors(log.WINDOW)
    assert len(found) == 20
    assert "error 99" in found[-1]
    assert max(map(len, found)) <= 400
