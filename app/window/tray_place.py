"""Whether the desktop has a tray, also one that comes later than the window.

At the start of a desktop its panel is often slower than the programs it starts. Qt looks for a
tray once and remembers the answer, so it is not asked before there is one.
"""

from __future__ import annotations

import sys

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QSystemTrayIcon

WATCHER = "org.kde.StatusNotifierWatcher"
GRACE_MS = 10_000
"""So long a desktop may take to bring its panel up."""


class TrayPlace(QObject):
    """``is_there`` may change; ``changed`` says so. Looks from ``look`` on."""

    changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.is_there = False
        self.has_waited = False
        """Whether a tray that is not there by now is not awaited any more."""

    def look(self) -> None:
        """Begin to look."""
        by_bus = sys.platform.startswith("linux") and self._watch_bus()
        if by_bus:
            QTimer.singleShot(GRACE_MS, self._give_up)
        else:
            self._ask_qt()

    def _watch_bus(self) -> bool:
        """Follow who offers trays on the session's bus; False when there is no bus."""
        from PySide6.QtDBus import QDBusConnection, QDBusServiceWatcher

        bus = QDBusConnection.sessionBus()
        if not bus.isConnected():
            return False
        self._watcher = QDBusServiceWatcher(
            WATCHER, bus, QDBusServiceWatcher.WatchModeFlag.WatchForOwnerChange, self
        )
        self._watcher.serviceRegistered.connect(lambda _: self._set(True))
        self._watcher.serviceUnregistered.connect(lambda _: self._set(False))
        if bus.interface().isServiceRegistered(WATCHER).value():
            self._set(True)
        return True

    def _give_up(self) -> None:
        if not self.is_there and QGuiApplication.platformName() == "xcb":
            self._ask_qt()  # older panels have a tray of X's own
        self._wait_no_longer()

    def _ask_qt(self) -> None:
        self._set(QSystemTrayIcon.isSystemTrayAvailable())
        self._wait_no_longer()

    def _wait_no_longer(self) -> None:
        self.has_waited = True
        if not self.is_there:
            self.changed.emit(False)

    def _set(self, there: bool) -> None:
        if there != self.is_there:
            self.is_there = there
            self.changed.emit(there)
