"""What surrounds the window: tray, notifications, start hidden, and the way back.

Not here: the parts themselves.
"""

from __future__ import annotations

import os
from typing import Any

from PySide6.QtCore import QObject, Qt

from app.window import icons
from app.window.icons import Sound
from app.window.main_window import MainWindow
from app.window.notices import DeviceNotices
from app.window.settings_file import SettingsFile
from app.window.tray import Tray
from app.window.tray_place import TrayPlace


class Shell(QObject):
    """Ties a window to the desktop.

    Parameters
    ----------
    window : not shown yet
    settings : the window's
    place : told whether there is a tray
    """

    def __init__(self, window: MainWindow, settings: SettingsFile, place: TrayPlace) -> None:
        super().__init__(window)
        self._window, self._settings, self._place = window, settings, place
        self._notices = DeviceNotices()
        self.tray = Tray(self)
        self.tray.show_settings(settings.now)
        window.setWindowIcon(icons.icon(Sound.ON))
        window.goes_on_hidden = self._goes_on_hidden
        window.hidden_instead.connect(self._tell_where_it_is)
        window.status_told.connect(self._hear_status)
        window.devices_told.connect(self._hear_devices)
        window.sound_ended.connect(lambda: self.tray.show_status({}))
        window.settings_changed.connect(lambda: self.tray.show_settings(settings.now))
        window.has_quit.connect(self.tray.take_down)
        self.tray.wanted.connect(window.want)
        self.tray.profile_chosen.connect(window.use_profile)
        self.tray.open_asked.connect(self.come_forward)
        self.tray.quit_asked.connect(window.quit)
        place.changed.connect(self._see_tray)

    def start(self, minimised: bool) -> None:
        """Show the window, or leave it in the tray where there is one."""
        if not minimised:
            self._window.show()
        self._place.look()

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

    def _hear_status(self, told: dict[str, Any]) -> None:
        self.tray.show_status(told)
        self._tell(self._notices.hear_status(told))

    def _hear_devices(self, devices: list[dict[str, Any]]) -> None:
        self._tell(self._notices.hear_devices(devices))

    def _tell(self, words: str) -> None:
        if words and self._settings.now.notifications:
            self.tray.tell(words)
