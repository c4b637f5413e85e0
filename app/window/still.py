"""A spectrogram of a whole recording, with a mark at what is heard at the moment.

Not here: those that scroll (``spectrogram``), playing (``player``).
"""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QRect, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.window import colours
from app.window.scale import BOTTOM, TOP
from app.window.spectrogram import LEFT, paint_frequencies

_STEP_S = 0.5


class Still(QWidget):
    """One picture; a click or an arrow key asks to hear it from there.

    Parameters
    ----------
    name : for screen readers
    seconds : from edge to edge
    top_hz : of its upper edge
    """

    sought = Signal(float)
    """Share of the whole, 0…1."""

    def __init__(
        self, name: str, seconds: float, top_hz: float, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(320, 120)
        self._seconds, self._top_hz = seconds, top_hz
        self._image: QImage | None = None
        self._words = ""
        self._share: float | None = None

    def show_words(self, words: str) -> None:
        """Say something in place of a picture."""
        self._words, self._image, self._share = words, None, None
        self.setAccessibleDescription(words)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.unsetCursor()
        self.update()

    def show_levels(self, levels: np.ndarray) -> None:
        """Show columns, (n, rows) uint8."""
        pixels = np.ascontiguousarray(colours.level_colours()[levels].T[::-1])
        height, width = pixels.shape
        image = QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_RGB32)
        self._image, self._words = image.copy(), ""
        self.setAccessibleDescription("")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.update()

    def mark(self, share: float | None) -> None:
        """What is heard at the moment, 0…1; None: nothing."""
        if share != self._share:
            self._share = share
            self.update()

    def picture_rect(self) -> QRect:
        """Where the picture is, inside the axes."""
        return self.rect().adjusted(LEFT, TOP, -2, -BOTTOM)

    def paintEvent(self, event: QPaintEvent) -> None:
        """The picture, its axes, the mark."""
        painter = QPainter(self)
        rect = self.picture_rect()
        if self._image is None:
            painter.fillRect(rect, colours.trough(self.palette()))
            painter.setPen(colours.faint(self.palette()))
            painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, self._words)
        else:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(rect, self._image)
        if self._share is not None:
            x = rect.left() + round(self._share * rect.width())
            painter.setPen(QPen(QColor("#ffffff"), 2))
            painter.drawLine(x, rect.top(), x, rect.bottom())
        if self.hasFocus():
            painter.setPen(QPen(self.palette().windowText().color(), 2))
            painter.drawRect(rect.adjusted(-1, -1, 1, 1))
        painter.setPen(colours.faint(self.palette()))
        paint_frequencies(painter, rect, self._top_hz)
        for second in range(int(self._seconds) + 1):
            x = rect.left() + round(second / self._seconds * (rect.width() - 1))
            painter.drawLine(x, rect.bottom() + 2, x, rect.bottom() + 4)
            box = QRect(x - 30, rect.bottom() + 4, 60, BOTTOM)
            align = Qt.AlignmentFlag.AlignHCenter
            if second == 0:
                box.moveLeft(rect.left())
                align = Qt.AlignmentFlag.AlignLeft
            elif second == int(self._seconds):
                box.moveRight(rect.right())
                align = Qt.AlignmentFlag.AlignRight
            words = self.tr("{0} s").format(second)
            painter.drawText(box, align, words)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """From there on."""
        rect = self.picture_rect()
        if self._image is not None and rect.width() > 0:
            share = (event.position().x() - rect.left()) / rect.width()
            self.sought.emit(min(max(share, 0.0), 1.0))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows go half a second to and fro, Home to the beginning."""
        step = _STEP_S / self._seconds
        steps = {Qt.Key.Key_Left: -step, Qt.Key.Key_Right: step, Qt.Key.Key_Home: -1.0}
        if self._image is None or event.key() not in steps:
            super().keyPressEvent(event)
            return
        share = (self._share or 0.0) + steps[Qt.Key(event.key())]
        self.sought.emit(min(max(share, 0.0), 1.0))

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Its edge shows it."""
        super().focusInEvent(event)
        self.update()
