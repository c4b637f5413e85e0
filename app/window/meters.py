"""A level with its peak, the gain over frequency, and the scale of colours."""

from __future__ import annotations

import time

import numpy as np
from PySide6.QtCore import QPointF, QRect, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QWidget

from app.window import colours
from app.window.scale import BOTTOM, TOP
from app.window.spectrogram import CEILING_DB, FLOOR_DB

SILENT_DBFS = -70.0

_HOLD_S = 1.5
_FALL_DB_S = 25.0
_LOUD_DBFS, _TOO_LOUD_DBFS = -18.0, -6.0
# Hann's window spreads a tone over three bins of together 1.5 times its power, and the level
# of a full sine is 3 dB below full scale.
_SPREAD_DB = 10.0 * float(np.log10(1.5)) + 3.01
_LEAST_GAIN_DB = -40.0


def level_of(column: np.ndarray) -> float:
    """RMS level that a column of a picture, (rows,) uint8, stands for [dBFS], within some dB.

    >>> column = np.zeros(160, np.uint8)
    >>> column[59:62] = 239, 255, 239  # a full sine
    >>> round(level_of(column))
    -3
    """
    level_db = FLOOR_DB + column.astype(np.float32) * ((CEILING_DB - FLOOR_DB) / 255.0)
    power = float(np.sum(10.0 ** (level_db / 10.0), where=column > 0))
    return max(10.0 * float(np.log10(max(power, 1e-12))) - _SPREAD_DB, SILENT_DBFS)


class LevelMeter(QWidget):
    """A bar that falls slowly, with the highest of the newest seconds held."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self.level_dbfs = self.peak_dbfs = SILENT_DBFS
        self._held_s = self._seen_s = 0.0
        self._shown = ""
        self.setFixedWidth(58)
        self.setAccessibleName(name)

    def set_level(self, dbfs: float, now_s: float | None = None) -> None:
        """Show a level; it rises at once."""
        now_s = time.monotonic() if now_s is None else now_s
        before = self.level_dbfs, self.peak_dbfs
        fallen = _FALL_DB_S * min(now_s - self._seen_s, 1.0)
        self._seen_s = now_s
        self.level_dbfs = max(dbfs, self.level_dbfs - fallen, SILENT_DBFS)
        if self.level_dbfs >= self.peak_dbfs:
            self.peak_dbfs, self._held_s = self.level_dbfs, now_s
        elif now_s - self._held_s > _HOLD_S:
            self.peak_dbfs = max(self.level_dbfs, self.peak_dbfs - fallen)
        if (self.level_dbfs, self.peak_dbfs) != before:
            self.update()

    def tell(self) -> None:
        """Say the peak to those who do not see it; not more often than one can listen."""
        told = self._peak_text()
        if told != self._shown:
            self._shown = told
            self.setAccessibleName(f"{self._name}: {told} dBFS")

    def _peak_text(self) -> str:
        return "–∞" if self.peak_dbfs <= SILENT_DBFS else f"{self.peak_dbfs:.0f}".replace("-", "−")

    def paintEvent(self, event: QPaintEvent) -> None:
        """The bar, its marks, and the peak in figures."""
        painter = QPainter(self)
        rect = QRect(6, TOP, 16, self.height() - TOP - BOTTOM)
        painter.fillRect(rect, colours.trough(self.palette()))
        accents = colours.accents
        for low, high, colour in (
            (SILENT_DBFS, _LOUD_DBFS, accents.quiet),
            (_LOUD_DBFS, _TOO_LOUD_DBFS, accents.loud),
            (_TOO_LOUD_DBFS, 0.0, accents.too_loud),
        ):
            top = _y(rect, min(self.level_dbfs, high))
            foot = _y(rect, low)
            if top < foot:
                painter.fillRect(rect.left(), top, rect.width(), foot - top, QColor(colour))
        if self.peak_dbfs > SILENT_DBFS:
            painter.fillRect(
                rect.left(), _y(rect, self.peak_dbfs), rect.width(), 2, self.palette().windowText()
            )
        painter.setPen(colours.faint(self.palette()))
        room = painter.fontMetrics().height()
        for dbfs in (0, -20, -40, -60):
            y = _y(rect, float(dbfs))
            box = QRect(rect.right() + 5, max(y - room // 2, 0), 34, room)
            painter.drawText(box, Qt.AlignmentFlag.AlignLeft, str(dbfs).replace("-", "−"))
        below = QRect(0, rect.bottom() + 4, self.width(), BOTTOM)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, f" {self._peak_text()} dB")
        painter.end()


def _y(rect: QRect, dbfs: float) -> int:
    share = (min(dbfs, 0.0) - SILENT_DBFS) / -SILENT_DBFS
    return rect.bottom() + 1 - round(share * rect.height())


class GainCurve(QWidget):
    """How far each frequency is turned down at the moment, beside the picture's own axis."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setFixedWidth(104)
        self._gain_db = np.zeros(2, np.float32)
        self._limit_db = 100.0

    def set_gain(self, gain: np.ndarray) -> None:
        """Show gains, (rows,) uint8, 255 for 1."""
        gain_db = 20.0 * np.log10(np.maximum(gain, 1) / 255.0)
        self._gain_db = np.maximum(gain_db, _LEAST_GAIN_DB).astype(np.float32)
        self.update()

    def set_limit(self, limit_db: float) -> None:
        """Mark how far it may go."""
        if limit_db != self._limit_db:
            self._limit_db = limit_db
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """The curve rises with the frequency, as the picture does."""
        painter = QPainter(self)
        rect = self.rect().adjusted(8, TOP, -8, -BOTTOM)
        painter.fillRect(rect, colours.trough(self.palette()))
        painter.setPen(colours.line(self.palette()))
        for db in (-30.0, -20.0, -10.0):
            x = self._x(rect, db)
            painter.drawLine(x, rect.top(), x, rect.bottom())
        n_rows = len(self._gain_db)
        heights = rect.bottom() + 1 - (np.arange(n_rows) + 0.5) / n_rows * rect.height()
        places = rect.left() + (1.0 - self._gain_db / _LEAST_GAIN_DB) * rect.width()
        curve = [QPointF(x, y) for x, y in zip(places.tolist(), heights.tolist(), strict=True)]
        accent = QColor(colours.accents.curve)
        soft = QColor(accent)
        soft.setAlphaF(0.3)
        corners = [QPointF(rect.left(), curve[0].y()), *curve, QPointF(rect.left(), curve[-1].y())]
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(soft)
        painter.drawPolygon(QPolygonF(corners))
        painter.setPen(QPen(accent, 1.5))
        painter.drawPolyline(QPolygonF(curve))
        if self._limit_db < -_LEAST_GAIN_DB:
            painter.setPen(QPen(self.palette().windowText().color(), 1, Qt.PenStyle.DashLine))
            x = self._x(rect, -self._limit_db)
            painter.drawLine(x, rect.top(), x, rect.bottom())
        self._paint_axis(painter, rect)
        painter.end()

    def _paint_axis(self, painter: QPainter, rect: QRect) -> None:
        painter.setPen(colours.faint(self.palette()))
        for db, align in ((-40, "Left"), (-20, "HCenter"), (0, "Right")):
            x = self._x(rect, float(db))
            box = QRect(x - 30, rect.bottom() + 4, 60, BOTTOM)
            if align == "Left":
                box.moveLeft(rect.left() - 6)
            elif align == "Right":
                box.moveRight(rect.right() + 6)
            flag = getattr(Qt.AlignmentFlag, f"Align{align}")
            painter.drawText(box, flag, str(db).replace("-", "−"))

    @staticmethod
    def _x(rect: QRect, db: float) -> int:
        return rect.left() + round((1.0 - db / _LEAST_GAIN_DB) * rect.width())


class ColourScale(QWidget):
    """Which colour is which level."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setFixedWidth(104)
        column = colours.level_colours()[::-1].copy()
        self._image = QImage(column.data, 1, 256, 4, QImage.Format.Format_RGB32).copy()

    def paintEvent(self, event: QPaintEvent) -> None:
        """A strip from loud to silent."""
        painter = QPainter(self)
        rect = QRect(8, TOP, 16, self.height() - TOP - BOTTOM)
        painter.drawImage(rect, self._image)
        painter.setPen(colours.faint(self.palette()))
        room = painter.fontMetrics().height()
        for db in range(int(FLOOR_DB), int(CEILING_DB) + 1, 20):
            share = (db - FLOOR_DB) / (CEILING_DB - FLOOR_DB)
            y = rect.bottom() - round(share * (rect.height() - room)) - room
            box = QRect(rect.right() + 6, y, 60, room)
            painter.drawText(box, Qt.AlignmentFlag.AlignLeft, str(db).replace("-", "−"))
        painter.end()
