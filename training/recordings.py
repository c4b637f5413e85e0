"""Folders of sound, decoded once to the model's rate and kept as int16 beside the run.

Decides as well which recordings are held out, so that no voice and no noise is ever
on both sides. Not here: what is done with the samples (``mixing``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from acquisition.workers import end_with_parent
from engine.errors import TrainingError
from engine.stft import Float
from training.files import replace_file, replacing

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""What is taken for sound in a folder; everything else there is passed over."""

# A number or a capital letter after the last dash or underscore counts pieces of one
# recording: kathleen_017, rain_2, 1-48413-A.
_PIECE = re.compile(r"[-_](\d+|[A-Z])$")

# Shorter than one frame of any model is nothing to learn from.
_SHORTEST_S = 0.05

# What is decoded lies in memory once: 4 GB at 48 kHz.
_LONGEST_S = 12 * 3600.0

# What sound is stored at [Hz]; outside of it a header lies.
_LEAST_RATE, _MOST_RATE = 1_000, 1_000_000
_MOST_CHANNELS = 64
_ABSURD = 1e4

# libsndfile's code for what is no fault of the file.
_SYSTEM_ERROR = 2

# Samples that are decoded at a time: 5 s at 48 kHz.
_BLOCK = 1 << 18

# Sound decoded by other rules must not be taken for these rules'.
_RULES = 3

# After the samples comes a checksum that their index repeats, as long as so many of them.
_MARK = hashlib.sha256().digest_size // 2


class Samples(Protocol):
    """A waveform that is read where it is asked for: an array, or what lies in a file."""

    def __len__(self) -> int:
        """All of it [samples]."""

    def __getitem__(self, wanted: slice, /) -> NDArray[np.int16]:
        """(n_samples,) of a slice without a step."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One decoded file."""

    name: str
    """Folder and file name."""
    source: str
    """The voice or the recording it was cut from; never on both sides of a split."""
    samples: Samples
    """(n_samples,) int16 mono, full scale ±32768; read-only, on disk until it is used."""


@dataclass(frozen=True, slots=True)
class Collection:
    """All recordings of some folders, at one rate."""

    sample_rate: int
    """[Hz]"""
    recordings: tuple[Recording, ...]
    skipped: tuple[str, ...]
    """``name: reason`` of every file that could not be read."""

    @property
    def hours(self) -> float:
        """Length of it all [h]."""
        return sum(len(r.samples) for r in self.recordings) / self.sample_rate / 3600.0


def source_of(path: Path) -> str:
    """Who or what is heard in a file, told from its folder and its name.

    Examples
    --------
    >>> source_of(Path("speech/kathleen/kathleen_017.opus"))
    'kathleen/kathleen'
    >>> source_of(Path("speech/librispeech/061.opus"))
    'librispeech/061'
    >>> source_of(Path("noise/esc10/Rain__1-48413-A.opus"))
    'esc10/Rain__1-48413'
    """
    return f"{path.parent.name}/{_PIECE.sub('', path.stem)}"


def name_of(path: Path) -> str:
    """What a file is called in lists and logs: its folder and its name."""
    return f"{path.parent.name}/{path.name}"


def load(folders: Sequence[Path], sample_rate: int, cache: Path, workers: int = 0) -> Collection:
    """Decode every sound file below some folders, or take what an earlier call decoded.

    Parameters
    ----------
    folders : searched to any depth, in the order of their names
    sample_rate : the files are converted to it [Hz]
    cache : ``<cache>.pcm`` and ``<cache>.json`` are written; they are made anew when the
        files, their sizes or the rate are others, when the one is not of the other, or when
        the system gives a file that it withheld
    workers : processes that decode; 0 means one per core

    Raises
    ------
    engine.errors.TrainingError : a folder is missing, or there is nothing readable in all of them
    """
    paths = sound_files(folders)
    wanted: dict[str, Any] = {
        "rules": _RULES,
        "sample_rate": sample_rate,
        "files": [[str(path), _size(path)] for path in paths],
    }
    index, pcm = _kept(cache, wanted) or _decode_all(paths, cache, wanted, workers)
    for reason in index["skipped"]:
        log.warning("skipped %s", reason)
    if not index["recordings"]:
        raise TrainingError(f"no readable sound in {', '.join(map(str, folders))}")
    recordings = tuple(
        Recording(name, source, pcm[start : start + length])
        for name, source, start, length in index["recordings"]
    )
    return Collection(sample_rate, recordings, tuple(index["skipped"]))


def _size(path: Path) -> int:
    """Bytes of a file; 0 where a link leads nowhere, which decoding will find too."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def united(sources: Sequence[str], contents: Sequence[str]) -> list[str]:
    """The source of each recording, those that hold the same recording under one name.

    Parameters
    ----------
    contents : the same text for recordings that are the same, as a checksum

    Examples
    --------
    >>> united(["esc10/Rain", "esc50/17367", "esc50/17367"], ["a", "a", "b"])
    ['esc10/Rain', 'esc10/Rain', 'esc10/Rain']
    """
    first: dict[str, str] = {}
    of = {source: source for source in sources}

    def name(source: str) -> str:
        while of[source] != source:
            source = of[source]
        return source

    for source, content in zip(sources, contents, strict=True):
        kept, other = sorted((name(first.setdefault(content, source)), name(source)))
        of[other] = kept
    return [name(source) for source in sources]


def split(collection: Collection, held_out: float) -> tuple[Collection, Collection]:
    """Part a collection by source into what is trained on and what is held out.

    The order is a checksum of the source's name: the same for every run and seed, and
    adding files moves none of the others more than it must. A source that would take
    more than is left of the share stays in training.

    Parameters
    ----------
    held_out : upper bound of the second part, as a share of the whole length, in [0, 1)
    """
    lengths: dict[str, int] = {}
    for recording in collection.recordings:
        lengths[recording.source] = lengths.get(recording.source, 0) + len(recording.samples)
    room = held_out * sum(lengths.values())
    out = set()
    for source in sorted(lengths, key=lambda name: (zlib.crc32(name.encode()), name)):
        if lengths[source] <= room:
            out.add(source)
            room -= lengths[source]
    return (
        _only(collection, (r for r in collection.recordings if r.source not in out)),
        _only(collection, (r for r in collection.recordings if r.source in out)),
    )


Side = tuple[Collection, Collection, Collection | None]
"""Speech, noise and rooms of one side of a split."""


def summary(sides: Sequence[Side]) -> dict[str, Any]:
    """What a model's description tells of the sound that it learnt from."""
    both = [collection for side in sides for collection in side[:2]]
    return {
        "speech_hours": round(sum(side[0].hours for side in sides), 2),
        "noise_hours": round(sum(side[1].hours for side in sides), 2),
        "rooms": sum(len(side[2].recordings) for side in sides if side[2] is not None),
        "skipped_files": sum(len(collection.skipped) for collection in sides[0][:2]),
        "data": sorted({r.name.split("/")[0] for c in both for r in c.recordings}),
    }


def decode(path: Path, sample_rate: int) -> NDArray[np.int16]:
    """Read a file, mixed to mono, at a rate: (n_samples,) int16.

    Raises TrainingError when it is no sound, too short, or silent.
    """
    pieces: list[NDArray[np.int16]] = []
    n_samples, heard = 0, False
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise TrainingError(f"{path}: is no file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if not _LEAST_RATE <= rate <= _MOST_RATE:
                raise TrainingError(f"{path}: a rate of {rate} Hz is no sound's")
            if file.channels > _MOST_CHANNELS:
                raise TrainingError(f"{path}: has {file.channels} channels")
            stream = soxr.ResampleStream(rate, sample_rate, 1)
            # Piece by piece: an audiobook's chapter in float32 takes gigabytes.
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                mono = block.mean(axis=1)
                if not np.isfinite(mono).all():
                    raise TrainingError(f"{path}: is not finite")
                if np.abs(mono).max() > _ABSURD:  # integers stored as floats, or garbage
                    raise TrainingError(f"{path}: has samples far beyond ±1")
                n_samples, heard = n_samples + len(mono), heard or bool(mono.any())
                if n_samples > _LONGEST_S * rate:
                    raise TrainingError(f"{path}: is longer than {_LONGEST_S / 3600:.0f} h; cut it")
                pieces.append(_as_int16(stream.resample_chunk(mono)))
            pieces.append(_as_int16(stream.resample_chunk(np.zeros(0, np.float32), last=True)))
    except (soundfile.LibsndfileError, OSError) as error:
        raise TrainingError(f"{path}: {error}") from error
    if n_samples < _SHORTEST_S * rate:
        raise TrainingError(f"{path}: only {n_samples} samples long")
    if not heard:
        raise TrainingError(f"{path}: is silent")
    return np.concatenate(pieces)


def _as_int16(sound: Float) -> NDArray[np.int16]:
    return np.clip(np.round(sound * np.float32(32768.0)), -32768, 32767).astype(np.int16)


def sound_files(folders: Sequence[Path]) -> list[Path]:
    """Every sound file below some folders, folder by folder in the order of their names.

    One whose name is no text, as from an old archive, is left out with a warning. Raises
    TrainingError when one is no folder.
    """
    paths: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise TrainingError(f"{folder} is not a folder")
        found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        paths.extend(path for path in sorted(found) if _has_text_for_name(path))
    return paths


def _has_text_for_name(path: Path) -> bool:
    shown = str(path).encode(errors="backslashreplace").decode()
    if shown != str(path):
        log.warning("skipped %s: its name is no text", shown)
    return shown == str(path)


def _only(collection: Collection, recordings: Iterable[Recording]) -> Collection:
    return Collection(collection.sample_rate, tuple(recordings), collection.skipped)


def withheld(error: Exception) -> bool:
    """Whether a file could not be read whatever is in it: for want of rights, a disk, memory."""
    cause = error.__cause__ or error
    return isinstance(cause, OSError) or getattr(cause, "code", None) == _SYSTEM_ERROR


def _try_decode(job: tuple[Path, int]) -> NDArray[np.int16] | tuple[str, bool]:
    """The samples, or why there are none, and whether the system withheld them.

    An exception would end the whole pool.
    """
    try:
        return decode(*job)
    except TrainingError as error:
        return str(error), withheld(error)


def _decode_all(
    paths: Sequence[Path], cache: Path, wanted: dict[str, Any], workers: int
) -> tuple[dict[str, Any], NDArray[np.int16]]:
    """Write one file of all samples, and where each recording lies in it; return both."""
    recordings: list[tuple[str, str, int, int]] = []
    checksums: list[str] = []
    skipped: list[str] = []
    unread: list[str] = []
    position = 0
    cache.parent.mkdir(parents=True, exist_ok=True)
    workers = min(workers or os.cpu_count() or 1, max(1, len(paths)))
    with replacing(cache.with_suffix(".pcm"), shared=True) as part:
        with (
            part.open("wb") as file,
            ProcessPoolExecutor(workers, initializer=end_with_parent) as pool,
        ):
            jobs = [(path, wanted["sample_rate"]) for path in paths]
            for path, samples in zip(paths, pool.map(_try_decode, jobs, chunksize=4), strict=True):
                if isinstance(samples, tuple):
                    reason, of_system = samples
                    skipped.append(reason)
                    unread += [str(path)] * of_system
                    continue
                recordings.append((name_of(path), source_of(path), position, len(samples)))
                content = samples.tobytes()
                checksums.append(hashlib.sha256(content).hexdigest())
                file.write(content)
                position += len(samples)
            mark = hashlib.sha256("".join(checksums).encode())
            file.write(mark.digest())
        # Before it has its name: another process may put its own in that place.
        pcm = np.memmap(part, np.int16, mode="r")
    sources = united([source for _, source, *_ in recordings], checksums)
    placed = [(name, s, *place) for s, (name, _, *place) in zip(sources, recordings, strict=True)]
    index = wanted | {"recordings": placed, "mark": mark.hexdigest()}
    index |= {"skipped": skipped, "unread": unread}
    replace_file(cache.with_suffix(".json"), json.dumps(index).encode())
    return index, pcm


def _kept(cache: Path, wanted: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.int16]] | None:
    """What an earlier call decoded, unless it was of other files or is not whole."""
    index = _read_index(cache.with_suffix(".json"))
    if index is None or any(index.get(key) != value for key, value in wanted.items()):
        return None
    if any(os.access(path, os.R_OK) for path in index["unread"]):
        return None
    try:
        pcm = np.memmap(cache.with_suffix(".pcm"), np.int16, mode="r")
    except (OSError, ValueError):
        return None
    # A kill between the two, or another process, leaves one beside samples of other files.
    return (index, pcm) if pcm[-_MARK:].tobytes().hex() == index["mark"] else None


def _read_index(path: Path) -> dict[str, Any] | None:
    try:
        index = json.loads(path.read_text())
    except (OSError, ValueError):
        return None  # not there, or cut off: decode again
    return index if isinstance(index, dict) else None
