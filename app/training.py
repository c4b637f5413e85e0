"""The commands that make models: each module of ``training`` that has one describes it itself.

They need the packages of the extra ``train``, which the program does without otherwise.
Not here: the work.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": "train a model",
    "export": "write the model file of a training run",
    "evaluate": "measure how well a model is heard",
    "figures": "draw the curves of training runs side by side",
    "dataset": "make one file of folders of sound, and look into it",
}
"""Name of a module of ``training``, and what its command does."""


class MissingPackages(Exception):
    """The extra ``train`` is not installed."""


def run(command: str, arguments: Sequence[str]) -> None:
    """Do one of the commands.

    Raises
    ------
    MissingPackages : training's own packages are not all there
    engine.errors.TrainingError : the command could not do it
    SystemExit : wrong usage, or help asked for
    """
    try:
        module = importlib.import_module(f"training.{command}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("app", "engine", "training"):
            raise
        raise MissingPackages(
            f"{command} needs {error.name}: install denoise-app with the extra 'train'"
        ) from error
    parser = argparse.ArgumentParser(
        prog=f"denoise-app {command}", description=f"{COMMANDS[command].capitalize()}."
    )
    module.add_arguments(parser)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    module.run(args, sys.stdout.write)
