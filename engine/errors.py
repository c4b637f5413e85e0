"""What can go wrong at the engine's frontiers, one exception each.

Every message is one line that says what was found, what was wanted and what to do:
the command line prints it as it is.
"""

from __future__ import annotations


class ModelError(Exception):
    """A model that cannot be used, or that failed."""


class AudioFileError(Exception):
    """A file that cannot be read or written as sound."""


class DeviceError(Exception):
    """A sound device or sound server that is missing or refused."""


class ControlError(Exception):
    """A running session that cannot be asked, or another one that runs already."""


class TrainingError(ValueError):
    """Data, settings or a run that no model can be made of."""
