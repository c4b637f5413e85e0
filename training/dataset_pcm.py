"""Layout ``pcm``: every recording once, as int16 at one rate, with where it came from.

The file joins its shards by one virtual dataset per kind of sound; its table says where
each recording lies in it and on which side of the split it is. Mixtures are made while
training, so a recording is stored once however often it is heard. Not here: the mixing.

::

    /speech/samples      (n,) int16, virtual        and the same below /noise and /rooms
    /speech/recordings   name, source, split, sha256, licence, start, length
    /speech/shards       file, start, length
    /speech/skipped      "name: reason" of each file that could not be read
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile
from numpy.typing import NDArray

from engine.errors import TrainingError
from engine.stft import Float
from training.dataset_build import (
    FORMAT,
    UNREAD,
    check_shards,
    opened_as,
    shard_folder,
    shard_name,
    write_file,
)
from training.dataset_sources import SoundFile
from training.mixing import Mixer
from training.recordings import (
    Collection,
    Recording,
    decode,
    name_of,
    split,
    united,
    withheld,
)
from training.rooms import of_side

LAYOUT = "pcm"
KINDS = ("speech", "noise", "rooms")
SPLITS = ("train", "valid", "test")

# Shuffled bytes of 1.5 s deflate to 0.66 of their size at 11 kHz, 0.58 at 48 kHz (measured);
# chunks of a quarter of it to 0.70, level 9 to 0.656 at a sixth of the speed.
_CHUNK = 16_384
_STORAGE: dict[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 4}

# What is read is inflated in pieces of four chunks, and this many pieces are kept: 512 MiB,
# 6.7 h at 11 kHz. Mixing draws some five excerpts for a clip, each 0.3 ms to inflate.
_BLOCK = 4 * _CHUNK
_KEPT_BLOCKS = 4096

_TEXT = h5py.string_dtype()
_SOUND = [("name", _TEXT), ("source", _TEXT), ("sha256", _TEXT), ("licence", _TEXT)]
_PLACE = [("start", "<i8"), ("length", "<i8")]
_IN_SHARD = np.dtype([*_SOUND, *_PLACE])
_JOINED = np.dtype([*_SOUND, ("split", _TEXT), *_PLACE])
_SHARDS = np.dtype([("file", _TEXT), *_PLACE])


@dataclass(frozen=True, slots=True)
class SoundShard:
    """Some files of one kind, to be decoded by one task."""

    kind: str
    """One of KINDS."""
    index: int
    sample_rate: int
    """[Hz]"""
    files: tuple[tuple[str, int, int, str, str], ...]
    """Absolute path, size [bytes], time of change [ns], source and licence of each."""

    @property
    def name(self) -> str:
        """File name."""
        return shard_name(f"{self.kind}-{self.index:04d}", [self.sample_rate, self.files])

    def fill(self, file: h5py.File) -> None:
        """Decode the files; those that cannot be read are named instead."""
        rows, sounds, skipped, unread = [], [np.zeros(0, np.int16)], [], []
        position = 0
        for path, source, licence in ((Path(f[0]), *f[3:]) for f in self.files):
            try:
                samples = decode(path, self.sample_rate)
                origin = name_of(path), source, _checksum(path), licence
                rows.append((*origin, position, len(samples)))
            except (TrainingError, OSError) as error:
                skipped.append(f"{name_of(path)}: {error}")
                unread += [str(path)] * withheld(error)
                continue
            sounds.append(samples)
            position += len(samples)
        file.attrs["format"] = FORMAT
        file.attrs["sample_rate"] = self.sample_rate
        _store_samples(file, np.concatenate(sounds))
        file["recordings"] = np.array(rows, _IN_SHARD)
        for name, texts in (("skipped", skipped), (UNREAD, unread)):
            file.create_dataset(name, data=texts, shape=(len(texts),), dtype=_TEXT)


def sound_shards(
    files: Sequence[SoundFile], kind: str, sample_rate: int, shard_minutes: float
) -> list[SoundShard]:
    """Deal out files, each once, to shards of about a length."""
    shares: list[list[tuple[str, int, int, str, str]]] = [[]]
    filled_s = 0.0
    for path, source, licence in {file.path: file for file in files}.values():
        if filled_s >= 60.0 * shard_minutes:
            shares.append([])
            filled_s = 0.0
        try:
            status = path.stat()
            size, changed_ns = status.st_size, status.st_mtime_ns
        except OSError:  # the build will name it
            size, changed_ns = 0, 0
        shares[-1].append((str(path), size, changed_ns, source, licence))
        filled_s += _duration_s(path)
    return [SoundShard(kind, k, sample_rate, tuple(share)) for k, share in enumerate(shares)]


def join(path: Path, shards: Sequence[SoundShard], held_out: float, tested: float) -> None:
    """Write the file over the shards, and decide who is on which side.

    Parameters
    ----------
    held_out, tested : shares of ``valid`` and ``test``, upper bounds as in ``recordings.split``
    """

    def fill(file: h5py.File) -> None:
        file.attrs["format"] = FORMAT
        file.attrs["layout"] = LAYOUT
        file.attrs["sample_rate"] = shards[0].sample_rate
        file.attrs["held_out"], file.attrs["test"] = held_out, tested
        for kind in KINDS:
            of_kind = [shard for shard in shards if shard.kind == kind]
            if of_kind:
                _join_kind(file, shard_folder(path), of_kind, held_out, tested)

    write_file(path, fill)


@dataclass(frozen=True, slots=True)
class Sound:
    """What mixtures of one side are made of: a dataset in this layout, and simulated rooms."""

    path: Path
    split: str
    rooms: Path
    """Folder where ``rooms.bank`` keeps what it simulated."""
    n_rooms: int
    """See ``rooms.of_side``."""
    made_of: tuple[str, str]
    """Checksums of dataset and rooms."""

    def mixer(self) -> Mixer:
        """What draws the mixtures."""
        return Mixer(
            *collections(self.path, self.split),
            simulated=_simulated(self.path, self.split, self.rooms, self.n_rooms),
        )


def sound(path: Path, split: str, rooms: Path, n_rooms: int) -> Sound:
    """What mixtures of one side of a dataset are made of; its rooms are simulated if need be.

    Parameters
    ----------
    rooms : folder to keep them in
    n_rooms : see ``rooms.of_side``
    """
    responses = b"".join(one.tobytes() for one in _simulated(path, split, rooms, n_rooms))
    checksum = hashlib.sha256(responses).hexdigest()
    return Sound(path, split, rooms, n_rooms, (made_of(path), checksum))


def _simulated(path: Path, split: str, rooms: Path, n_rooms: int) -> Sequence[Float]:
    with _opened(path) as file:
        rate = int(file.attrs["sample_rate"])
    return of_side(rate, rooms, n_rooms, SPLITS.index(split))


def collections(path: Path, split: str) -> tuple[Collection, Collection, Collection | None]:
    """Speech, noise and rooms of one side of a dataset, read where they are asked for.

    Parameters
    ----------
    path : of a file in layout ``pcm``
    split : ``train``, ``valid`` or ``test``

    Returns
    -------
    the rooms are None where that side has none; any of the others may be empty

    Raises
    ------
    engine.errors.TrainingError : no such file, another layout, or shards are missing
    """
    if split not in SPLITS:
        raise TrainingError(f"split should be one of {', '.join(SPLITS)}, got {split!r}")
    with _opened(path) as file:
        speech, noise, rooms = (_collection(file, path, kind, split) for kind in KINDS)
    return speech, noise, rooms if rooms.recordings else None


def made_of(path: Path) -> str:
    """A checksum of all that a file in this layout is made of, and of who is on which side."""
    with _opened(path) as file:
        kinds = [file[kind] for kind in KINDS if kind in file]
        names = [Path(name).name for kind in kinds for name in _texts(kind["shards"]["file"])]
        sides = [_texts(kind["recordings"]["split"]) for kind in kinds]
        return shard_name("", [names, sides])


def shares(path: Path) -> dict[str, float]:
    """Share of the sound that each side of a file in this layout was to have."""
    with _opened(path) as file:
        held_out, tested = float(file.attrs["held_out"]), float(file.attrs["test"])
    return {"train": 1.0 - held_out - tested, "valid": held_out, "test": tested}


def describe(path: Path) -> dict[str, Any]:
    """What a file in this layout holds; see ``dataset.describe``."""
    with _opened(path) as file:
        rate = int(file.attrs["sample_rate"])
        tables = {kind: file[kind]["recordings"][:] for kind in KINDS if kind in file}
        skipped = [reason for kind in tables for reason in _texts(file[kind]["skipped"][:])]
    sides: dict[str, dict[str, Any]] = {side: {} for side in SPLITS}
    for kind, table in tables.items():
        for side in SPLITS:
            rows = table[table["split"] == side.encode()]
            sides[side][kind] = {
                "hours": round(float(rows["length"].sum()) / rate / 3600.0, 4),
                "recordings": len(rows),
                "voices": len(set(rows["source"])),
            }
    return {"layout": LAYOUT, "sample_rate": rate, "splits": sides, "skipped": skipped}


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A file in this layout, closed in the end; raises TrainingError when it is none."""
    with opened_as(LAYOUT, path) as file:
        for kind in KINDS:
            check_shards(path, _texts(file[kind]["shards"]["file"]) if kind in file else ())
        yield file


@dataclass(frozen=True, slots=True)
class Stored:
    """A waveform in a shard; what has been read is kept for a while."""

    shard: str
    """Path."""
    start: int
    """[samples]"""
    length: int
    """[samples]"""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, wanted: slice, /) -> NDArray[np.int16]:
        first, end, step = wanted.indices(self.length)
        if step != 1:
            raise ValueError("a stored recording is read without a step")
        first, end = self.start + first, self.start + max(first, end)
        blocks = [_block(self.shard, k) for k in range(first // _BLOCK, -(-end // _BLOCK))]
        offset = first // _BLOCK * _BLOCK
        whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks or [_NOTHING])
        return whole[first - offset : end - offset]


_NOTHING = np.zeros(0, np.int16)


@lru_cache(_KEPT_BLOCKS)
def _block(shard: str, k: int) -> NDArray[np.int16]:
    """Samples ``k·_BLOCK`` up to the next block.

    The file is opened each time: an open one could not be shared with a forked process.
    """
    with h5py.File(shard) as file:
        found = file["samples"][k * _BLOCK : (k + 1) * _BLOCK]
    found.flags.writeable = False
    return found


def _collection(file: h5py.File, path: Path, kind: str, split: str) -> Collection:
    rate = int(file.attrs["sample_rate"])
    if kind not in file:
        return Collection(rate, (), ())
    group = file[kind]
    shards = group["shards"][:]
    names = [str(path.parent / name) for name in _texts(shards["file"])]
    rows = group["recordings"][:]
    rows = rows[rows["split"] == split.encode()]
    # A recording lies in the last shard that begins no later than it.
    where = np.searchsorted(shards["start"], rows["start"], side="right") - 1
    recordings = tuple(
        Recording(name, source, Stored(names[k], int(start - shards["start"][k]), int(length)))
        for name, source, start, length, k in zip(
            _texts(rows["name"]),
            _texts(rows["source"]),
            rows["start"],
            rows["length"],
            where,
            strict=True,
        )
    )
    return Collection(rate, recordings, tuple(_texts(group["skipped"][:])))


def _join_kind(
    file: h5py.File, folder: Path, shards: Sequence[SoundShard], held_out: float, tested: float
) -> None:
    """Write one kind: its samples as one virtual dataset, and the tables."""
    places, tables, skipped = [], [np.zeros(0, _IN_SHARD)], []
    total = 0
    for shard in shards:
        with h5py.File(folder / shard.name) as source:
            length, table = len(source["samples"]), source["recordings"][:]
            skipped += _texts(source["skipped"][:])
        table["start"] += total
        tables.append(table)
        # Relative: the file and the folder beside it can be moved together.
        places.append((f"{folder.name}/{shard.name}", total, length))
        total += length
    if not total:
        raise TrainingError(
            f"none of {len(skipped)} files of {shards[0].kind} can be read: {skipped[0]}"
        )
    layout = h5py.VirtualLayout((total,), "<i2")
    for relative, start, length in places:
        if length:
            layout[start : start + length] = h5py.VirtualSource(
                relative, "samples", (length,), "<i2"
            )
    group = file.create_group(shards[0].kind)
    group.create_virtual_dataset("samples", layout)
    table = np.concatenate(tables)
    joined = np.zeros(len(table), _JOINED)
    for name in table.dtype.names or ():
        joined[name] = table[name]
    joined["split"] = _sides(table, held_out, tested)
    group["recordings"] = joined
    group["shards"] = np.array(places, _SHARDS)
    group.create_dataset("skipped", data=skipped, shape=(len(skipped),), dtype=_TEXT)


def _sides(table: NDArray[np.void], held_out: float, tested: float) -> list[str]:
    """On which side of the split each recording is."""
    # The same file may be there under two names, from two archives.
    sources = united(_texts(table["source"]), _texts(table["sha256"]))
    recordings = tuple(
        Recording(name, source, Stored("", 0, int(length)))
        for name, source, length in zip(
            _texts(table["name"]), sources, table["length"], strict=True
        )
    )
    rest, test = split(Collection(0, recordings, ()), tested)
    # The second share is of what the first left, which may be more than all but its bound.
    left = sum(len(r.samples) for r in rest.recordings) / max(1, table["length"].sum())
    _, valid = split(rest, held_out / left if left else 0.0)
    of_source = {r.source: "test" for r in test.recordings}
    of_source |= {r.source: "valid" for r in valid.recordings}
    return [of_source.get(r.source, "train") for r in recordings]


def _store_samples(file: h5py.File, samples: NDArray[np.int16]) -> None:
    chunks = {"chunks": (min(_CHUNK, len(samples)),)} | _STORAGE if len(samples) else {}
    file.create_dataset("samples", data=samples.astype("<i2"), **chunks)
    # Else they are written when Python happens to let go of the dataset: then or after the
    # tables, and shards of one input would not have the same bytes.
    file.flush()


def _checksum(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _duration_s(path: Path) -> float:
    """As the file's header tells; 0 where it cannot be read, which decoding will find too."""
    if not path.is_file():  # a pipe would be waited for
        return 0.0
    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, OSError):
        return 0.0


def _texts(column: Any) -> list[str]:
    """HDF5 gives text as bytes."""
    return [text.decode() if isinstance(text, bytes) else str(text) for text in column]
