"""``denoise-app acquire``: where sound can be gathered from, a sub-command each.

Each source is a module with ``add_arguments`` and ``run``. Not here: how a source is asked.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

SOURCES = {
    "noise": "noises from a table of named recordings, through yt-dlp",
    "corpus": "open corpora of speech, noise and rooms",
    "librivox": "read books, from LibriVox, in any of its languages",
    "local": "recordings that lie in a folder already",
    "synthetic": "speech that a synthesiser reads from a text",
}
"""Name of a source, and of its module, and what it gives."""

CATALOGUE = "catalogue.sqlite"
"""Name of the catalogue in the folder of what is gathered."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    sources = parser.add_subparsers(dest="source", metavar="SOURCE", required=True)
    for name, what in SOURCES.items():
        one = sources.add_parser(name, help=what, description=f"Gather {what}.")
        one.add_argument(
            "--into",
            type=Path,
            default=Path("gathered"),
            metavar="DIR",
            help=f"where files go, and {CATALOGUE} with all that is known of them "
            "(default: %(default)s)",
        )
        importlib.import_module(f"acquisition.{name}").add_arguments(one)


def run(args: argparse.Namespace, write: Callable[[str], object]) -> None:
    """Gather; ``write`` is told what came of it.

    Raises
    ------
    acquisition.errors.AcquisitionError : it could not be done; what was gathered stays
    """
    importlib.import_module(f"acquisition.{args.source}").run(
        args, args.into / CATALOGUE, lambda line: write(f"{line}\n")
    )
