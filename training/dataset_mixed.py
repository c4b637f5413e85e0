"""Layout ``mixed``: mixtures ready to learn from, a byte for each number that is stored.

Reading needs no mixing and no transform: clips are copied from their shards, in an order
that a seed draws anew for each epoch, and three tables turn codes into what
``batches.make_batch`` gave. The price: an epoch hears the mixtures of the one before. Not
here: how mixtures are drawn (``mixing``), what a batch is (``batches``).

::

    /                     format, layout, the setting (sample_rate … floor_db), training
    /train/frames         (n_clips, n_frames, 3 · (n_bins + 1) + 1) uint8, virtual; the same
                          below /valid and /test
    /train/clips          (n_clips, 2) float32: loudest and active level of each clip [dB]
    /train/shards         file, start, length [clips]
    /train/pairs          (n_pairs, 3) int32: clip, speech, noise: which recordings met in it
    /train/speech, noise  name, source, length [samples] of the recordings that pairs count

A frame holds codes of |noisy|, of |clean| and of the angle between the two, of each bin and
of all bins above them together, and 1 where there is voice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from engine.errors import TrainingError
from engine.spec import ModelSpec
from engine.stft import Float
from training.batches import Batch, in_advance, make_batch
from training.dataset_build import (
    FORMAT,
    check_shards,
    opened,
    opened_as,
    shard_folder,
    shard_name,
    write_file,
)
from training.dataset_pcm import SPLITS, Sound, collections
from training.mixing import Recipe
from training.recordings import Collection, Recording

LAYOUT = "mixed"

Codes = NDArray[np.uint8]

STEP_DB = 0.4
"""Between two codes of a level: 0.2 dB is the largest error, 0.12 dB its RMS. 255 of them
reach 102 dB down from the loudest bin of a clip, and 0 is silence."""

# Levels under the loudest bin of a clip, by code.
_LEVELS_DB = (STEP_DB * (np.arange(256) - 255.0)).astype(np.float32)
_LEVELS_DB[0] = -np.inf

# Of the angle and not of its cosine: where clean and noisy nearly agree, and gains matter
# most, a step of the cosine would be coarser than the noise that is left.
_ANGLE_STEP = np.pi / 255.0
_COSINES = np.cos(_ANGLE_STEP * np.arange(256)).astype(np.float32)

_SETTING = ("sample_rate", "n_fft", "hop", "n_bins", "window", "above", "floor_db")
"""Fields of a ``ModelSpec`` that decide what a frame is."""

_RECORDINGS = np.dtype([
    ("name", h5py.string_dtype()), ("source", h5py.string_dtype()), ("length", "<i8")
])  # fmt: skip

_SHARDS = np.dtype([("file", h5py.string_dtype()), ("start", "<i8"), ("length", "<i8")])


@dataclass(frozen=True, slots=True)
class MixedShard:
    """Some clips of one side of the split, to be drawn by one task.

    Clip k of a side and a seed is always the same, however many are drawn in one shard.
    """

    sound: Sound
    first: int
    """Number of the first clip."""
    count: int
    n_frames: int
    """Of a clip."""
    seed: int
    spec: ModelSpec

    @property
    def name(self) -> str:
        """File name."""
        transform = [getattr(self.spec, name) for name in _SETTING]
        drawn = [self.sound.split, self.first, self.count, self.n_frames, self.seed]
        origin = [self.sound.made_of, transform, drawn, asdict(Recipe()), STEP_DB]
        return shard_name(f"paired-{self.sound.split}-{self.first:07d}", origin)

    def fill(self, file: h5py.File) -> None:
        """Draw, transform and encode the clips."""
        speech, noise, _ = collections(self.sound.path, self.sound.split)
        voices, noises = (
            {r.name: k for k, r in enumerate(one.recordings)} for one in (speech, noise)
        )
        mixer = self.sound.mixer()
        side, n_samples = SPLITS.index(self.sound.split), self.n_frames * self.spec.hop
        coded: list[tuple[Codes, Float]] = []
        pairs: list[tuple[int, int, int]] = []
        mixer.on_draw = lambda voice, noise: pairs.append(
            (len(coded), voices[voice], noises[noise])
        )
        for k in range(self.first, self.first + self.count):
            mixture = mixer.draw(np.random.default_rng([self.seed, side, k]), n_samples)
            coded.append(encode(make_batch([mixture], self.spec)))
        file["pairs"] = np.array(pairs, np.int32).reshape(-1, 3)
        for name, parts in zip(("frames", "clips"), zip(*coded, strict=True), strict=True):
            file[name] = np.concatenate(parts)


def encode(batch: Batch) -> tuple[Codes, Float]:
    """Round a batch to a byte for each number.

    Returns
    -------
    (n_clips, n_frames, 3 · (n_bins + 1) + 1) codes, and (n_clips, 2) float32: the level of
    each clip's loudest bin [dB re full-scale sine], and that of its speech, as ``make_batch``
    took it to scale the spectra
    """
    n = batch.noisy_db.shape[-1] + 1
    noisy, clean, product = (batch.spectra[..., k * n : (k + 1) * n] for k in range(3))
    with np.errstate(divide="ignore"):  # silence is −∞ dB
        levels_db = np.float32(20.0) * np.log10(batch.spectra[..., : 2 * n])
    loudest_db = np.max(levels_db, axis=(1, 2))
    loudest_db[~np.isfinite(loudest_db)] = 0.0
    below_db = levels_db - loudest_db[:, None, None]
    speech_db = _scales_db(batch.noisy_db, levels_db[..., : n - 1])
    size = noisy * clean
    cosine = np.divide(product, size, out=np.ones_like(size), where=size > 0.0)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    codes = np.concatenate(
        [np.maximum(255.0 + below_db / STEP_DB, 0.0), angle / _ANGLE_STEP, batch.speech], axis=-1
    )
    clips = np.stack([loudest_db + speech_db, speech_db], axis=-1)
    return np.rint(codes).astype(np.uint8), clips.astype(np.float32)


def decode(frames: Codes, clips: Float, floor_db: float) -> Batch:
    """The batch that ``encode`` was given, but for its rounding; ``waves`` are lost.

    Parameters
    ----------
    frames, clips : as ``encode`` gave them
    floor_db : of the setting
    """
    n, shape = frames.shape[-1] // 3, frames.shape[:-1]
    spectra = np.empty((*shape, 3 * n), np.float32)
    noisy_db, clean_db = np.empty((2, *shape, n - 1), np.float32)
    # Clip by clip: what is made stays in the cache, twice as fast as all at once. `mode` spares
    # a check of the codes, which a table of 256 cannot need.
    for k, (codes, (loudest_db, speech_db)) in enumerate(zip(frames, clips, strict=True)):
        levels_db = _LEVELS_DB + loudest_db
        magnitudes = 10.0 ** ((levels_db - speech_db) / np.float32(20.0))
        levels_db = np.maximum(levels_db, np.float32(floor_db))
        noisy, clean, product = (spectra[k, :, part * n : (part + 1) * n] for part in range(3))
        spectra[k, :, : 2 * n] = magnitudes.take(codes[:, : 2 * n], mode="clip")
        np.multiply(noisy, clean, out=product)
        product *= _COSINES.take(codes[:, 2 * n : 3 * n], mode="clip")
        noisy_db[k] = levels_db.take(codes[:, : n - 1], mode="clip")
        clean_db[k] = levels_db.take(codes[:, n : 2 * n - 1], mode="clip")
    return Batch(noisy_db, spectra, frames[..., 3 * n :].astype(np.float32), clean_db)


class MixedBatches:
    """An endless supply of one side's clips: ``batches[k]`` is batch k.

    Every epoch holds each clip once, in an order of its own; ``ahead`` serves no batch twice.

    Parameters
    ----------
    path : of a file in this layout
    split : ``train``, ``valid`` or ``test``
    spec : the setting that is trained
    n_clips, n_frames : size of a batch
    seed : of the orders

    Raises
    ------
    engine.errors.TrainingError : the file is missing, in another layout, of another setting or
        length of clips, holds nothing of that side, or was built before pairs were kept
    """

    def __init__(
        self, path: Path, split: str, spec: ModelSpec, n_clips: int, n_frames: int, seed: int
    ) -> None:
        self._n_clips, self._seed, self._floor_db = n_clips, seed, spec.floor_db
        with _opened(path) as file:
            _check_setting(path, file.attrs, spec)
            if split not in file:
                raise TrainingError(f"{path}: holds no clips of the side {split}")
            found = file[split]["frames"].shape[1]
            if found != n_frames:
                raise TrainingError(
                    f"{path}: its clips have {found} frames, not {n_frames}: train with "
                    f"--frames {found}"
                )
            if "pairs" not in file[split]:
                raise TrainingError(f"{path}: does not say which recordings met: build it again")
            self._clips = file[split]["clips"][:]
            shards = file[split]["shards"][:]
            self._pairs = file[split]["pairs"][:]
            self.speech, self.noise = (
                _named(file[split][kind][:], spec.sample_rate) for kind in ("speech", "noise")
            )
        self._starts = shards["start"]
        self._shards = [_mapped(path.parent / name.decode()) for name in shards["file"]]
        self._order = lru_cache(maxsize=2)(self._drawn_order)

    def __len__(self) -> int:
        """Clips of an epoch."""
        return len(self._clips)

    def __getitem__(self, k: int) -> Batch:
        chosen = self._of_batch(k)
        where = np.searchsorted(self._starts, chosen, side="right") - 1
        frames = np.stack([
            self._shards[shard][clip - self._starts[shard]]
            for clip, shard in zip(chosen, where, strict=True)
        ])  # fmt: skip
        return decode(frames, self._clips[chosen], self._floor_db)

    def ahead(self, step: int, depth: int = 4) -> Iterator[Batch]:
        """What to learn from at ``step`` and after, read by a thread meanwhile."""
        return in_advance((self[k] for k in count(step)), depth)

    def met(self, step: int) -> list[tuple[str, str]]:
        """Which recordings were heard together at ``step``, by their names."""
        speech, noise = self.speech.recordings, self.noise.recordings
        clips, chosen = self._pairs[:, 0], self._of_batch(step)
        bounds = (np.searchsorted(clips, chosen, side=side) for side in ("left", "right"))
        return [
            (speech[s].name, noise[n].name)
            for first, end in zip(*bounds, strict=True)
            for _, s, n in self._pairs[first:end]
        ]

    def _of_batch(self, k: int) -> list[int]:
        """Which clips are in batch k."""
        return [self._clip(n) for n in range(k * self._n_clips, (k + 1) * self._n_clips)]

    def _clip(self, n: int) -> int:
        """Which clip is the n-th of all that are heard."""
        epoch, place = divmod(n, len(self._clips))
        return int(self._order(epoch)[place])

    def _drawn_order(self, epoch: int) -> NDArray[np.intp]:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._clips))


def join(path: Path, shards: Sequence[MixedShard], training: Mapping[str, Any]) -> None:
    """Write the file over the shards, which lie beside it.

    Parameters
    ----------
    training : what a model's description is to tell of the sound, see ``recordings.summary``
    """

    def fill(file: h5py.File) -> None:
        file.attrs["format"], file.attrs["layout"] = FORMAT, LAYOUT
        file.attrs["training"] = json.dumps(dict(training))
        for name in _SETTING:
            file.attrs[name] = getattr(shards[0].spec, name)
        for side in SPLITS:
            if of_side := [shard for shard in shards if shard.sound.split == side]:
                _join_side(file.create_group(side), shard_folder(path), of_side)

    write_file(path, fill)


def describe(path: Path) -> dict[str, Any]:
    """What a file in this layout holds; see ``dataset.describe``."""
    sides = {}
    with _opened(path) as file:
        rate, hop = int(file.attrs["sample_rate"]), int(file.attrs["hop"])
        for side in SPLITS:
            if side in file:
                n_clips, n_frames, _ = file[side]["frames"].shape
                hours = round(n_clips * n_frames * hop / rate / 3600.0, 4)
                counts = {"hours": hours, "clips": n_clips, "frames a clip": n_frames}
                sides[side] = {"mixtures": counts}
    return {"layout": LAYOUT, "sample_rate": rate, "splits": sides, "skipped": []}


def training(path: Path) -> dict[str, Any]:
    """What ``join`` was told of the sound that a file in this layout is made of."""
    with _opened(path) as file:
        return dict(json.loads(file.attrs["training"]))


def is_layout(path: Path) -> bool:
    """Whether a file has this layout; raises TrainingError when it is no HDF5 file."""
    with opened(path) as file:
        return bool(file.attrs.get("layout") == LAYOUT)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A file in this layout, closed in the end; raises TrainingError when it is none."""
    with opened_as(LAYOUT, path) as file:
        for side in SPLITS:
            if side in file:
                check_shards(path, (name.decode() for name in file[side]["shards"]["file"]))
        yield file


def _check_setting(path: Path, attributes: Any, spec: ModelSpec) -> None:
    wrong = [
        f"{name} {attributes[name]}, not {getattr(spec, name)}"
        for name in _SETTING
        if attributes[name] != getattr(spec, name)
    ]
    if wrong:
        raise TrainingError(f"{path}: is of another setting: {'; '.join(wrong)}")


def _mapped(path: Path) -> Codes:
    """All clips of a shard, on disk until they are used: HDF5 takes 0.2 ms to find one."""
    with h5py.File(path) as file:
        frames = file["frames"]
        offset = frames.id.get_offset()
        if offset is None:
            raise TrainingError(f"{path}: its frames should lie in one piece, uncompressed")
        return np.memmap(path, np.uint8, "r", offset, frames.shape)


def _scales_db(noisy_db: Float, levels_db: Float) -> Float:
    """By how much each clip's spectra were scaled down [dB]: (n_clips,).

    The two tell of the same bins, one re full scale and one re the speech; the loudest is
    surely above the floor of the first, if any is.
    """
    n_clips = len(noisy_db)
    absolute, relative = noisy_db.reshape(n_clips, -1), levels_db.reshape(n_clips, -1)
    clip, loudest = np.arange(n_clips), np.argmax(relative, axis=1)
    found = absolute[clip, loudest] - relative[clip, loudest]
    return np.where(np.isfinite(found), found, 0.0)


def _join_side(group: h5py.Group, folder: Path, shards: Sequence[MixedShard]) -> None:
    """Write one side: its frames as one virtual dataset, and what is said of the clips."""
    spec, n_frames = shards[0].spec, shards[0].n_frames
    lengths = [shard.count for shard in shards]
    starts = np.cumsum([0, *lengths])
    shape = (n_frames, 3 * (spec.n_bins + 1) + 1)
    layout = h5py.VirtualLayout((int(starts[-1]), *shape), np.uint8)
    places, clips, pairs = [], [], []
    for shard, start in zip(shards, starts, strict=False):
        # Relative: the file and the folder beside it can be moved together.
        relative = f"{folder.name}/{shard.name}"
        layout[start : start + shard.count] = h5py.VirtualSource(
            relative, "frames", (shard.count, *shape), np.uint8
        )
        places.append((relative, start, shard.count))
        with h5py.File(folder / shard.name) as source:
            clips.append(source["clips"][:])
            pairs.append(source["pairs"][:] + np.array([start, 0, 0], np.int32))
    group.create_virtual_dataset("frames", layout)
    group["clips"] = np.concatenate(clips)
    group["shards"] = np.array(places, _SHARDS)
    group["pairs"] = np.concatenate(pairs)
    speech, noise, _ = collections(shards[0].sound.path, shards[0].sound.split)
    for kind, collection in (("speech", speech), ("noise", noise)):
        told = [(r.name, r.source, len(r.samples)) for r in collection.recordings]
        group[kind] = np.array(told, _RECORDINGS)


def _named(recordings: Any, sample_rate: int) -> Collection:
    """Recordings by name, voice and length; their sound is not here."""
    silence = np.zeros(1, np.int16)
    return Collection(
        sample_rate,
        tuple(
            Recording(name.decode(), source.decode(), np.broadcast_to(silence, length))
            for name, source, length in recordings
        ),
        (),
    )
