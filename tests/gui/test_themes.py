"""Every text of every look can be read, and looks change while the window is open."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPalette, QStyleHints
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.window import colours
from app.window.main_window import MainWindow
from app.window.themes import SYSTEM, THEMES, Look

ROLE, GROUP = QPalette.ColorRole, QPalette.ColorGroup
READ = [
    (ROLE.WindowText, ROLE.Window),
    (ROLE.Text, ROLE.Base),
    (ROLE.ButtonText, ROLE.Button),
    (ROLE.HighlightedText, ROLE.Highlight),
    (ROLE.ToolTipText, ROLE.ToolTipBase),
    (ROLE.PlaceholderText, ROLE.Window),
    (ROLE.PlaceholderText, ROLE.Base),
    (ROLE.Link, ROLE.Window),
]


@pytest.fixture
def look(qapp: QApplication) -> Iterator[Look]:
    look = Look(qapp)
    yield look
    look.wear("light")
    look.deleteLater()


def test_contrast_is_that_of_the_guidelines() -> None:
    black, white = QColor("#000000"), QColor("#ffffff")
    assert colours.contrast(black, white) == pytest.approx(21.0)
    assert colours.contrast(white, white) == 1.0
    # The grey that is known as just readable on white.
    assert colours.contrast(QColor("#767676"), white) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("name", THEMES)
def test_text_can_be_read(name: str) -> None:
    theme = THEMES[name]
    palette, accents = theme.palette(), theme.accents
    read = {
        f"{one.name} on {other.name}": (palette.color(one), palette.color(other))
        for one, other in READ
    }
    read["what explains"] = (colours.faint(palette), palette.color(ROLE.Window))
    read["a warning"] = (QColor(accents.on_warning), QColor(accents.warning))
    for fill, hover in product((accents.on, accents.off, accents.muted), (92, 100, 108)):
        read[f"{fill} {hover}"] = (QColor(accents.on_accent), QColor(fill).lighter(hover))
    least = 7.0 if name == "contrast" else 4.5
    found = {what: colours.contrast(*both) for what, both in read.items()}
    assert not {what: ratio for what, ratio in found.items() if ratio < least}


@pytest.mark.parametrize("name", THEMES)
def test_what_is_no_text_can_be_seen(name: str) -> None:
    theme = THEMES[name]
    palette, accents = theme.palette(), theme.accents
    window, trough = palette.color(ROLE.Window), colours.trough(palette)
    seen = {
        "an edge": (colours.edge(palette), window),
        "what cannot be used": (palette.color(GROUP.Disabled, ROLE.WindowText), window),
        "a curve": (QColor(accents.curve), trough),
        "a peak": (palette.color(ROLE.WindowText), trough),
        "too loud": (QColor(accents.too_loud), trough),
        **{fill: (QColor(fill), window) for fill in (accents.on, accents.off, accents.muted)},
    }
    found = {what: colours.contrast(*both) for what, both in seen.items()}
    assert not {what: ratio for what, ratio in found.items() if ratio < 3.0}


def test_a_look_changes_while_the_window_is_open(
    qtbot: QtBot, window: MainWindow, look: Look
) -> None:
    def corner() -> QColor:
        return window.grab().toImage().pixelColor(2, 2)

    for name in ("dark", "contrast", "light"):
        look.wear(name)
        assert look.shown == name
        qtbot.waitUntil(lambda name=name: corner().name() == THEMES[name].window)
        middle = window.power.grab().toImage().pixelColor(window.power.width() - 30, 12)
        assert middle.name() == THEMES[name].accents.on
        banner = window.banner.palette()
        ground = banner.color(window.banner.backgroundRole())
        assert ground.name() == THEMES[name].accents.warning


def test_the_system_is_followed(
    qapp: QApplication, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform without a screen has no scheme of its own: what it would say is said for it."""
    changed = qapp.styleHints().colorSchemeChanged
    look.wear(SYSTEM)
    for scheme, name in ((Qt.ColorScheme.Dark, "dark"), (Qt.ColorScheme.Light, "light")):
        monkeypatch.setattr(QStyleHints, "colorScheme", lambda self, scheme=scheme: scheme)
        changed.emit(scheme)
        assert look.shown == name
        assert qapp.palette().color(ROLE.Window).name() == THEMES[name].window
    look.wear("contrast")
    changed.emit(Qt.ColorScheme.Light)
    assert qapp.palette().color(ROLE.Window).name() == THEMES["contrast"].window
