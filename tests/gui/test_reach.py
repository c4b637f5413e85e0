"""Everything can be reached by keyboard and is called something, in every language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDialog,
    QLabel,
    QLineEdit,
    QProgressBar,
    QScrollBar,
    QTextBrowser,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.window.hear_page import HearPage
from app.window.help_page import HelpPage
from app.window.link import Link
from app.window.main_window import MainWindow
from app.window.meters import ColourScale, GainCurve, LevelMeter
from app.window.settings import Settings
from app.window.settings_dialog import SettingsDialog
from app.window.spectrogram import Spectrogram
from app.window.still import Still
from tests.gui.conftest import Session

USED = (*(QAbstractButton, QComboBox, QAbstractSlider, QLineEdit, QAbstractSpinBox, QTextBrowser),)
SHOWN = (LevelMeter, GainCurve, ColourScale, Spectrogram, Still, QProgressBar)


def parts(top: QWidget, kinds: tuple[type[QWidget], ...]) -> list[QWidget]:
    """Of these kinds, what belongs to ``top`` and is no part of a part."""
    found = []
    for widget in top.findChildren(QWidget):
        inside: QObject | None = widget.parent()
        while inside is not None and not isinstance(inside, (QComboBox, QTextBrowser, *SHOWN)):
            inside = inside.parent()
        other = widget.window() is not top or isinstance(widget, QScrollBar)
        if isinstance(widget, kinds) and inside is None and not other:
            found.append(widget)
    return found


def name_of(widget: QWidget) -> str:
    """What a screen reader says first."""
    if widget.accessibleName():
        return widget.accessibleName()
    if isinstance(widget, QAbstractButton):
        return widget.text()
    buddies = [one for one in widget.window().findChildren(QLabel) if one.buddy() is widget]
    return buddies[0].text() if buddies else ""


def tops(window: MainWindow, qtbot: QtBot) -> list[QWidget]:
    """Every window there is to be seen."""
    help_page = HelpPage(window)
    hear_page = HearPage(window._link.record, window)
    for play in hear_page.plays:
        play.setEnabled(True)
    settings_page = SettingsDialog(Settings(), True, window)
    others: list[QDialog] = [help_page, hear_page, settings_page]
    for one in others:
        qtbot.addWidget(one)
        one.show()
    return [window, *others]


def check(window: MainWindow, qtbot: QtBot) -> None:
    for top in tops(window, qtbot):
        used = [one for one in parts(top, USED) if one.isVisibleTo(top)]
        shown = [one for one in parts(top, SHOWN) if not one.isHidden()]
        assert used
        for widget in (*used, *shown):
            name = name_of(widget)
            assert any(one.isalpha() for one in name), f"{widget} of {top} is called nothing"
        reached, at = set(), top.nextInFocusChain()
        while at not in reached:
            reached.add(at)
            at = at.nextInFocusChain()
        for widget in used:
            assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus, name_of(widget)
            assert widget in reached, name_of(widget)
        letters = Counter(
            letter for one in parts(top, (QAbstractButton, QLabel)) for letter in mnemonic(one)
        )
        letters.update(
            letter
            for one in top.findChildren(QAction)
            if one.parent() is top
            for letter in mnemonic(one)
        )
        assert not [letter for letter, count in letters.items() if count > 1], (top, letters)


def mnemonic(of: QObject) -> list[str]:
    text = of.text().replace("&&", "")
    at = text.find("&")
    return [text[at + 1].lower()] if 0 <= at < len(text) - 1 else []


def test_everything_is_reached_and_named(window: MainWindow, qtbot: QtBot) -> None:
    check(window, qtbot)


def test_in_spanish_too(
    spanish: None, make_window: Callable[[], MainWindow], session: Session, qtbot: QtBot
) -> None:
    window = make_window()
    qtbot.waitUntil(lambda: window.power.isEnabled() and window.controls.input.count() > 1)
    assert window.power.accessibleName() == "Quitar el ruido"
    check(window, qtbot)


def test_tab_goes_from_top_to_bottom(window: MainWindow, qtbot: QtBot) -> None:
    """First what is needed most, then the side as it is read; nothing traps the focus."""
    window.activateWindow()
    window.power.setFocus()
    seen: list[QWidget] = []
    at: QWidget | None = window.power
    while at is not None and at not in seen:
        seen.append(at)
        qtbot.keyClick(at, Qt.Key.Key_Tab)
        at = window.focusWidget()
    assert seen[:2] == [window.power, window.mute]
    side = [
        window.controls.input,
        window.controls.output,
        window.controls.model,
        window.controls.strength,
        window.controls.monitor,
        window.compare,
        window.help,
        window.settings,
    ]
    places = [seen.index(one) for one in side]
    assert places == sorted(places)
    assert window.pause in seen


@pytest.mark.parametrize("language", ["english", "spanish"])
def test_nothing_is_clipped(
    language: str,
    request: pytest.FixtureRequest,
    make_window: Callable[[], MainWindow],
    session: Session,
    qtbot: QtBot,
) -> None:
    """Every button and label has room for its words at the least size of the window."""
    if language == "spanish":
        request.getfixturevalue("spanish")
    window = make_window()
    qtbot.waitUntil(lambda: window.power.isEnabled() and window.controls.input.count() > 1)
    window.resize(window.minimumSizeHint())
    for top in tops(window, qtbot):
        for widget in parts(top, (QAbstractButton, QLabel)):
            if not widget.isVisibleTo(top) or widget is getattr(window, "state", None):
                continue
            if isinstance(widget, QLabel) and widget.wordWrap():
                needed = widget.heightForWidth(widget.width())
                assert widget.height() >= needed, widget.text()
            elif widget.sizePolicy().horizontalPolicy() != widget.sizePolicy().Policy.Ignored:
                least = widget.minimumSizeHint().width()
                if isinstance(widget, QCheckBox):
                    least = widget.sizeHint().width()
                assert widget.width() >= least, widget.text()


def test_a_window_without_a_session_is_reached_too(
    make_window: Callable[[], MainWindow], qtbot: QtBot, tmp_path
) -> None:
    window = make_window()
    assert isinstance(window._link, Link)
    assert window.help.isEnabled()
    window.help.setFocus()
    qtbot.keyClick(window.help, Qt.Key.Key_Space)
    assert window._help.isVisible()
    qtbot.keyClick(window._help, Qt.Key.Key_Escape)
    assert not window._help.isVisible()
