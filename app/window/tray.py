"""The icon in the desktop's tray: how the sound is, and the way to change it without the window.

Not here: whether there is a tray (``tray_place``), and what follows from a click (``shell``).
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu, QSystemTrayIcon

from app.window import icons, text
from app.window.icons import Sound
from app.window.settings import Settings

PRESETS_DB = (12.0, 30.0, 100.0)
_TELL_MS = 6000


class Tray(QObject):
    """An icon and its menu; the signals tell what was clicked."""

    wanted = Signal(dict)
    """As the control socket takes it."""
    profile_chosen = Signal(str)
    open_asked = Signal()
    settings_asked = Signal()
    quit_asked = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.menu = QMenu()
        self.open = self._action(self.tr("&Open the window"), self.open_asked.emit)
        self.menu.setDefaultAction(self.open)
        self.menu.addSeparator()
        self.power = self._action(self.tr("Take &noise out"))
        self.power.setCheckable(True)
        self.power.triggered.connect(lambda on: self.wanted.emit({"on": on}))
        self.mute = self._action(self.tr("&Mute"))
        self.mute.setCheckable(True)
        self.mute.triggered.connect(lambda on: self.wanted.emit({"muted": on}))
        self.menu.addSeparator()
        self.strength = self.menu.addMenu(self.tr("&Strength"))
        self._presets = self._strengths()
        self.profiles = self.menu.addMenu(self.tr("&Profile"))
        self._profiles = QActionGroup(self)
        self.menu.addSeparator()
        self.settings = self._action(self.tr("S&ettings…"), self.settings_asked.emit)
        self.quit = self._action(self.tr("&Quit"), self.quit_asked.emit)
        self._icons = {sound: icons.icon(sound) for sound in Sound}
        self.sound = Sound.NONE
        self.idle = False
        """Whether the microphone is closed because nobody listens."""
        self.icon: QSystemTrayIcon | None = None
        self.last_told = ""
        """The newest notification."""
        self.show_status({})

    def put_up(self) -> None:
        """Show the icon; there must be a tray."""
        if self.icon is None:
            self.icon = QSystemTrayIcon(self._icons[self.sound], self)
            self.icon.setContextMenu(self.menu)
            self.icon.activated.connect(self._click)
            self.icon.messageClicked.connect(self.open_asked)
            self.icon.show()
            self._describe()

    def take_down(self) -> None:
        """Show it no longer."""
        if self.icon is not None:
            self.icon.hide()
            self.icon.deleteLater()
            self.icon = None

    def show_status(self, told: dict[str, Any]) -> None:
        """Show what a session told; nothing: none answers."""
        there = bool(told)
        for action in (self.power, self.mute):
            action.setEnabled(there)
        self.power.setChecked(there and told["on"])
        self.mute.setChecked(there and told["muted"])
        limit_db = told.get("limit_db")
        for action in self._presets.actions():
            action.setEnabled(there)
            action.setChecked(action.data() == limit_db)
        sound = Sound.NONE
        if there:
            sound = Sound.MUTED if told["muted"] else Sound.ON if told["on"] else Sound.OFF
        idle = bool(told.get("idle"))
        if (sound, idle) != (self.sound, self.idle):
            self.sound, self.idle = sound, idle
            if self.icon is not None:
                self.icon.setIcon(self._icons[sound])
                self._describe()

    def show_settings(self, settings: Settings) -> None:
        """Offer the profiles of these settings."""
        names = [one.name for one in settings.profiles]
        if [action.data() for action in self._profiles.actions()] != names:
            for action in self._profiles.actions():
                self._profiles.removeAction(action)
                self.profiles.removeAction(action)
                action.deleteLater()
            for name in names:
                action = self.profiles.addAction(_plain(text.profile(name)))
                action.setCheckable(True)
                action.setData(name)
                action.triggered.connect(lambda _, name=name: self.profile_chosen.emit(name))
                self._profiles.addAction(action)
        for action in self._profiles.actions():
            action.setChecked(action.data() == settings.profile)

    def tell(self, words: str) -> None:
        """A notification, where there is an icon."""
        self.last_told = words
        if self.icon is not None:
            self.icon.showMessage("denoise-app", words, self._icons[self.sound], _TELL_MS)

    def _describe(self) -> None:
        words = {
            Sound.ON: self.tr("Noise is taken out of your voice"),
            Sound.OFF: self.tr("Your voice goes through as it is"),
            Sound.MUTED: self.tr("Muted: nobody hears you"),
            Sound.NONE: self.tr("No sound"),
        }
        lines = ["denoise-app", words[self.sound]]
        if self.idle:
            lines.append(self.tr("Nobody listens: the microphone is off"))
        if self.icon is not None:
            self.icon.setToolTip("\n".join(lines))

    def _click(self, how: QSystemTrayIcon.ActivationReason) -> None:
        if how is QSystemTrayIcon.ActivationReason.Trigger:
            self.open_asked.emit()
        elif how is QSystemTrayIcon.ActivationReason.MiddleClick and self.mute.isEnabled():
            self.mute.trigger()

    def _strengths(self) -> QActionGroup:
        group = QActionGroup(self)
        names = (self.tr("&Gentle"), self.tr("&Balanced"), self.tr("&Strong, no limit"))
        for name, limit_db in zip(names, PRESETS_DB, strict=True):
            action = self.strength.addAction(name)
            action.setCheckable(True)
            action.setData(limit_db)
            action.triggered.connect(
                lambda _, limit_db=limit_db: self.wanted.emit({"limit_db": limit_db})
            )
            group.addAction(action)
        # None is checked where the strength is something between.
        group.setExclusionPolicy(QActionGroup.ExclusionPolicy.ExclusiveOptional)
        return group

    def _action(self, words: str, act: Any = None) -> QAction:
        action = self.menu.addAction(words)
        if act is not None:
            action.triggered.connect(lambda: act())
        return action


def _plain(words: str) -> str:
    """As it reads: an ampersand of a user's is no mark of a key."""
    return words.replace("&", "&&")
