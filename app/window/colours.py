"""Colours: of levels in pictures, and of what stands out on any palette."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PySide6.QtGui import QColor, QPalette


@dataclass(frozen=True)
class Accents:
    """What stands out, as HTML writes colours."""

    on: str
    """Behind the large switch while it is on; the next two as well."""
    off: str
    muted: str
    on_accent: str
    """What is written on those three."""
    warning: str
    on_warning: str
    quiet: str
    """Of levels; the next two as well."""
    loud: str
    too_loud: str
    curve: str


LIGHT = Accents(
    on="#157347",
    off="#5f6772",
    muted="#bf3029",
    on_accent="#ffffff",
    warning="#f4c152",
    on_warning="#2b2103",
    quiet="#1f9d61",
    loud="#d98e04",
    too_loud="#d0433c",
    curve="#1a66ad",
)
DARK = replace(
    LIGHT,
    on="#187d4d",
    off="#666e79",
    muted="#c8372f",
    quiet="#2fb573",
    loud="#e3a21a",
    too_loud="#ee5a52",
    curve="#5aa9ea",
)
CONTRAST = Accents(
    on="#4df09a",
    off="#d0d4da",
    muted="#ffa39c",
    on_accent="#000000",
    warning="#ffd400",
    on_warning="#000000",
    quiet="#4df09a",
    loud="#ffd400",
    too_loud="#ff8a80",
    curve="#8fd3ff",
)

accents = LIGHT
"""Of the theme that is worn (``themes``)."""

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


def contrast(one: QColor, other: QColor) -> float:
    """1…21, by the Web Content Accessibility Guidelines 2.2: 4.5 for text, 3 for what is large."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: QColor) -> float:
    parts = np.array([colour.redF(), colour.greenF(), colour.blueF()])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
