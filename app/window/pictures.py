"""Before and after: spectrograms, levels, the gain between them, all on one frequency axis."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QWidget

from app.window.link import Picture
from app.window.meters import SILENT_DBFS, ColourScale, GainCurve, LevelMeter, level_of
from app.window.spectrogram import Spectrogram

_QUIET_S = 0.3


class Pictures(QWidget):
    """What the microphone hears, and what the others do.

    Parameters
    ----------
    corner : stands above the first picture, at its right
    """

    def __init__(self, corner: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.before = Spectrogram(self.tr("Spectrogram before cleaning"))
        self.after = Spectrogram(self.tr("Spectrogram after cleaning"))
        self.input_level = LevelMeter(self.tr("Input level"))
        self.output_level = LevelMeter(self.tr("Output level"))
        self.gain = GainCurve(self.tr("Gain over frequency, in dB"))
        self._muted = False
        self._heard_s = 0.0
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        scale = ColourScale(self.tr("Colours of levels"))
        for row, heads, widgets in (
            (
                0,
                (
                    self.tr("Before: what your microphone hears"),
                    self.tr("Level"),
                    self.tr("Colours [dB]"),
                ),
                (self.before, self.input_level, scale),
            ),
            (
                2,
                (self.tr("After: what the others hear"), self.tr("Level"), self.tr("Gain [dB]")),
                (self.after, self.output_level, self.gain),
            ),
        ):
            for column, (words, widget) in enumerate(zip(heads, widgets, strict=True)):
                head = QHBoxLayout()
                head.addWidget(_head(words), 1)
                if row == column == 0:
                    head.addWidget(corner)
                grid.addLayout(head, row, column)
                grid.addWidget(widget, row + 1, column)
            grid.setRowStretch(row + 1, 1)
        grid.setColumnStretch(0, 1)

    def add(self, pictures: list[Picture]) -> None:
        """Show what has come; meters go down when nothing comes any more."""
        now_s = time.monotonic()
        if now_s - self._heard_s > _QUIET_S:
            self.fall()
        for picture in pictures:
            if not len(picture.levels):
                continue
            self._heard_s = now_s
            self.before.add(picture.levels[:, 0], picture.top_hz, picture.column_s)
            self.after.add(picture.levels[:, 1], picture.top_hz, picture.column_s)
            noisy, clean = picture.levels[-1]
            self.input_level.set_level(level_of(noisy))
            self.output_level.set_level(SILENT_DBFS if self._muted else level_of(clean))
            if not self.before.paused:
                self.gain.set_gain(picture.gain)

    def fall(self) -> None:
        """Nothing came: the meters go down."""
        self.input_level.set_level(SILENT_DBFS)
        self.output_level.set_level(SILENT_DBFS)

    def set_muted(self, muted: bool) -> None:
        """A muted voice has no level, whatever cleaning would make of it."""
        self._muted = muted

    def set_paused(self, paused: bool) -> None:
        """Hold both pictures, or go on."""
        self.before.set_paused(paused)
        self.after.set_paused(paused)


def _head(words: str) -> QLabel:
    label = QLabel(words)
    font = QFont(label.font())
    font.setBold(True)
    label.setFont(font)
    label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom)
    return label
