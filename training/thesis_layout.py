"""Layout ``stft``: the thesis's, ready mixtures as decibels and phase of each bin.

::

    /SPS11025FFT1024                 SAMPLE_RATE, FFT_SIZE
        /COMBINATION@ID_1            COMBINATIONID, CLEAN@…, NOISE@…, and ours: SPLIT, SNR_DB
            /CLEAN and /DIRTY        FFT@SIZE, FFT@N_SAMPLES_OVERLAP, FFT@WINDOW
                /FREQ  (bins,) [Hz]        /DB     (n, 1, bins) [dB]
                /TIME  (n,) [s]            /PHASE  (bins, n) [rad]

All float64. Ours are the engine's frames and decibels: 0 dB is a full-scale sine. Not here:
how mixtures are drawn (``mixing``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from engine.errors import TrainingError
from engine.spec import ModelSpec
from engine.stft import Float, stft, to_db
from training.dataset_build import (
    check_shards,
    opened,
    shard_folder,
    shard_name,
    write_file,
)
from training.dataset_pcm import Sound
from training.mixing import Mixture, Recipe

LAYOUT = "stft"

_GROUP = re.compile(r"SPS(\d+)FFT(\d+)")
_COMBINATION = re.compile(r"COMBINATION@ID_(\d+)")
_SIDES = ("CLEAN", "DIRTY")
_ARRAYS = ("FREQ", "TIME", "DB", "PHASE")


@dataclass(frozen=True, slots=True)
class Combination:
    """One mixture as it is in such a file."""

    id: int
    sample_rate: int
    """[Hz]"""
    n_fft: int
    frequency_hz: NDArray[np.float64]
    """(n_bins,) [Hz]"""
    time_s: NDArray[np.float64]
    """(n_frames,) [s]"""
    clean_db: NDArray[np.float64]
    """(n_frames, n_bins) [dB], as the three below; the reference is the writer's."""
    clean_phase: NDArray[np.float64]
    """[rad]"""
    dirty_db: NDArray[np.float64]
    dirty_phase: NDArray[np.float64]
    attributes: Mapping[str, Any]
    """Of the combination: CLEAN@…, NOISE@… and what else its writer knew; text as str."""


@dataclass(frozen=True, slots=True)
class MixtureShard:
    """Some mixtures of one side of the split, to be drawn by one task.

    Mixture k of a seed is always the same, however many are drawn in one shard.
    """

    sound: Sound
    first: int
    """ID of the first mixture."""
    count: int
    clip_s: float
    """Length of a mixture [s]."""
    seed: int
    spec: ModelSpec
    """Rate and transform; every bin is written."""

    @property
    def name(self) -> str:
        """File name."""
        spec = self.spec
        transform = [spec.sample_rate, spec.n_fft, spec.hop, spec.window, spec.floor_db]
        drawn = [self.sound.split, self.first, self.count, self.clip_s, self.seed, asdict(Recipe())]
        origin = [self.sound.made_of, transform, drawn]
        return shard_name(f"mixtures-{self.first:06d}", origin)

    def fill(self, file: h5py.File) -> None:
        """Draw and transform the mixtures."""
        mixer = self.sound.mixer()
        pairs: list[tuple[str, str]] = []
        mixer.on_draw = lambda speech, noise: pairs.append((speech, noise))
        n_samples = round(self.clip_s * self.spec.sample_rate)
        group = create_group(file, self.spec)
        for k in range(self.first, self.first + self.count):
            pairs.clear()
            mixture = mixer.draw(np.random.default_rng([self.seed, k]), n_samples)
            combination = write_mixture(group, k, mixture, self.spec)
            for side, names in zip(("CLEAN", "NOISE"), zip(*pairs, strict=True), strict=False):
                combination.attrs[f"{side}@NAME"] = "; ".join(dict.fromkeys(names))
            combination.attrs["SPLIT"] = self.sound.split


def create_group(file: h5py.File, spec: ModelSpec) -> h5py.Group:
    """The group that mixtures of one rate and transform go into."""
    group = file.create_group(f"SPS{spec.sample_rate}FFT{spec.n_fft}")
    group.attrs["SAMPLE_RATE"] = spec.sample_rate
    group.attrs["FFT_SIZE"] = spec.n_fft
    return group


def write_mixture(group: h5py.Group, number: int, mixture: Mixture, spec: ModelSpec) -> h5py.Group:
    """Write one mixture as ``COMBINATION@ID_number``, with all but its origin; return that."""
    combination = group.create_group(f"COMBINATION@ID_{number}")
    combination.attrs["COMBINATIONID"] = number
    combination.attrs["CLEAN@NAME"] = combination.attrs["NOISE@NAME"] = ""
    combination.attrs["SNR_DB"] = mixture.snr_db
    _write_side(combination.create_group("CLEAN"), mixture.clean, spec)
    _write_side(combination.create_group("DIRTY"), mixture.noisy, spec)
    return combination


def join(path: Path, shards: Sequence[MixtureShard]) -> None:
    """Write the file over the shards: each array of each mixture a virtual dataset."""

    def fill(file: h5py.File) -> None:
        group = create_group(file, shards[0].spec)
        for shard in shards:
            # Relative: the file and the folder beside it can be moved together.
            relative = f"{shard_folder(path).name}/{shard.name}"
            with h5py.File(shard_folder(path) / shard.name) as source:
                for name, combination in source[group.name].items():
                    _refer(group.create_group(name), combination, relative)

    write_file(path, fill)


def read(path: Path) -> Iterator[Combination]:
    """The mixtures of a file in this layout, in the order of their numbers, whoever wrote it.

    Raises
    ------
    engine.errors.TrainingError : no such file, or it has another layout
    """
    with opened(path) as file:
        for rate, n_fft, number, group in _combinations(file, path):
            yield _combination(number, rate, n_fft, group)


def describe(path: Path) -> dict[str, Any]:
    """What a file in this layout holds; see ``dataset.describe``."""
    sides: dict[str, dict[str, Any]] = {}
    rates = []
    with opened(path) as file:
        for rate, _, _, group in _combinations(file, path):
            rates.append(rate)
            side = sides.setdefault(_plain(group.attrs.get("SPLIT", "all")), {})
            counts = side.setdefault("clean and dirty", {"hours": 0.0, "mixtures": 0})
            time_s = group["CLEAN/TIME"]
            hop_s = float(time_s[1] - time_s[0]) if len(time_s) > 1 else 0.0
            counts["hours"] += len(time_s) * hop_s / 3600.0
            counts["mixtures"] += 1
    return {"layout": LAYOUT, "sample_rate": max(rates, default=0), "splits": sides, "skipped": []}


def is_layout(file: h5py.File) -> bool:
    """Whether an opened file has the thesis's layout."""
    return any(_GROUP.fullmatch(name) for name in file)


def _combinations(file: h5py.File, path: Path) -> Iterator[tuple[int, int, int, h5py.Group]]:
    """Rate, transform, number and group of each mixture, in the order of the numbers."""
    if not is_layout(file):
        raise TrainingError(f"{path}: has no group SPS…FFT…, so it is not in layout {LAYOUT}")
    for name in file:
        # The group's name says what its attributes repeat: those of the thesis's own program
        # are empty text.
        if found := _GROUP.fullmatch(name):
            numbers = (_COMBINATION.fullmatch(inner) for inner in file[name])
            for number in sorted(int(known[1]) for known in numbers if known):
                group = file[name][f"COMBINATION@ID_{number}"]
                yield int(found[1]), int(found[2]), number, group


def _write_side(group: h5py.Group, signal: Float, spec: ModelSpec) -> None:
    """Write CLEAN or DIRTY: (n_samples,) in [-1, 1], less a last incomplete hop."""
    group.attrs["FFT@SIZE"] = spec.n_fft
    group.attrs["FFT@N_SAMPLES_OVERLAP"] = spec.n_fft - spec.hop
    group.attrs["FFT@WINDOW"] = spec.window
    spectra = stft(signal, spec)
    centres = (np.arange(len(spectra)) + 1) * spec.hop - spec.n_fft / 2
    group["FREQ"] = np.arange(spec.n_spectrum) * (spec.sample_rate / spec.n_fft)
    group["TIME"] = centres / spec.sample_rate
    group["DB"] = to_db(spectra, spec).astype(np.float64)[:, None, :]
    group["PHASE"] = np.angle(spectra).astype(np.float64).T


def _refer(group: h5py.Group, source: h5py.Group, relative: str) -> None:
    """Say the same as another file's group, with its arrays left there."""
    for name, value in source.attrs.items():
        group.attrs[name] = value
    for name, child in source.items():
        if isinstance(child, h5py.Group):
            _refer(group.create_group(name), child, relative)
        else:
            layout = h5py.VirtualLayout(child.shape, child.dtype)
            layout[...] = h5py.VirtualSource(relative, child.name, child.shape, child.dtype)
            group.create_virtual_dataset(name, layout)


def _combination(number: int, rate: int, n_fft: int, group: h5py.Group) -> Combination:
    missing = [f"{s}/{a}" for s in _SIDES for a in _ARRAYS if f"{s}/{a}" not in group]
    if missing:
        raise TrainingError(f"{group.file.filename}: {group.name} lacks {', '.join(missing)}")
    if group["CLEAN/DB"].is_virtual:
        sources = (source.file_name for source in group["CLEAN/DB"].virtual_sources())
        check_shards(Path(group.file.filename), sources)
    clean, dirty = group["CLEAN"], group["DIRTY"]
    return Combination(
        number,
        rate,
        n_fft,
        clean["FREQ"][:],
        clean["TIME"][:],
        _frames_first(clean["DB"]),
        _frames_first(clean["PHASE"], len(clean["DB"])),
        _frames_first(dirty["DB"]),
        _frames_first(dirty["PHASE"], len(dirty["DB"])),
        {name: _plain(value) for name, value in group.attrs.items()},
    )


def _frames_first(array: h5py.Dataset, n_frames: int | None = None) -> NDArray[np.float64]:
    """(n, 1, bins), (n, bins), or (bins, n) where ``n_frames`` tells it: as (n, bins)."""
    found = np.asarray(array, np.float64)
    if found.ndim == 3:
        return found[:, 0, :]
    # As many frames as bins do not tell it: then it is the layout's own order.
    frames_first = n_frames is None or found.shape[0] == n_frames != found.shape[1]
    return found if frames_first else found.T


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
