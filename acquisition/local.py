"""Recordings that lie in a folder already: they stay there, the catalogue learns of them.

Not here: what is told of each (``tracks``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from acquisition.catalogue import Catalogue
from acquisition.errors import AcquisitionError
from acquisition.tracks import KINDS, enter_files, group_of, sound_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="searched to any depth")
    add(
        "--kind",
        choices=KINDS,
        help=f"what is heard in it (default: what its folders {', '.join(KINDS)} are named for)",
    )
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
    folders = _folders(args.folder, args.kind)
    with Catalogue(catalogue) as opened:
        for kind, folder in folders.items():
            paths = sound_files(folder)
            if not paths:
                raise AcquisitionError(f"{folder}: holds no sound")
            describe = partial(_columns, args, kind)
            tell(f"{folder}: {kind}, {enter_files(opened, kind, paths, describe)}")


def _folders(folder: Path, kind: str | None) -> dict[str, Path]:
    """Which folder holds which kind; raises AcquisitionError when none is there."""
    if kind:
        return {kind: folder}
    found = {kind: folder / kind for kind in KINDS if (folder / kind).is_dir()}
    if not found:
        raise AcquisitionError(
            f"{folder}: has no folder {', '.join(KINDS)}: name its --kind, or one of them"
            if folder.is_dir()
            else f"{folder}: is not a folder"
        )
    return found


def _columns(args: argparse.Namespace, kind: str, path: Path) -> dict[str, Any]:
    """Of a file's row."""
    origin = {"licence": args.licence, "source": f"local: {args.folder.resolve()}"}
    group = group_of(path, args.by_folder)
    if kind != "speech":
        return {"name": group, **origin}
    name = f"{path.parent.name}/{path.name}"
    return {"name": name, "speaker": group, "book_language": args.language, **origin}
