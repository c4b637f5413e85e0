"""What surrounds the window: tray, keys, notifications, settings, and the way back when hidden.

Not here: the parts themselves.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Qt, QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication

from app import log
from app.window import icons
from app.window.icons import Sound
from app.window.main_window import MainWindow
from app.window.notices import DeviceNotices
from app.window.settings_file import SettingsFile
from app.window.shortcut import GlobalShortcut, Key, State
from app.window.themes import Look
from app.window.tray import Tray
from app.window.tray_place import TrayPlace

if TYPE_CHECKING:
    from app.window.settings_dialog import SettingsDialog

AFTER_MS = 300
"""A window's first pictures come before everything that can wait."""
_QUIET_S, _MOST_WORDS = 60.0, 100
TOGGLE, MUTE = "toggle", "mute"
"""Names of what global shortcuts do."""


class Shell(QObject):
    """Ties a window to the desktop.

    Parameters
    ----------
    window : not shown yet
    settings : the window's
    place : told whether there is a tray
    look : wears what the settings say
    """

    def __init__(
        self, window: MainWindow, settings: SettingsFile, place: TrayPlace, look: Look
    ) -> None:
        super().__init__(window)
        self._look = look
        self._devices: list[dict[str, Any]] = []
        self._told: dict[str, Any] = {}
        self._asked_keys: tuple[Key, ...] = ()
        self.shortcut = GlobalShortcut(self)
        self.shortcut.pressed.connect(self._press)
        self.shortcut.changed.connect(self._show_shortcut)
        self.dialog: SettingsDialog | None = None
        self._window, self._settings, self._place = window, settings, place
        self._notices = DeviceNotices()
        self._told_s: dict[str, float] = {}
        self.tray = Tray(self)
        self.tray.show_settings(settings.now)
        window.setWindowIcon(icons.icon(Sound.ON))
        window.goes_on_hidden = self._goes_on_hidden
        window.hidden_instead.connect(self._tell_where_it_is)
        window.status_told.connect(self._hear_status)
        window.devices_told.connect(self._hear_devices)
        window.sound_ended.connect(self._hear_nothing)
        window.settings_changed.connect(self._follow_settings)
        window.settings_asked.connect(self.open_settings)
        window.has_quit.connect(self._leave)
        # At once, not only when the session has told: the next click turns what is shown.
        window.power.toggled.connect(self.tray.power.setChecked)
        window.mute.toggled.connect(self.tray.mute.setChecked)
        self.tray.wanted.connect(window.want)
        self.tray.profile_chosen.connect(window.use_profile)
        self.tray.open_asked.connect(self.come_forward)
        self.tray.settings_asked.connect(self.open_settings)
        self.tray.quit_asked.connect(window.quit)
        place.changed.connect(self._see_tray)

    def start(self, minimised: bool, after_ms: int = AFTER_MS) -> None:
        """Show the window, or leave it in the tray where there is one.

        Parameters
        ----------
        minimised : leave it
        after_ms : the desktop is asked for tray and keys so much later, when a window is shown
        """
        if not minimised:
            self._window.show()
        if minimised or not after_ms:
            self._look_around()
        else:
            QTimer.singleShot(after_ms, self, self._look_around)

    def _look_around(self) -> None:
        self._place.look()
        self._ask_for_keys()

    def open_settings(self) -> None:
        """Show the page of settings; the window may be hidden."""
        from app.window.settings_dialog import SettingsDialog  # what is not needed to open a window

        if self.dialog is None:
            parent = self._window if self._window.isVisible() else None
            self.dialog = SettingsDialog(self._settings.now, self._place.is_there, parent)
            self.dialog.changed.connect(self._window.take_settings)
            self.dialog.copy_asked.connect(self.copy_diagnostics)
            self.dialog.log_asked.connect(_show_logs)
            self.dialog.finished.connect(self._forget_dialog)
            self._show_shortcut(self.shortcut.state, self.shortcut.words)
        self.dialog.show()
        self.dialog.raise_()
        self.dialog.activateWindow()

    def copy_diagnostics(self) -> None:
        """Put a report on the clipboard."""
        from app.window.diagnostics import Seen, report

        seen = Seen(
            told=self._told,
            devices=self._devices,
            settings=self._settings.now,
            engine_starts=self._window.engine.starts,
            engine_words=self._window.engine.words,
            tray=self._place.is_there,
            shortcut=f"{self.shortcut.state.name.lower()} {self.shortcut.words}".strip(),
        )
        QGuiApplication.clipboard().setText(report(seen))
        if self.dialog is not None:
            self.dialog.show_copied()

    def come_forward(self, token: str = "") -> None:
        """Show the window above others, however it was hidden."""
        if token:
            # What lets a program come forward that the user has just asked for.
            os.environ["XDG_ACTIVATION_TOKEN"] = token
        self._window.setWindowState(self._window.windowState() & ~Qt.WindowState.WindowMinimized)
        self._window.show()
        self._window.raise_()
        self._window.activateWindow()

    def _see_tray(self, there: bool) -> None:
        if there:
            self.tray.put_up()
            return
        if self._place.has_waited and not self._window.isVisible():
            # Nobody could find it any more.
            self._window.showMinimized()

    def _goes_on_hidden(self) -> bool:
        return (
            self._settings.now.close_to_tray and self._place.is_there and self.tray.icon is not None
        )

    def _tell_where_it_is(self) -> None:
        if not self._settings.now.tray_told:
            self._settings.change(tray_told=True)
            self.tray.tell(self.tr("Your microphone goes on being cleaned. The window is here."))

    def _follow_settings(self) -> None:
        now = self._settings.now
        self.tray.show_settings(now)
        if self._look.theme != now.theme:
            self._look.wear(now.theme)
        self._ask_for_keys()
        if self.dialog is not None:
            self.dialog.show_settings(now)

    def _ask_for_keys(self) -> None:
        """Have the desktop's keys as the settings want them."""
        now = self._settings.now
        keys: tuple[Key, ...] = ()
        if now.shortcut:
            keys = (
                Key(TOGGLE, self.tr("Turn cleaning on and off"), now.shortcut_keys),
                Key(MUTE, self.tr("Mute or unmute")),
            )
        if keys != self._asked_keys:
            self._asked_keys = keys
            if keys:
                self.shortcut.start(keys)
            else:
                self.shortcut.stop()

    def _press(self, name: str) -> None:
        if name in (TOGGLE, MUTE):
            self._window.turn("on" if name == TOGGLE else "muted")

    def _show_shortcut(self, state: State, words: str) -> None:
        if self.dialog is not None:
            self.dialog.show_shortcut(state, words)

    def _forget_dialog(self) -> None:
        if self.dialog is not None:
            self.dialog.deleteLater()
            self.dialog = None

    def _leave(self) -> None:
        self.shortcut.stop()
        self.tray.take_down()
        if self.dialog is not None:
            self.dialog.close()

    def _hear_nothing(self) -> None:
        self._told = {}
        self.tray.show_status({})

    def _hear_status(self, told: dict[str, Any]) -> None:
        self._told = told
        self.tray.show_status(told)
        self._tell(self._notices.hear_status(told))

    def _hear_devices(self, devices: list[dict[str, Any]]) -> None:
        self._devices = devices
        self._tell(self._notices.hear_devices(devices))

    def _tell(self, words: str) -> None:
        """What has just been told is not told again: some devices come and go by the second."""
        now_s = time.monotonic()
        if not words or not self._settings.now.notifications:
            return
        if now_s - self._told_s.get(words, -_QUIET_S) >= _QUIET_S:
            if len(self._told_s) > _MOST_WORDS:
                self._told_s.clear()
            self._told_s[words] = now_s
            self.tray.tell(words)


def _show_logs() -> None:
    """In the desktop's file manager."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(log.path(log.WINDOW).parent)))
