"""What begins before Qt is loaded: the engine takes longest until there is a picture.

Not here: the window (``opening``).
"""

from __future__ import annotations

from dataclasses import dataclass

from app.window.engine_process import EngineProcess, start_options
from app.window.settings_file import SettingsFile
from engine.control import ControlClient
from engine.errors import ControlError


@dataclass(frozen=True, slots=True)
class Begun:
    """What a window is opened with."""

    settings: SettingsFile
    engine: EngineProcess


def begin() -> Begun:
    """Read the settings, and start an engine by them where no session answers.

    Where a window runs already, and its engine has just died, this one comes in its place.
    """
    begun = Begun(SettingsFile(), EngineProcess())
    if not _session_answers():
        begun.engine.look(False, *start_options(begun.settings.now.current.wishes()))
    return begun


def _session_answers() -> bool:
    try:
        with ControlClient(timeout_s=0.5):
            return True
    except ControlError:
        return False
