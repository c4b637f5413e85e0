"""A large switch: what it is now in one word, what that means in a line below."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent, QPalette, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from app.window import colours

_RADIUS = 12.0
_KNOB = 40.0


class Switch(QAbstractButton):
    """Checkable, by pointer, Space or its shortcut.

    Parameters
    ----------
    name : what it switches, for screen readers
    words : (title, meaning) when on, then when off
    fills : background when on, then when off, by the names of ``Accents``; None: the palette's
        button
    waiting : (title, meaning) while there is nothing to switch
    """

    def __init__(
        self,
        name: str,
        words: tuple[tuple[str, str], tuple[str, str]],
        fills: tuple[str | None, str | None],
        waiting: tuple[str, str],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._words, self._fills, self._waiting = words, fills, waiting
        self._overruled = ""
        self.toggled.connect(self._describe)
        self._describe()

    def overrule(self, meaning: str) -> None:
        """Say that something else decides at the moment, or nothing: this does again."""
        if meaning != self._overruled:
            self._overruled = meaning
            self._describe()
            self.update()

    def _describe(self) -> None:
        self.setAccessibleDescription(": ".join(self._now()))

    def _now(self) -> tuple[str, str]:
        if not self.isEnabled():
            return self._waiting
        title, meaning = self._words[0 if self.isChecked() else 1]
        return title, self._overruled or meaning

    def sizeHint(self) -> QSize:
        """Wide enough for every word it may show."""
        title, meaning = self._fonts()
        widths = [220]
        for one, other in (*self._words, self._waiting):
            widths.append(QFontMetrics(title).horizontalAdvance(one))
            widths.append(QFontMetrics(meaning).horizontalAdvance(other))
        heights = QFontMetrics(title).height() + QFontMetrics(meaning).height()
        return QSize(round(max(widths) + _KNOB + 56), max(heights + 28, 76))

    def minimumSizeHint(self) -> QSize:
        """As ``sizeHint``: nothing may be clipped."""
        return self.sizeHint()

    def _fonts(self) -> tuple[QFont, QFont]:
        title = QFont(self.font())
        title.setPointSizeF(title.pointSizeF() * 1.7)
        title.setBold(True)
        return title, self.font()

    def paintEvent(self, event: QPaintEvent) -> None:
        """A rounded box with a knob at the left."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = QRectF(self.rect()).adjusted(3, 3, -3, -3)
        shown = self.isEnabled() and not self._overruled
        name = self._fills[0 if self.isChecked() else 1] if shown else None
        fill = QColor(getattr(colours.accents, name)) if name else None
        palette = self.palette()
        pen = palette.color(QPalette.ColorRole.ButtonText)
        if fill:
            pen = QColor(colours.accents.on_accent)
        drawn = fill or palette.color(QPalette.ColorRole.Button)
        if self.isEnabled() and (self.underMouse() or self.isDown()):
            drawn = drawn.lighter(108) if not self.isDown() else drawn.darker(110)
        painter.setPen(QPen(colours.edge(palette), 1) if fill is None else Qt.PenStyle.NoPen)
        painter.setBrush(drawn)
        painter.drawRoundedRect(box, _RADIUS, _RADIUS)
        if self.hasFocus():
            ring = QPen(palette.color(QPalette.ColorRole.WindowText), 2)
            painter.setPen(ring)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(box.adjusted(-2, -2, 2, 2), _RADIUS + 2, _RADIUS + 2)
        knob = QRectF(box.left() + 18, box.center().y() - _KNOB / 2, _KNOB, _KNOB)
        self._paint_sign(painter, knob, pen)
        self._paint_words(painter, box.adjusted(_KNOB + 36, 10, -12, -10), pen)
        painter.end()

    def _paint_words(self, painter: QPainter, box: QRectF, pen: QColor) -> None:
        title, meaning = self._now()
        big, small = self._fonts()
        painter.setPen(pen)
        painter.setFont(big)
        align = Qt.AlignmentFlag.AlignLeft
        painter.drawText(box, align | Qt.AlignmentFlag.AlignTop, title)
        painter.setFont(small)
        painter.drawText(box, align | Qt.AlignmentFlag.AlignBottom, meaning)

    def _paint_sign(self, painter: QPainter, box: QRectF, pen: QColor) -> None:
        """The sign for power: a ring with a stroke."""
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(pen, 3.5, c=Qt.PenCapStyle.RoundCap))
        ring = box.adjusted(5, 6, -5, -4)
        painter.drawArc(ring, 125 * 16, 290 * 16)
        middle = box.center().x()
        painter.drawLine(round(middle), round(box.top() + 3), round(middle), round(box.top() + 19))


class MuteSwitch(Switch):
    """With a microphone for a sign, struck through when muted."""

    def _paint_sign(self, painter: QPainter, box: QRectF, pen: QColor) -> None:
        middle = box.center().x()
        painter.setPen(QPen(pen, 3.0, c=Qt.PenCapStyle.RoundCap))
        painter.setBrush(pen)
        painter.drawRoundedRect(QRectF(middle - 5, box.top() + 4, 10, 17), 5, 5)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawArc(QRectF(middle - 10, box.top() + 8, 20, 20), 180 * 16, 180 * 16)
        foot = round(box.top() + 34)
        painter.drawLine(round(middle), round(box.top() + 29), round(middle), foot)
        painter.drawLine(round(middle - 6), foot, round(middle + 6), foot)
        if self.isChecked():
            painter.drawLine(
                round(box.left() + 5),
                round(box.top() + 4),
                round(box.right() - 5),
                round(box.bottom() - 4),
            )
