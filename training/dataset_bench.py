"""What our layouts save against the thesis's: room, and time until a network can learn.

All are measured side by side, in turns, in one run: mixtures written as the thesis writes
them and read row by row, as its generator feeds a network of one time step; clips mixed
and transformed from recordings (``pcm``), and ready ones (``mixed``), as training does it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from engine.errors import TrainingError
from engine.spec import ModelSpec
from training import dataset_mixed, dataset_pcm
from training.batches import Batches
from training.dataset_build import shard_folder, size_of, write_file
from training.dataset_mixed import MixedBatches, MixedShard
from training.mixing import Mixer
from training.settings import SETTINGS
from training.thesis_layout import create_group, write_mixture

# Clips of a batch and frames of a clip as in training; a row is one frame.
_CLIPS, _FRAMES = 48, 96
_ROWS = 256

# What is written in the thesis's layout, 127 MB at 11 kHz: more than HDF5 keeps in memory. As
# much sound is written in layout mixed.
_MIXTURES, _MIXTURE_S = 16, 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    parser.add_argument("file", type=Path, metavar="FILE.h5", help="in layout pcm")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="for each path (default: %(default)s) [s]"
    )


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Measure, and print a Markdown table.

    Raises
    ------
    engine.errors.TrainingError : the file is no dataset in layout pcm, or of a rate that no
        setting has
    """
    told = dataset_pcm.describe(args.file)
    spec = next((s for s in SETTINGS.values() if s.sample_rate == told["sample_rate"]), None)
    if spec is None:
        raise TrainingError(f"{args.file}: no setting has {told['sample_rate']} Hz")
    with tempfile.TemporaryDirectory(prefix="denoise-app-bench-") as folder:
        thesis, mixed = Path(folder) / "thesis.h5", Path(folder) / "mixed.h5"
        thesis_hours = _write_thesis(args.file, thesis, spec)
        mixed_hours = _write_mixed(args.file, mixed, spec)
        speeds = _speeds(args.file, thesis, mixed, spec, args.seconds)
        thesis_size = thesis.stat().st_size / thesis_hours
        mixed_size = size_of(mixed) / mixed_hours
    kinds = [counts for side in told["splits"].values() for counts in side.items()]
    hours = sum(found["hours"] for _, found in kinds)
    speech_hours = sum(found["hours"] for kind, found in kinds if kind == "speech")
    size = size_of(args.file)
    sizes = _size_table(thesis_size, mixed_size, size / hours, size / speech_hours)
    tell(f"{sizes}\n{_speed_table(speeds)}")


def _write_thesis(path: Path, thesis: Path, spec: ModelSpec) -> float:
    """Write some mixtures as the thesis does; returns their length [h]."""
    mixer, rng = Mixer(*dataset_pcm.collections(path, "train")), np.random.default_rng(1)
    n_samples = round(_MIXTURE_S * spec.sample_rate) // spec.hop * spec.hop
    with h5py.File(thesis, "w") as file:
        group = create_group(file, spec)
        for k in range(_MIXTURES):
            write_mixture(group, k, mixer.draw(rng, n_samples), spec)
    return _MIXTURES * n_samples / spec.sample_rate / 3600.0


def _write_mixed(path: Path, mixed: Path, spec: ModelSpec) -> float:
    """Write as many mixtures ready to learn from; returns their length [h]."""
    clip_s = _FRAMES * spec.hop_s
    n_clips = round(_MIXTURES * _MIXTURE_S / clip_s)
    sound = dataset_pcm.sound(path, "train", mixed.parent, n_rooms=0)
    shard = MixedShard(sound, 0, n_clips, _FRAMES, 1, spec)
    shard_folder(mixed).mkdir()
    write_file(shard_folder(mixed) / shard.name, shard.fill)
    dataset_mixed.join(mixed, [shard], {})
    return n_clips * clip_s / 3600.0


def _speeds(
    path: Path, thesis: Path, mixed: Path, spec: ModelSpec, seconds: float
) -> dict[str, float]:
    """Frames a second of each path, measured in turns: a busy moment slows them all."""
    workers = os.cpu_count() or 1
    with (
        h5py.File(thesis) as file,
        ProcessPoolExecutor(workers, get_context("spawn"), _start, (path, spec)) as pool,
    ):
        paths: dict[str, Iterator[int]] = {
            "thesis, one read per row, arrays found by name": _rows(file, spec, found=False),
            "thesis, one read per row, arrays kept open": _rows(file, spec, found=True),
            "pcm, mixed and transformed, one process": _batches(path, spec),
            f"pcm, mixed and transformed, {workers} processes": _batches_side_by_side(
                pool, 4 * workers
            ),
            "mixed, read and decoded, one process": _ready_batches(mixed, spec),
        }
        for frames in paths.values():
            next(frames)  # open, start and fill what stays
        done, spent_s = dict.fromkeys(paths, 0), dict.fromkeys(paths, 0.0)
        while min(spent_s.values()) < seconds:
            for name, frames in paths.items():
                before, until = time.perf_counter(), time.perf_counter() + seconds / 5.0
                while time.perf_counter() < until:
                    done[name] += next(frames)
                spent_s[name] += time.perf_counter() - before
    return {name: done[name] / spent_s[name] for name in paths}


def _rows(file: h5py.File, spec: ModelSpec, found: bool) -> Iterator[int]:
    """Input and target of a network of one time step, drawn row by row; yields their number."""
    group = f"SPS{spec.sample_rate}FFT{spec.n_fft}"
    names = [f"{group}/COMBINATION@ID_{k}" for k in range(_MIXTURES)]
    opened = {f"{name}/{side}": file[f"{name}/{side}/DB"] for name in names for side in _SIDES}
    n_frames = len(next(iter(opened.values())))
    rng = np.random.default_rng(2)

    def row(name: str, side: str, k: int) -> NDArray[np.float64]:
        array = opened[f"{name}/{side}"] if found else file[f"{name}/{side}/DB"]
        return array[k]

    while True:
        drawn = [
            (names[int(rng.integers(_MIXTURES))], int(k))
            for k in rng.integers(n_frames, size=_ROWS)
        ]
        for side in _SIDES:
            np.stack([row(name, side, k) for name, k in drawn])[..., : spec.n_bins].astype(
                np.float32
            )
        yield _ROWS


_SIDES = ("DIRTY", "CLEAN")


def _batches(path: Path, spec: ModelSpec) -> Iterator[int]:
    """Batches as training makes them; yields the number of their frames."""
    mixer = Mixer(*dataset_pcm.collections(path, "train"))
    batches = Batches(mixer, spec, _CLIPS, _FRAMES, seed=3)
    for k in count():
        yield batches[k].noisy_db[..., 0].size


def _ready_batches(mixed: Path, spec: ModelSpec) -> Iterator[int]:
    """Batches read as training reads them; yields the number of their frames."""
    batches = MixedBatches(mixed, "train", spec, _CLIPS, _FRAMES, seed=5)
    for k in count():
        yield batches[k].noisy_db[..., 0].size


def _batches_side_by_side(pool: ProcessPoolExecutor, at_once: int) -> Iterator[int]:
    """The same from several processes, each batch handed over whole.

    All are waited for: what went on in the background would slow the path that is next.
    """
    for first in count(0, at_once):
        yield sum(
            batch[0][..., 0].size for batch in pool.map(_batch, range(first, first + at_once))
        )


def _start(path: Path, spec: ModelSpec) -> None:
    """In each process: what it draws from."""
    global _supply
    _supply = Batches(Mixer(*dataset_pcm.collections(path, "train")), spec, _CLIPS, _FRAMES, seed=4)


def _batch(k: int) -> tuple[NDArray[np.float32], ...]:
    """In each process: batch k."""
    return tuple(array for array in _supply[k] if array is not None)


_supply: Batches


def _size_table(thesis: float, mixed: float, recording: float, speech: float) -> str:
    return (
        "| layout | MB an hour | smaller |\n|---|---:|---:|\n"
        f"| thesis: clean and dirty, dB and phase, float64 | {thesis / 1e6:.1f} | 1 |\n"
        f"| mixed, an hour of mixtures | {mixed / 1e6:.1f} | {thesis / mixed:.1f} |\n"
        f"| pcm, an hour of any recording | {recording / 1e6:.1f} | {thesis / recording:.1f} |\n"
        f"| pcm, an hour of speech with the noise and rooms beside it | {speech / 1e6:.1f} "
        f"| {thesis / speech:.1f} |\n"
    )


def _speed_table(speeds: dict[str, float]) -> str:
    slowest = next(iter(speeds.values()))
    lines = ["| frames to learn from | frames/s | faster |", "|---|---:|---:|"]
    lines += [f"| {name} | {speed:.0f} | {speed / slowest:.1f} |" for name, speed in speeds.items()]
    return "\n".join(lines) + "\n"
