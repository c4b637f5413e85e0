"""Hear the difference: five seconds recorded, played before and after, and pictures of both.

What is recorded lies in memory until the page is closed, and goes nowhere. Not here: recording
and fetching (``comparison``), playing (``player``).
"""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QTimer
from PySide6.QtGui import QFont
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.window.comparison import TOP_HZ, Comparison
from app.window.player import Player
from app.window.still import Still

SECONDS = 5.0

_TICK_MS = 33
# What is left is under the noise of any loudspeaker's room.
_MOST_DB = 40


class HearPage(QDialog):
    """Records when asked, plays what was recorded. Closed by Esc or its button.

    Parameters
    ----------
    record : begins a comparison of so many seconds
    """

    def __init__(
        self, record: Callable[[float], Comparison], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._record = record
        self.comparison: Comparison | None = None
        self.player: Player | None = None
        self.setWindowTitle(self.tr("Hear the difference"))
        self.resize(720, 620)
        self._build()
        self._empty()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)
        self.finished.connect(self._forget)

    # Parts

    def _build(self) -> None:
        self.record = QPushButton(self.tr("&Record five seconds"))
        self.record.setDefault(True)
        self.record.clicked.connect(self._begin)
        self.progress = QProgressBar()
        self.progress.setRange(0, 100)
        self.progress.setTextVisible(False)
        self.progress.hide()
        self.progress.setAccessibleName(self.tr("How much is recorded"))
        self.said = QLabel()
        self.said.setWordWrap(True)
        names = (self.tr("Spectrogram before cleaning"), self.tr("Spectrogram after cleaning"))
        self.pictures = tuple(Still(name, SECONDS, TOP_HZ) for name in names)
        self.plays = (QPushButton(), QPushButton())
        heads = (
            self.tr("Before: what your microphone heard"),
            self.tr("After: what the others heard"),
        )
        intro = QLabel(
            self.tr(
                "Speak for five seconds with the noise around you, then listen to both. "
                "A click in a picture plays from there."
            )
        )
        intro.setWordWrap(True)
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(self.record)
        head.addWidget(self.progress, 1)
        head.addWidget(self.said, 2)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 16, 20, 16)
        column.setSpacing(8)
        column.addWidget(intro)
        column.addLayout(head)
        for which, (words, picture, play) in enumerate(
            zip(heads, self.pictures, self.plays, strict=True)
        ):
            line = QHBoxLayout()
            label = QLabel(words)
            font = QFont(label.font())
            font.setBold(True)
            label.setFont(font)
            line.addWidget(label, 1)
            line.addWidget(play)
            column.addSpacing(4)
            column.addLayout(line)
            column.addWidget(picture, 1)
            play.setAutoDefault(False)
            play.clicked.connect(lambda _, which=which: self._play(which))
            picture.sought.connect(lambda share, which=which: self._seek(which, share))
        kept = QLabel(
            self.tr(
                "The recording stays in this machine's memory and is gone when you close this "
                "page. It is never saved or sent."
            )
        )
        kept.setWordWrap(True)
        buttons = QDialogButtonBox()
        close = buttons.addButton(self.tr("&Close"), QDialogButtonBox.ButtonRole.RejectRole)
        close.setAutoDefault(False)
        buttons.rejected.connect(self.reject)
        column.addSpacing(4)
        foot = QHBoxLayout()
        foot.setSpacing(16)
        foot.addWidget(kept, 1)
        foot.addWidget(buttons)
        column.addLayout(foot)

    def _empty(self) -> None:
        for picture in self.pictures:
            picture.show_words(self.tr("Nothing is recorded yet"))
        for play in self.plays:
            play.setEnabled(False)
        self.progress.hide()
        self._say_plays(None)

    def _say_plays(self, which: int | None) -> None:
        words = (self.tr("▶ Play &before"), self.tr("▶ Play &after"))
        for at, play in enumerate(self.plays):
            told = self.tr("■ &Stop") if at == which else words[at]
            if told != play.text():
                play.setText(told)

    # What the user wants

    def _begin(self) -> None:
        self._forget()
        self.record.setEnabled(False)
        self.said.setText(self.tr("Recording: speak now…"))
        self.progress.setValue(0)
        self.progress.show()
        self.comparison = self._record(SECONDS)
        self._timer.start(_TICK_MS)

    def _play(self, which: int) -> None:
        if self.player is None:
            return
        if self.player.plays == which:
            self.player.stop()
        else:
            self.player.play(which)
        self._look()

    def _seek(self, which: int, share: float) -> None:
        if self.player is not None:
            self.player.play(which, share)

    def _forget(self) -> None:
        """Drop what was recorded."""
        self._timer.stop()
        if self.comparison is not None:
            self.comparison.cancel()
        if self.player is not None:
            self.player.close()
        self.comparison = self.player = None
        self._empty()
        self.said.clear()
        self.record.setEnabled(True)

    # What has come of it

    def _look(self) -> None:
        comparison = self.comparison
        if comparison is None:
            return
        self.progress.setValue(round(100 * comparison.share))
        if comparison.is_over and self.player is None:
            self._show(comparison)
        player = self.player
        if player is None:
            return
        player.look()
        if player.problem:
            self.said.setText(self.tr("It cannot be played: {0}").format(player.problem))
        self._say_plays(player.plays)
        for which, picture in enumerate(self.pictures):
            picture.mark(player.share if player.plays == which else None)

    def _show(self, comparison: Comparison) -> None:
        self.progress.hide()
        self.record.setEnabled(True)
        self.record.setText(self.tr("&Record again"))
        if comparison.sounds is None or comparison.levels is None:
            self._timer.stop()
            self._empty()
            self.said.setText(self.tr("Nothing was recorded: {0}").format(comparison.problem))
            return
        for picture, levels in zip(self.pictures, comparison.levels, strict=True):
            picture.show_levels(levels)
        for play in self.plays:
            play.setEnabled(True)
        self.said.setText(self._finding(comparison))
        self.player = Player(comparison.sounds)
        self.plays[0].setFocus()

    def _finding(self, comparison: Comparison) -> str:
        """What is between both, in a line."""
        quieter_db = comparison.quieter_db()
        if quieter_db is None:
            return self.tr("Both are the same: the noise is not taken out at the moment.")
        if comparison.sounds is not None and not comparison.sounds[1].any():
            return self.tr("You are muted: the others heard nothing.")
        if quieter_db > _MOST_DB:
            return self.tr("Between words the noise is more than {0} dB lower.").format(_MOST_DB)
        if quieter_db < 1.0:
            return self.tr("There was hardly any noise between words.")
        return self.tr("Between words the noise is {0} dB lower.").format(round(quieter_db))
