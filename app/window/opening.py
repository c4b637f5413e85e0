"""Opens the window. While the engine starts, which takes longest, the parts are loaded."""

from __future__ import annotations

import signal
import sys

from PySide6.QtWidgets import QApplication

from app.window import language
from app.window.engine_process import EngineProcess, start_options
from app.window.settings_file import SettingsFile
from app.window.themes import Look
from engine.control import ControlClient
from engine.errors import ControlError


def open_window() -> int:
    """Show the window until it is closed; returns the exit code."""
    application = QApplication(sys.argv[:1])
    application.setApplicationName("denoise-app")
    application.setApplicationDisplayName("denoise-app")
    application.setDesktopFileName("denoise-app")
    settings = SettingsFile()
    engine = EngineProcess()
    if not _session_answers():
        engine.look(False, *start_options(settings.now.current.wishes()))
    language.speak(application, settings.now.language)
    Look(application).wear(settings.now.theme)
    from app.window.link import Link
    from app.window.main_window import MainWindow

    window = MainWindow(Link(), engine, settings)
    # Qt's timer runs often enough for Python to notice.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: window.quit())
    window.show()
    window.explain_once()
    return int(application.exec())


def _session_answers() -> bool:
    try:
        with ControlClient(timeout_s=0.5):
            return True
    except ControlError:
        return False
