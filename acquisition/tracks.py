"""From a sound file that lies there to its row in the catalogue.

Not here: where files come from, nor what is done with them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from acquisition.catalogue import DELETED, OK, Catalogue
from acquisition.downloads import sha256_of
from acquisition.errors import AcquisitionError
from acquisition.quality import Quality, measure
from acquisition.workers import end_with_parent

log = logging.getLogger("acquisition")

SUFFIXES = frozenset({".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""What is taken for sound in a folder."""

KINDS = ("speech", "noise", "rir")
"""Voices, noises, and room impulse responses."""

_TABLES = {"speech": "audio_books_tracks", "noise": "noise_files", "rir": "room_responses"}

_BLOCK = 1 << 18

# What sound is stored at [Hz]; outside of it a header lies.
_LEAST_RATE, _MOST_RATE = 1_000, 1_000_000
_MOST_CHANNELS = 64
_ABSURD = 1e4

# A kill loses so many files' reading at most.
_AT_ONCE = 64

# A number or a capital letter after the last dash or underscore counts pieces of one
# recording: kathleen_017, rain_2, 1-48413-A.
_PIECE = re.compile(r"[-_](\d+|[A-Z])$")


@dataclass(frozen=True, slots=True)
class Track:
    """What is known of a sound file after it was read to its end."""

    path: Path
    sha256: str
    channels: int
    sample_rate: int
    """[Hz]"""
    duration_s: float
    quality: Quality
    """Of all channels together."""


def sound_files(folder: Path) -> list[Path]:
    """Every sound file below a folder, in the order of their names; hidden ones left out.

    Raises AcquisitionError when it is no folder.
    """
    if not folder.is_dir():
        raise AcquisitionError(f"{folder}: is not a folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_track(path: Path) -> Track:
    """Read a file to its end; raises AcquisitionError when it is no sound, or too short."""
    try:
        if path.stat().st_size == 0:
            raise AcquisitionError(f"{path}: is empty")
        with soundfile.SoundFile(path) as file:
            n, rate = 0, file.samplerate
            if not _LEAST_RATE <= rate <= _MOST_RATE:
                raise AcquisitionError(f"{path}: a rate of {rate} Hz is no sound's")
            if file.channels > _MOST_CHANNELS:
                raise AcquisitionError(f"{path}: has {file.channels} channels")

            def blocks() -> Iterator[Any]:
                nonlocal n
                while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                    n += len(block)
                    # Full scale is 1: integers stored as floats, or garbage; False for a NaN too.
                    if not np.abs(block).max() < _ABSURD:
                        raise AcquisitionError(f"{path}: is no sound: samples are far beyond ±1")
                    yield block.mean(axis=1)

            quality = measure(blocks(), rate)
            channels = file.channels
    except soundfile.LibsndfileError as error:
        reason = " ".join(str(error.error_string).split()).rstrip(".")
        raise AcquisitionError(f"{path}: is no sound: {reason}") from error
    except ValueError as error:
        raise AcquisitionError(f"{path}: {error}") from error
    except OSError as error:
        raise AcquisitionError(f"{path}: cannot be read: {error.strerror or error}") from error
    return Track(path, sha256_of(path), channels, rate, n / rate, quality)


def read_tracks(paths: Sequence[Path], workers: int = 0) -> Iterator[Track | AcquisitionError]:
    """Read files on several cores, in their order; what cannot be read gives its error.

    Parameters
    ----------
    workers : processes; 0 means one per core
    """
    workers = min(workers or os.cpu_count() or 1, max(1, len(paths) // 4))
    if workers == 1:
        yield from map(_try_to_read, paths)
        return
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        yield from pool.map(_try_to_read, paths, chunksize=4)


class Entered(NamedTuple):
    """What became of some files."""

    new: int
    known: int
    skipped: int
    hours: float
    """Of the new ones [h]."""

    def __str__(self) -> str:
        told = f"{self.new} new ({self.hours:.2f} h), {self.known} known"
        return told + (f", {self.skipped} skipped" if self.skipped else "")


def enter_files(
    catalogue: Catalogue,
    kind: str,
    paths: Sequence[Path],
    describe: Callable[[Path], Mapping[str, Any]],
    workers: int = 0,
    trusted: bool = False,
) -> Entered:
    """Read many files and enter them, some at a time: a kill loses little.

    What cannot be read is named, skipped and counted.

    Parameters
    ----------
    describe : ``name`` and further columns of a file, as ``enter`` takes them
    workers : processes that read; 0 means one per core
    trusted : nobody changes these files: those that the catalogue has are not read again
    """
    new = known = skipped = 0
    hours = 0.0
    if trusted:
        table, prefix = _TABLES[kind], "track_" if kind == "speech" else ""
        there = {row[f"{prefix}path"] for row in catalogue.find(table, **{f"{prefix}status": OK})}
        known = len(paths)
        paths = [path for path in paths if stored_path(catalogue, path) not in there]
        known -= len(paths)
    reading = read_tracks(paths, workers)
    with tqdm(total=len(paths), unit="file", disable=None) as bar:
        while some := list(islice(reading, _AT_ONCE)):
            with catalogue.transaction():
                for track in some:
                    if isinstance(track, AcquisitionError):
                        log.warning("skipped: %s", track)
                        skipped += 1
                    elif enter(catalogue, kind, track, **describe(track.path)):
                        new, hours = new + 1, hours + track.duration_s / 3600.0
                    else:
                        known += 1
            bar.update(len(some))
    return Entered(new, known, skipped, hours)


def group_of(path: Path, by_folder: bool) -> str:
    """Who or what is heard in a file, by its name: what must not cross the sides of a split.

    Parameters
    ----------
    by_folder : all files of a folder belong together; else those whose names count pieces

    Examples
    --------
    >>> group_of(Path("noise/esc10/Rain__1-48413-A.opus"), by_folder=False)
    'esc10/Rain__1-48413'
    >>> group_of(Path("DEMAND/DKITCHEN/ch01.wav"), by_folder=True)
    'DEMAND/DKITCHEN'
    """
    folder = path.parent
    if by_folder:
        return f"{folder.parent.name}/{folder.name}"
    return f"{folder.name}/{_PIECE.sub('', path.stem)}"


def enter(catalogue: Catalogue, kind: str, track: Track, name: str, **columns: Any) -> bool:
    """Enter a file, unless the catalogue knows it; returns whether it was new.

    A file that replaced another of that path gets a row of its own, and the old row the
    status DELETED: models were trained on what it tells of. Call it inside a transaction.

    Parameters
    ----------
    kind : one of ``KINDS``
    name : of the track or noise
    columns : more, by their names in the table. A track of speech may be in several books:
        it has a row for each ``book_url``
    """
    table, prefix = _TABLES[kind], "track_" if kind == "speech" else ""
    stored = stored_path(catalogue, track.path)
    where: dict[str, Any] = {f"{prefix}path": stored, f"{prefix}status": OK}
    if kind == "speech":
        where["book_url"] = columns.get("book_url")
    for row in catalogue.find(table, **where):
        if row["sha256"] == track.sha256:
            return False
        catalogue.change(table, {"id": row["id"]}, **{f"{prefix}status": DELETED})
    found: dict[str, Any] = {
        "name": name,
        "path": stored,
        "channels": track.channels,
        "sample_rate": track.sample_rate,
        "duration": round(track.duration_s, 3),
    }
    if kind != "rir":  # a response has no noise of its own to speak of
        found |= {
            "clipped": track.quality.clipped,
            "bandwidth": round(track.quality.bandwidth_hz),
            "silence": round(track.quality.silence, 4),
        }
    if kind == "speech":
        found["snr"] = round(track.quality.snr_db, 1)
    found = {f"{prefix}{column}": value for column, value in found.items()}
    catalogue.add(table, **found, sha256=track.sha256, **columns)
    return True


def stored_path(catalogue: Catalogue, path: Path) -> str:
    """A path as the catalogue has it: relative to its folder where it lies below that."""
    folder, path = catalogue.path.resolve().parent, path.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _try_to_read(path: Path) -> Track | AcquisitionError:
    """An exception would end the whole pool."""
    try:
        return read_track(path)
    except AcquisitionError as error:
        return error
