"""The commands that make models and gather sound for them: each module that has one describes it.

They need the packages of the extras ``train`` and ``acquire``, which the program does
without otherwise.
Not here: the work.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from types import ModuleType

COMMANDS = {
    "train": "train a model",
    "export": "write the model file of a training run",
    "evaluate": "measure how well a model is heard",
    "figures": "draw the curves of training runs side by side",
    "dataset": "make one file of folders of sound, and look into it",
    "explore": "describe a catalogue: hours, rates, quality, and how it sounds in figures",
    "acquire": "gather speech, noise and rooms into a folder and its catalogue",
}
"""Name of a command's module, and what the command does."""

_ROOMS = {"acquire": "acquisition"}
_EXTRAS = {"acquisition": "acquire", "training": "train"}


class MissingPackages(Exception):
    """The extra with the command's own packages is not installed."""


class NotGathered(Exception):
    """A command of ``acquisition`` could not do it."""


def run(command: str, arguments: Sequence[str]) -> None:
    """Do one of the commands.

    Raises
    ------
    MissingPackages : the command's own packages are not all there
    engine.errors.TrainingError, NotGathered : the command could not do it
    SystemExit : wrong usage, or help asked for
    """
    room = _ROOMS.get(command, "training")
    try:
        _run(importlib.import_module(f"{room}.{command}"), command, arguments)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("app", "engine", *_EXTRAS):
            raise
        raise MissingPackages(
            f"{command} needs {error.name}: install denoise-app with the extra '{_EXTRAS[room]}'"
        ) from error
    except Exception as error:
        from acquisition.errors import AcquisitionError

        if not isinstance(error, AcquisitionError):
            raise
        raise NotGathered(str(error)) from error


def _run(module: ModuleType, command: str, arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"denoise-app {command}", description=f"{COMMANDS[command].capitalize()}."
    )
    module.add_arguments(parser)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    module.run(args, sys.stdout.write)
