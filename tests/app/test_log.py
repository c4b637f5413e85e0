"""A log that loses lines before it harms anything."""

from __future__ import annotations

import logging
import sys
import threading

import pytest

from app import log


@pytest.fixture(autouse=True)
def _at(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_lines_are_kept_and_warnings_shown(capsys):
    with log.kept():
        logging.getLogger("app.service").info("the input is %s", "yeti")
        logging.getLogger("app.service").warning("no sound: %s", "yeti has gone away")
    kept = log.path().read_text().splitlines()
    assert kept[0].endswith(" INFO app.service: the input is yeti")
    assert kept[1].endswith(" WARNING app.service: no sound: yeti has gone away")
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert shown[0] == kept[1]


def test_it_does_not_grow(monkeypatch):
    monkeypatch.setattr(log, "_BYTES", 2000)
    with log.kept():
        for number in range(1000):
            logging.getLogger("app").info("line %d of many", number)
    files = sorted(log.path().parent.iterdir())
    assert [file.name for file in files] == ["session.log", "session.log.1", "session.log.2"]
    assert sum(file.stat().st_size for file in files) < 3 * 2000 + 100
    assert "line 999 of many" in log.path().read_text()


def test_a_full_disk_loses_lines_only(capsys):
    log.path().parent.mkdir(parents=True)
    log.path().symlink_to("/dev/full")
    with log.kept():
        logging.getLogger("app").warning("one")
        logging.getLogger("app").warning("two")
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[-1] for line in shown] == ["one", "two"], "and nothing about the disk"


def test_no_place_for_it_is_no_reason_not_to_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with log.kept():
        logging.getLogger("app").warning("one")
    assert not log.path().exists()


def test_nothing_of_it_stays():
    before = list(logging.getLogger().handlers), logging.getLogger().level
    with log.kept():
        pass
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


def test_what_nobody_catches_is_in_it(capsys):
    def fail():
        raise ArithmeticError("of a thread")

    with log.kept():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        try:
            raise ArithmeticError("of the program")
        except ArithmeticError as error:
            sys.excepthook(type(error), error, error.__traceback__)
    kept = log.path().read_text()
    assert kept.count("CRITICAL app.log: not caught\nTraceback") == 2
    assert "ArithmeticError: of a thread" in kept
    assert "ArithmeticError: of the program" in kept
    assert capsys.readouterr().err.count("Traceback") == 2
    assert log.path().parent.stat().st_mode & 0o077 == 0, "for nobody else"


def test_a_window_has_its_own():
    with log.kept(log.WINDOW):
        logging.getLogger("app").warning("one")
    assert "one" in log.path(log.WINDOW).read_text()
    assert not log.path().exists()
