"""Recordings that lie in a folder already: they stay there, the catalogue learns of them.

Not here: what is told of each (``tracks``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acquisition.catalogue import Catalogue
from acquisition.errors import AcquisitionError
from acquisition.tracks import KINDS, enter_files, group_of, sound_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="searched to any depth")
    add("--kind", choices=KINDS, required=True, help="what is heard in it")
    add("--licence", help="under which it may be used, as CC-BY-4.0")
    add("--language", help="of speech, as english")
    add(
        "--by-folder",
        action="store_true",
        help="all files of a folder are one voice or one noise, and stay on one side of a "
        "split; without, only files whose names count pieces are: rain_1, rain_2",
    )


def run(args: argparse.Namespace, catalogue: Path, tell: Callable[[str], object]) -> None:
    """Enter a folder's files; see ``acquire.run``."""
    paths = sound_files(args.folder)
    if not paths:
        raise AcquisitionError(f"{args.folder}: holds no sound")
    origin = {"licence": args.licence, "source": f"local: {args.folder.resolve()}"}

    def describe(path: Path) -> dict[str, Any]:
        group = group_of(path, args.by_folder)
        if args.kind != "speech":
            return {"name": group, **origin}
        name = f"{path.parent.name}/{path.name}"
        return {"name": name, "speaker": group, "book_language": args.language, **origin}

    with Catalogue(catalogue) as opened:
        tell(f"{args.folder}: {enter_files(opened, args.kind, paths, describe)}")
