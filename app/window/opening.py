"""Opens the window. While the engine starts, which takes longest, the parts are loaded."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from app import log
from app.window import language
from app.window.beginning import Begun, begin
from app.window.instance import Instance
from app.window.themes import Look

if TYPE_CHECKING:
    from app.window.main_window import MainWindow


def open_window(
    minimised: bool = False,
    opened: Callable[[MainWindow], None] | None = None,
    begun: Begun | None = None,
) -> int:
    """Show the window until it is closed for good; returns the exit code.

    Where one runs already, that one comes forward instead.

    Parameters
    ----------
    minimised : hide it in the tray, or where there is none, minimise it
    opened : told the window, before anything happens in it
    begun : what was begun before this was loaded
    """
    begun = begun or begin()
    instance = Instance()
    if not instance.take() and (minimised or instance.call()):
        return 0
    application = QApplication(sys.argv[:1])
    application.setApplicationName("denoise-app")
    application.setApplicationDisplayName("denoise-app")
    application.setDesktopFileName("denoise-app")
    # A window that hides in the tray, and a dialog closed meanwhile, are no end.
    application.setQuitOnLastWindowClosed(False)
    try:
        with log.kept(log.WINDOW):
            return _show(application, instance, begun, minimised, opened)
    finally:
        instance.leave()


def _show(
    application: QApplication,
    instance: Instance,
    begun: Begun,
    minimised: bool,
    opened: Callable[[MainWindow], None] | None,
) -> int:
    settings = begun.settings
    language.speak(application, settings.now.language)
    look = Look(application)
    look.wear(settings.now.theme)
    from app.window.link import Link
    from app.window.main_window import MainWindow
    from app.window.mishaps import Mishaps
    from app.window.shell import Shell
    from app.window.tray_place import TrayPlace

    window = MainWindow(Link(), begun.engine, settings)
    shell = Shell(window, settings, TrayPlace(window), look)
    # Queued: a signal may come before there is a loop to leave.
    window.has_quit.connect(application.quit, Qt.ConnectionType.QueuedConnection)
    # A desktop that ends wants windows closed, not hidden.
    application.commitDataRequest.connect(lambda _: window.quit())
    # Qt's timer runs often enough for Python to notice.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: window.quit())
    instance.called.connect(shell.come_forward)
    minimised = minimised or settings.now.start_minimised
    mishaps = Mishaps(shell.copy_diagnostics)
    with mishaps.caught():
        shell.start(minimised)
        instance.listen()
        if not minimised:
            window.explain_once()
        if opened is not None:
            opened(window)
        return int(application.exec())
