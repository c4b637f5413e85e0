"""``denoise-app`` alone: the window. It steers the engine's process and shows what it does.

The sound lives in another process, so a window that hangs or crashes costs pictures, never a
word. Nothing of Qt is loaded before ``run``. Not here: the sound (``engine``), what answers
(``app.service``).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.window.main_window import MainWindow


class NoWindow(Exception):
    """A window cannot be opened here; one line says why."""


def run(args: argparse.Namespace, opened: Callable[[MainWindow], None] | None = None) -> int:
    """Show the window until it is closed; raises NoWindow.

    Parameters
    ----------
    opened : told the window, before anything happens in it
    """
    if importlib.util.find_spec("PySide6") is None:
        raise NoWindow(
            "the window needs the extra “gui”: pip install 'denoise-app[gui]'; "
            "denoise-app --device works without"
        )
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        raise NoWindow("there is no desktop to open a window on; try denoise-app --device")
    from app.window.beginning import begin

    begun = begin()
    try:
        from app.window.opening import open_window
    except ImportError as error:
        begun.engine.end(lambda: None)
        if error.name is not None and error.name.split(".")[0] in ("app", "engine"):
            raise
        raise NoWindow(
            f"Qt does not load: {error}; `make system` installs what it needs on Debian"
        ) from error
    return open_window(args.minimised, opened, begun)
