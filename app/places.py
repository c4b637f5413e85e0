"""Folders in which the program keeps what is the user's: settings, logs.

Those the desktop names (XDG base directories), or what comes nearest elsewhere. Not here:
what lies in them, and where running programs meet (``engine.control``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAME = "denoise-app"


def settings_folder() -> Path:
    """Of what the user has chosen; it need not be there yet."""
    return _folder("XDG_CONFIG_HOME", ".config", "APPDATA", "Library/Application Support")


def state_folder() -> Path:
    """Of logs; it need not be there yet."""
    return _folder("XDG_STATE_HOME", ".local/state", "LOCALAPPDATA", "Library/Logs")


def _folder(variable: str, below_home: str, on_windows: str, on_macos: str) -> Path:
    return base(variable, below_home, on_windows, on_macos) / NAME


def base(variable: str, below_home: str, on_windows: str, on_macos: str) -> Path:
    """A base directory; the standard says that a path which is not absolute is none."""
    if sys.platform == "win32":
        chosen = os.environ.get(on_windows, "")
    else:
        chosen = os.environ.get(variable, "")
    if os.path.isabs(chosen):
        return Path(chosen)
    return Path.home() / (on_macos if sys.platform == "darwin" else below_home)
