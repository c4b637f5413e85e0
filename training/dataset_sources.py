"""Which files a dataset is made of: of folders, or of a catalogue, as good as is asked for.

Not here: what is made of them (``dataset_pcm``), how a catalogue is filled (``acquisition``).
"""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from acquisition.catalogue import OK, Catalogue, CatalogueError
from engine.errors import TrainingError
from training.recordings import sound_files, source_of

log = logging.getLogger(__name__)

_IN_CATALOGUE = {
    "speech": ("audio_books_tracks", "track_"),
    "noise": ("noise_files", ""),
    "rooms": ("room_responses", ""),
}
"""Table of each kind, and how its columns' names begin."""


class SoundFile(NamedTuple):
    """A file to be part of a dataset."""

    path: Path
    source: str
    """The voice or the recording it was cut from; never on both sides of a split."""
    licence: str


class Wanted(NamedTuple):
    """What a track of a catalogue should be like; of noises and rooms only the licence counts."""

    snr_db: float = -math.inf
    """At least, as estimated [dB]."""
    bandwidth_hz: float = 0.0
    """At least [Hz]."""
    clipped: float = 1.0
    """Share of samples at most."""
    licences: tuple[str, ...] = ()
    """One of these, in upper or lower case; none: any, or one that is not known."""

    def admits(self, row: Any, is_track: bool) -> bool:
        """Whether a row is wanted; one that was never judged is not, where that is asked for."""
        licence = (row["licence"] or "").casefold()
        if self.licences and licence not in (name.casefold() for name in self.licences):
            return False
        if not is_track:
            return True
        return (
            (row["track_snr"] or 0.0) >= self.snr_db
            and (row["track_bandwidth"] or 0.0) >= self.bandwidth_hz
            and (row["track_clipped"] is not None or self.clipped >= 1.0)
            and (row["track_clipped"] or 0.0) <= self.clipped
        )


def in_folders(folders: Sequence[Path]) -> list[SoundFile]:
    """All sound files below some folders, each once.

    Raises TrainingError when a folder is missing or there is no sound file.
    """
    # ``resolve`` would end at a link that leads to itself.
    paths = list(dict.fromkeys(Path(os.path.realpath(path)) for path in sound_files(folders)))
    if not paths:
        raise TrainingError(f"no sound in {', '.join(map(str, folders))}")
    licences = {folder: _licence(folder) for folder in {path.parent for path in paths}}
    return [SoundFile(path, source_of(path), licences[path.parent]) for path in paths]


def in_catalogue(path: Path, kind: str, wanted: Wanted | None = None) -> list[SoundFile]:
    """The recordings of a catalogue whose status is OK.

    Parameters
    ----------
    path : of the catalogue; paths in it are relative to its folder
    kind : one of KINDS
    wanted : which of them, all unless it is given

    Returns
    -------
    speech has its speaker as source or, where that is not known, its book. Files that
    are not there any more are among them: a build names and skips those.

    Raises
    ------
    engine.errors.TrainingError : no such catalogue, or nothing of the kind in it, but for rooms
    """
    if not path.is_file():
        raise TrainingError(f"{path}: no such file")
    table, prefix = _IN_CATALOGUE[kind]
    try:
        with Catalogue(path) as catalogue:
            rows = catalogue.find(table, **{f"{prefix}status": OK})
    except CatalogueError as error:
        raise TrainingError(str(error)) from error
    folder = path.resolve().parent
    there = [row for row in rows if row[f"{prefix}path"]]
    chosen = [row for row in there if (wanted or Wanted()).admits(row, bool(prefix))]
    if not chosen and kind != "rooms":
        why = f"none of its {len(there)} is as wanted" if there else f"holds no file of {kind}"
        raise TrainingError(f"{path}: {kind}: {why}" if there else f"{path}: {why}")
    if len(chosen) < len(there):
        log.info("%s: %d of %d are as wanted", kind, len(chosen), len(there))
    files = []
    for row in chosen:
        file = (folder / row[f"{prefix}path"]).resolve()
        source = (row["speaker"] or _book(row)) if prefix else row["name"]
        files.append(SoundFile(file, source or source_of(file), row["licence"] or ""))
    return files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe to a parser what a catalogue is asked for."""
    add = parser.add_argument
    add(
        "--catalogue",
        type=Path,
        metavar="SQLITE",
        help="speech, noise and rooms that were gathered, beside any folders",
    )
    add("--min-snr", type=float, metavar="DB", help="of its speech, as estimated [dB]")
    add("--min-bandwidth", type=float, metavar="HZ", help="of its speech [Hz]")
    add("--max-clipped", type=float, metavar="SHARE", help="of the samples of its speech, 0…1")
    add(
        "--licences",
        nargs="+",
        metavar="LICENCE",
        help="take nothing else from it, as CC0-1.0 CC-BY-4.0",
    )


def wanted_of(args: argparse.Namespace) -> Wanted:
    """What the arguments ask a catalogue for; raises TrainingError where none is given."""
    asked = {
        "snr_db": args.min_snr,
        "bandwidth_hz": args.min_bandwidth,
        "clipped": args.max_clipped,
        "licences": args.licences and tuple(args.licences),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if given and not args.catalogue:
        raise TrainingError(
            "--min-snr, --min-bandwidth, --max-clipped and --licences ask a --catalogue"
        )
    return Wanted(**given)


def _book(row: Any) -> str:
    return "/".join(part for part in (row["book_author"], row["book_name"]) if part)


def _licence(folder: Path) -> str:
    """The first line of a licence that lies in a folder, or nothing."""
    for path in sorted(folder.iterdir()):
        if path.stem.upper() in ("LICENSE", "LICENCE", "COPYING") and path.is_file():
            lines = path.read_text("utf-8", errors="replace").splitlines()
            return next((line.strip() for line in lines if line.strip()), "")
    return ""
