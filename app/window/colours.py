"""Colours: of levels in pictures, and of what stands out on any palette."""

from __future__ import annotations

import numpy as np
from PySide6.QtGui import QColor, QPalette

ON = QColor("#1f9d61")
OFF = QColor("#7a818c")
MUTED = QColor("#d0433c")
WARNING = QColor("#f4c152")
WARNING_TEXT = QColor("#2b2103")
QUIET, LOUD, TOO_LOUD = QColor("#1f9d61"), QColor("#e3a21a"), QColor("#d0433c")

# From night over violet to light: brightness rises all the way, so it reads without colour.
_STOPS = ("#08081a", "#1d1147", "#51127c", "#8c2981", "#c83e73", "#f2625d", "#fea06e", "#fcfdbf")


def level_colours() -> np.ndarray:
    """(256,) uint32 as QImage's RGB32 wants them, for the bytes of a picture."""
    stops = [QColor(stop) for stop in _STOPS]
    parts = [[stop.red() for stop in stops], [stop.green() for stop in stops]]
    parts.append([stop.blue() for stop in stops])
    # The lowest 10 dB and the highest 5 hold nothing worth a colour of its own.
    at = np.linspace(25.0, 242.0, len(stops))
    red, green, blue = (np.interp(np.arange(256), at, part).astype(np.uint32) for part in parts)
    return np.asarray(0xFF000000 | red << 16 | green << 8 | blue, np.uint32)


def is_dark(palette: QPalette) -> bool:
    """Whether windows are darker than what is written on them."""
    window = palette.color(QPalette.ColorRole.Window)
    return window.lightness() < palette.color(QPalette.ColorRole.WindowText).lightness()


def faint(palette: QPalette) -> QColor:
    """For text that explains: between text and window, nearer to the text."""
    return mixed(
        palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Window), 0.3
    )


def edge(palette: QPalette) -> QColor:
    """For what can be clicked on."""
    return mixed(
        palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Window), 0.5
    )


def line(palette: QPalette) -> QColor:
    """For frames and grids."""
    return mixed(
        palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Window), 0.75
    )


def trough(palette: QPalette) -> QColor:
    """For what a bar or a curve is drawn on."""
    return mixed(
        palette.color(QPalette.ColorRole.WindowText), palette.color(QPalette.ColorRole.Window), 0.9
    )


def mixed(one: QColor, other: QColor, share: float) -> QColor:
    """``share`` of the other."""
    return QColor(
        round(one.red() + (other.red() - one.red()) * share),
        round(one.green() + (other.green() - one.green()) * share),
        round(one.blue() + (other.blue() - one.blue()) * share),
    )
