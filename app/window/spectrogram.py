"""A spectrogram that scrolls: a ring of columns, drawn by two blits whatever its length.

The image is as large as it is shown. A new column is stretched to pixels once, when it comes,
and never moved again; what moves is where the ring is cut. Not here: where columns come from.
"""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QEvent, QLocale, QPoint, QRect, Qt
from PySide6.QtGui import (
    QColor,
    QHelpEvent,
    QImage,
    QPainter,
    QPaintEvent,
    QPalette,
    QResizeEvent,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from app.window import colours
from app.window.scale import BOTTOM, TOP, hz_at, ticks
from app.window.text import number, tr

SECONDS = 8.0
"""About so much is seen."""
FLOOR_DB, CEILING_DB = -100.0, 0.0
"""Levels of bytes 0 and 255."""

LEFT = 40
"""Room for the frequencies [pixels]."""
# More than the widest screen shows.
_MOST_COLUMNS = 4096


class Spectrogram(QWidget):
    """Levels over time and frequency, the newest at the right."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(320, 120)
        self.paused = False
        self._colours = colours.level_colours()
        self._top_hz, self._column_s = 5512.5, 0.05
        self._history = np.zeros((_MOST_COLUMNS, 2), np.uint8)
        self._clear(2)

    def add(self, levels: np.ndarray, top_hz: float, column_s: float) -> None:
        """Show columns, (n, rows) uint8; those of another model begin a new picture."""
        if self.paused or not len(levels):
            return
        n_rows = levels.shape[1]
        if (top_hz, column_s, n_rows) != (self._top_hz, self._column_s, self._n_rows):
            self._top_hz, self._column_s = top_hz, column_s
            self._clear(n_rows)
            self._lay_out()
            self.update()
        levels = levels[-_MOST_COLUMNS:]
        self._history = np.concatenate([self._history[len(levels) :], levels])
        self._draw(levels)
        self.update(self.picture_rect())

    def clear(self) -> None:
        """Forget everything."""
        self._clear(self._n_rows)
        self._lay_out()
        self.update()

    def set_paused(self, paused: bool) -> None:
        """Hold the picture, or go on."""
        self.paused = paused
        self.update()

    def picture_rect(self) -> QRect:
        """Where the picture is, inside the axes."""
        return self.rect().adjusted(LEFT, TOP, 0, -BOTTOM)

    @property
    def seconds(self) -> float:
        """What is seen, from edge to edge [s]."""
        return self._image.width() / self._stretch * self._column_s

    def colour_at(self, seconds_ago: float, hz: float) -> QColor:
        """What is painted there; for tests and for the curious."""
        height = self._image.height()
        rows = [hz_at(1.0 - (y + 0.5) / height, self._top_hz) for y in range(height)]
        y = int(np.abs(np.array(rows) - hz).argmin())
        x = self._cut - 1 - round(seconds_ago / self._column_s * self._stretch)
        return self._image.pixelColor(x % self._image.width(), y)

    # Drawing into the ring

    def _clear(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._history = np.zeros((_MOST_COLUMNS, n_rows), np.uint8)
        self._last = np.zeros(n_rows, np.uint8)
        self._pixels = np.full((1, 1), self._colours[0], np.uint32)
        self._image = QImage(1, 1, QImage.Format.Format_RGB32)
        self._cut, self._stretch = 0, 1

    def _lay_out(self) -> None:
        """An image of the size shown, with what has been heard so far."""
        ratio = self.devicePixelRatioF()
        rect = self.picture_rect()
        width = max(round(rect.width() * ratio), 1)
        height = max(round(rect.height() * ratio), 1)
        self._stretch = max(1, round(width * self._column_s / SECONDS))
        self._pixels = np.full((height, width), self._colours[0], np.uint32)
        # It shares our memory: what is written to the array is in the image.
        self._image = QImage(
            self._pixels.data, width, height, 4 * width, QImage.Format.Format_RGB32
        )
        self._image.setDevicePixelRatio(ratio)
        at = (1.0 - (np.arange(height) + 0.5) / height) * self._n_rows - 0.5
        at = np.clip(at, 0.0, self._n_rows - 1.0)
        self._below = np.minimum(at.astype(int), self._n_rows - 2)
        self._above_share = (at - self._below).astype(np.float32)
        self._cut = 0
        n_columns = width // self._stretch
        self._last = self._history[-n_columns - 1]
        self._draw(self._history[-n_columns:])

    def _draw(self, levels: np.ndarray) -> None:
        """Write columns where the ring is cut, each from the one before it to itself."""
        width = self._image.width()
        n_columns = width // self._stretch
        if len(levels) > n_columns:
            self._last, levels = levels[-n_columns - 1], levels[-n_columns:]
        if not len(levels):
            return
        # Time: straight from column to column.
        before = np.concatenate([self._last[np.newaxis], levels[:-1]]).astype(np.float32)
        self._last = levels[-1]
        share = (np.arange(1, self._stretch + 1, dtype=np.float32) / self._stretch)[:, np.newaxis]
        steps = before[:, np.newaxis] + (levels - before)[:, np.newaxis] * share
        steps = steps.reshape(-1, self._n_rows)
        # Frequency: straight from row to row.
        low, high = steps[:, self._below], steps[:, self._below + 1]
        drawn = self._colours[(low + (high - low) * self._above_share).astype(np.uint8)]
        places = (self._cut + np.arange(len(drawn))) % width
        self._pixels[:, places] = drawn.T
        self._cut = int(self._cut + len(drawn)) % width

    # Qt's side

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Draw anew for the new size."""
        super().resizeEvent(event)
        self._lay_out()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Two blits, and the axes when they have been asked for."""
        painter = QPainter(self)
        rect = self.picture_rect()
        ratio = self.devicePixelRatioF()
        if ratio != self._image.devicePixelRatio():  # moved to another screen
            self._lay_out()
        width, height = self._image.width(), self._image.height()
        painter.drawImage(
            rect.topLeft(), self._image, QRect(self._cut, 0, width - self._cut, height)
        )
        if self._cut:
            right = rect.topLeft().toPointF()
            right.setX(right.x() + (width - self._cut) / ratio)
            painter.drawImage(right, self._image, QRect(0, 0, self._cut, height).toRectF())
        if self.paused:
            self._paint_paused(painter, rect)
        if not rect.contains(event.rect()):
            self._paint_axes(painter, rect)
        painter.end()

    def _paint_paused(self, painter: QPainter, rect: QRect) -> None:
        text = self.tr("Paused")
        box = painter.fontMetrics().boundingRect(text).adjusted(-8, -4, 8, 4)
        box.moveTopRight(rect.topRight() + QPoint(-8, 8))
        painter.fillRect(box, QColor(colours.accents.warning))
        painter.setPen(QColor(colours.accents.on_warning))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_axes(self, painter: QPainter, rect: QRect) -> None:
        window = self.palette().color(QPalette.ColorRole.Window)
        for margin in (
            QRect(0, 0, rect.left(), self.height()),
            QRect(0, 0, self.width(), rect.top()),
            QRect(0, rect.bottom() + 1, self.width(), BOTTOM),
        ):
            painter.fillRect(margin, window)
        painter.setPen(colours.faint(self.palette()))
        paint_frequencies(painter, rect, self._top_hz)
        self._paint_times(painter, rect)

    def _paint_times(self, painter: QPainter, rect: QRect) -> None:
        step = 2 if self.seconds > 4 else 1
        for ago in range(0, int(self.seconds) + 1, step):
            x = rect.right() - round(ago / self.seconds * rect.width())
            painter.drawLine(x, rect.bottom() + 2, x, rect.bottom() + 4)
            text = self.tr("−{0} s").format(ago) if ago else self.tr("now")
            box = QRect(x - 30, rect.bottom() + 4, 60, BOTTOM)
            align = Qt.AlignmentFlag.AlignHCenter
            if not ago:
                box.moveRight(rect.right())
                align = Qt.AlignmentFlag.AlignRight
            if box.left() >= rect.left():
                painter.drawText(box, align, text)

    def event(self, event: QEvent) -> bool:
        """Tell what is under the pointer."""
        rect = self.picture_rect()
        if isinstance(event, QHelpEvent) and rect.contains(event.pos()):
            share = 1.0 - (event.pos().y() - rect.top()) / rect.height()
            ago = (rect.right() - event.pos().x()) / rect.width() * self.seconds
            column = self._history[-1 - min(int(ago / self._column_s), _MOST_COLUMNS - 1)]
            level = column[min(int(share * self._n_rows), self._n_rows - 1)] / 255.0
            told = self.tr("{hz} Hz, {db} dB, {ago} s ago").format(
                hz=number(hz_at(share, self._top_hz)),
                db=number(FLOOR_DB + level * (CEILING_DB - FLOOR_DB)),
                ago=number(ago, 1),
            )
            QToolTip.showText(event.globalPos(), told, self)
            return True
        return super().event(event)


def paint_frequencies(painter: QPainter, rect: QRect, top_hz: float) -> None:
    """The axis left of a picture at ``rect``, in the painter's pen."""
    room = painter.fontMetrics().height()
    for share, label in ticks(top_hz, 1.3 * room / max(rect.height(), 1)):
        y = rect.bottom() - round(share * rect.height())
        painter.drawLine(rect.left() - 5, y, rect.left() - 2, y)
        box = QRect(0, y - room // 2, rect.left() - 8, room)
        label = label.replace(".", QLocale().decimalPoint())
        painter.drawText(box, Qt.AlignmentFlag.AlignRight, label)
    below = QRect(0, rect.bottom() + 4, rect.left() - 8, BOTTOM)
    painter.drawText(below, Qt.AlignmentFlag.AlignRight, tr("kHz"))
