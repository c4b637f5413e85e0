"""Icons, drawn: a microphone that says by its form and its colour how the sound is.

Not here: where they are shown (``tray``, ``desktop``).
"""

from __future__ import annotations

from enum import Enum

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap

SIZES = (16, 22, 24, 32, 48, 64, 128, 256)
"""What panels and menus ask for [pixels]."""


class Sound(Enum):
    """What an icon says."""

    ON = "#1f9d61"
    OFF = "#7a818c"
    MUTED = "#d0433c"
    NONE = "#55585e"
    """No session answers."""


def icon(sound: Sound) -> QIcon:
    """In every size."""
    made = QIcon()
    for size in SIZES:
        made.addPixmap(pixmap(sound, size))
    return made


def pixmap(sound: Sound, size: int) -> QPixmap:
    """A disc and a microphone: with waves while it cleans, struck through when muted."""
    picture = QPixmap(size, size)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / 64.0, size / 64.0)
    painter.setPen(QPen(QColor(255, 255, 255, 200), 2.0))  # an edge on dark and light panels
    painter.setBrush(QColor(sound.value))
    painter.drawEllipse(QRectF(1.0, 1.0, 62.0, 62.0))
    white = QColor("white")
    pen = QPen(white, 4.5, c=Qt.PenCapStyle.RoundCap)
    painter.setPen(pen)
    hollow = sound in (Sound.OFF, Sound.NONE)
    painter.setBrush(Qt.BrushStyle.NoBrush if hollow else white)
    painter.drawRoundedRect(QRectF(25.0, 12.0, 14.0, 24.0), 7.0, 7.0)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawArc(QRectF(19.0, 19.0, 26.0, 24.0), 180 * 16, 180 * 16)
    painter.drawLine(QPointF(32.0, 44.0), QPointF(32.0, 51.0))
    painter.drawLine(QPointF(24.0, 51.0), QPointF(40.0, 51.0))
    if sound is Sound.ON:
        painter.drawArc(QRectF(9.0, 13.0, 24.0, 24.0), 140 * 16, 80 * 16)
        painter.drawArc(QRectF(31.0, 13.0, 24.0, 24.0), -40 * 16, 80 * 16)
    elif sound is Sound.MUTED:
        painter.setPen(QPen(QColor(sound.value), 11.0, c=Qt.PenCapStyle.RoundCap))
        painter.drawLine(QPointF(14.0, 50.0), QPointF(50.0, 14.0))
        painter.setPen(QPen(white, 5.5, c=Qt.PenCapStyle.RoundCap))
        painter.drawLine(QPointF(14.0, 50.0), QPointF(50.0, 14.0))
    elif sound is Sound.NONE:
        painter.setPen(QPen(white, 4.5, c=Qt.PenCapStyle.RoundCap))
        painter.drawLine(QPointF(50.0, 20.0), QPointF(50.0, 32.0))
        painter.drawPoint(QPointF(50.0, 41.0))
    painter.end()
    return picture
