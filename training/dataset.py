"""A dataset is one file and the folder beside it: recordings by split, or mixtures of them.

``denoise-app dataset build`` makes it, ``info`` tells what it holds and ``bench`` what it
saves. Training takes ``collections`` from it. Not here: how shards are made
(``dataset_build``), and what the layouts are (``dataset_pcm``, ``dataset_mixed``,
``thesis_layout``).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import TrainingError
from engine.spec import WINDOWS, ModelSpec
from training import dataset_bench, dataset_mixed, dataset_pcm, dataset_sources, thesis_layout
from training.dataset_build import (
    ROOMS,
    SOUND,
    build_shards,
    opened,
    remove_strays,
    shard_folder,
    size_of,
)
from training.dataset_mixed import MixedShard
from training.dataset_pcm import (
    SPLITS,
    Sound,
    SoundShard,
    collections,
    sound_shards,
)
from training.recordings import summary
from training.settings import SETTINGS, Batch, Data
from training.thesis_layout import MixtureShard

__all__ = ["add_arguments", "build", "collections", "describe", "run"]

log = logging.getLogger(__name__)

# An hour of mixtures takes sixteen times the room of an hour of recordings, in memory too
# while a shard is made: shards of them are shorter by this.
_MIXTURES = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    actions = parser.add_subparsers(dest="action", metavar="build|info|bench", required=True)
    _add_build(actions.add_parser("build", help="make a dataset of folders of sound"))
    info = actions.add_parser("info", help="tell what a dataset holds")
    info.add_argument("file", type=Path, metavar="FILE.h5")
    info.add_argument("--json", action="store_true", help="print one object")
    bench = actions.add_parser("bench", help="measure size and speed against the thesis's layout")
    dataset_bench.add_arguments(bench)


def _add_build(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--speech", type=Path, nargs="+", default=[], help="folders of clean speech")
    add("--noise", type=Path, nargs="+", default=[], help="folders of noise")
    add("--rir", type=Path, nargs="*", default=[], help="folders of room impulse responses")
    dataset_sources.add_arguments(parser)
    add(
        "--dataset",
        type=Path,
        metavar="PCM.h5",
        help="a dataset in layout pcm in place of all folders; mixed only",
    )
    add("--out", type=Path, required=True, metavar="FILE.h5", help="its shards lie beside it")
    add(
        "--layout",
        choices=(dataset_pcm.LAYOUT, dataset_mixed.LAYOUT, thesis_layout.LAYOUT),
        default=dataset_pcm.LAYOUT,
        help="pcm: recordings, mixed while training; mixed: mixtures ready to learn from; "
        "stft: mixtures as in the thesis (default: %(default)s)",
    )
    add("--setting", choices=SETTINGS, default="classic", help="rate and transform (%(default)s)")
    add("--rate", type=int, metavar="HZ", help="another rate than the setting's [Hz]")
    add("--n-fft", type=int, help="another length of the transform [samples]; not of pcm")
    add("--hop", type=int, help="another advance of the transform [samples]; not of pcm")
    add("--window", choices=WINDOWS, help="another window; not of pcm")
    add(
        "--held-out",
        type=float,
        default=0.07,
        metavar="SHARE",
        help="of the sound, for validation (default: %(default)s)",
    )
    add(
        "--test",
        type=float,
        default=0.07,
        metavar="SHARE",
        help="of the sound, never looked at in training (default: %(default)s)",
    )
    add("--clip-seconds", type=float, default=30.0, help="length of a mixture; stft only [s]")
    add(
        "--clip-frames",
        type=int,
        default=Batch().frames,
        help="length of a mixture; mixed only (default: %(default)s)",
    )
    add("--hours", type=float, help="of mixtures, all sides together; mixed only [h]")
    add(
        "--simulated-rooms",
        type=int,
        default=Data().simulated_rooms,
        metavar="N",
        help="not of pcm (default: %(default)s)",
    )
    add("--seed", type=int, default=1, help="of the mixtures; not of pcm (default: %(default)s)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster (default: processes here)")
    add("--workers", type=int, default=0, help="processes here (default: one per core)")
    add(
        "--shard-minutes",
        type=float,
        default=10.0,
        metavar="M",
        help="length of a shard, in layout stft a fifth of it (default: %(default)s) [min]",
    )


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Do what the arguments say.

    Raises
    ------
    engine.errors.TrainingError : the command could not do it
    """
    if args.action == "bench":
        dataset_bench.run(args, tell)
    elif args.action == "info":
        found = describe(args.file)
        tell(f"{json.dumps(found)}\n" if args.json else _as_text(found))
    else:
        build(args)
        tell(f"wrote {args.out}\n")


def describe(path: Path) -> dict[str, Any]:
    """What a dataset of any layout holds.

    Returns
    -------
    ``layout``, ``sample_rate`` [Hz], ``size`` [bytes, with its shards], ``splits``: ``hours``
    and counts by side and by kind of sound, ``skipped``: ``name: reason`` of each file that
    could not be read

    Raises
    ------
    engine.errors.TrainingError : it is no dataset, or shards are missing
    """
    with opened(path) as file:
        of_thesis = thesis_layout.is_layout(file)
    if of_thesis:
        found = thesis_layout.describe(path)
    elif dataset_mixed.is_layout(path):
        found = dataset_mixed.describe(path)
    else:
        found = dataset_pcm.describe(path)
    return found | {"size": size_of(path)}


def _as_text(told: dict[str, Any]) -> str:
    lines = [
        f"layout {told['layout']}, {told['sample_rate']} Hz, {told['size'] / 1e6:.1f} MB",
        *(f"skipped {reason}" for reason in told["skipped"]),
    ]
    for side, kinds in told["splits"].items():
        for kind, counts in kinds.items():
            numbers = ", ".join(f"{value:g} {name}" for name, value in counts.items())
            lines.append(f"{side} {kind}: {numbers}")
    return "".join(f"{line}\n" for line in lines)


def build(args: argparse.Namespace) -> None:
    """Make a dataset, or what is missing of it."""
    _check(args)
    args.out = args.out.resolve()  # workers have other working folders
    spec = SETTINGS[args.setting]
    given = {"sample_rate": args.rate, "n_fft": args.n_fft, "hop": args.hop, "window": args.window}
    given = {name: value for name, value in given.items() if value}
    if args.layout == dataset_mixed.LAYOUT:
        n_bins = min(spec.n_bins, given.get("n_fft", spec.n_fft) // 2 + 1)
        _build_ready(args, replace(spec, n_bins=n_bins, **given))
        return
    # Every bin is written, whatever a network would take of them.
    spec = replace(spec, n_bins=1, **given)
    if args.layout == dataset_pcm.LAYOUT:
        _build_sound(args, args.out, spec.sample_rate)
    else:
        _build_mixtures(args, spec)


def _build_sound(args: argparse.Namespace, path: Path, sample_rate: int) -> None:
    """Layout pcm."""
    shards: list[SoundShard] = []
    wanted = dataset_sources.wanted_of(args)
    for kind, folders in (("speech", args.speech), ("noise", args.noise), ("rooms", args.rir)):
        files = dataset_sources.in_folders(folders) if folders else []
        if args.catalogue:
            files += dataset_sources.in_catalogue(args.catalogue, kind, wanted)
        if files:
            shards += sound_shards(files, kind, sample_rate, args.shard_minutes)
    folder = shard_folder(path)
    build_shards(folder, shards, args.scheduler, args.workers)
    with _writable(path):
        dataset_pcm.join(path, shards, args.held_out, args.test)
        remove_strays(folder, [shard.name for shard in shards])
    for line in _as_text(describe(path)).splitlines():
        log.info("%s", line)


def _build_mixtures(args: argparse.Namespace, spec: ModelSpec) -> None:
    """Layout stft: the recordings first, then mixtures as long as each side's speech."""
    if round(args.clip_seconds * spec.sample_rate) < spec.hop:
        raise TrainingError(f"--clip-seconds should be a hop at least, {1e3 * spec.hop_s:.1f} ms")
    folder = shard_folder(args.out)
    sound = folder / SOUND
    _build_sound(args, sound, spec.sample_rate)
    per_shard = max(1, round(60.0 * args.shard_minutes / _MIXTURES / args.clip_seconds))
    shards: list[MixtureShard] = []
    for side in SPLITS:
        speech, noise, _ = collections(sound, side)
        if not (speech.recordings and noise.recordings):
            log.warning("%s: no mixtures, for want of voices or of noises", side)
            continue
        first = 1 + sum(shard.count for shard in shards)
        count = math.ceil(3600.0 * speech.hours / args.clip_seconds)
        source = _source(args, sound, side)
        shards += [
            MixtureShard(
                source, first + done, min(per_shard, count - done),
                args.clip_seconds, args.seed, spec,
            )
            for done in range(0, count, per_shard)
        ]  # fmt: skip
    build_shards(folder, shards, args.scheduler, args.workers)
    with _writable(args.out):
        thesis_layout.join(args.out, shards)
        remove_strays(folder, [SOUND, ROOMS, *(shard.name for shard in shards)])


def _build_ready(args: argparse.Namespace, spec: ModelSpec) -> None:
    """Layout mixed: the recordings first, unless they are built already; then the mixtures."""
    folder, rate = shard_folder(args.out), spec.sample_rate
    sound = args.dataset.resolve() if args.dataset else folder / SOUND
    if args.dataset is None:
        _build_sound(args, sound, rate)
    elif (found := dataset_pcm.describe(sound)["sample_rate"]) != rate:
        raise TrainingError(f"{sound}: has {found} Hz, the setting {rate}: choose it by --rate")
    clip_s = args.clip_frames * spec.hop_s
    per_shard = max(1, round(60.0 * args.shard_minutes / clip_s))
    shards: list[MixedShard] = []
    sides = []
    for side, share in dataset_pcm.shares(sound).items():
        speech, noise, rooms = collections(sound, side)
        if not (speech.recordings and noise.recordings):
            log.warning("%s: no mixtures, for want of voices or of noises", side)
            continue
        count = math.ceil(share * 3600.0 * args.hours / clip_s)
        source = _source(args, sound, side)
        shards += [
            MixedShard(
                source, first, min(per_shard, count - first), args.clip_frames, args.seed, spec
            )
            for first in range(0, count, per_shard)
        ]
        if side != "test":
            sides.append((speech, noise, rooms))
    if not shards:
        raise TrainingError(f"{sound}: no side has voices and noises")
    build_shards(folder, shards, args.scheduler, args.workers)
    with _writable(args.out):
        dataset_mixed.join(args.out, shards, summary(sides))
        kept = [sound.name] if sound.parent == folder else []
        remove_strays(folder, [*kept, ROOMS, *(shard.name for shard in shards)])


def _source(args: argparse.Namespace, path: Path, side: str) -> Sound:
    """What mixtures of a side are made of; rooms are simulated once, before workers want them."""
    folder = shard_folder(args.out) / ROOMS
    with _writable(folder):
        return dataset_pcm.sound(path, side, folder, args.simulated_rooms)


def _check(args: argparse.Namespace) -> None:
    given = args.speech or args.noise or args.catalogue
    if args.dataset and (args.layout != dataset_mixed.LAYOUT or given):
        raise TrainingError("--dataset takes the place of all folders, in layout mixed only")
    if args.dataset and args.dataset.resolve() == args.out.resolve():
        raise TrainingError(f"{args.out} is what is to be built of: name another file")
    if not (args.dataset or args.catalogue or (args.speech and args.noise)):
        raise TrainingError("nothing to build of: give --speech and --noise, or --catalogue")
    if args.layout == dataset_mixed.LAYOUT and not 0.0 < (args.hours or 0.0) < math.inf:
        raise TrainingError("layout mixed needs a length in --hours, positive and finite")
    if args.clip_frames < 1 or args.simulated_rooms < 0 or args.seed < 0:
        raise TrainingError("--clip-frames, --simulated-rooms and --seed should be positive")
    if not (args.held_out >= 0.0 and args.test >= 0.0 and args.held_out + args.test < 1.0):
        raise TrainingError("--held-out and --test should be shares that leave some for training")
    if not (0.0 < args.shard_minutes < math.inf and 0.0 < args.clip_seconds < math.inf):
        raise TrainingError("--shard-minutes and --clip-seconds should be positive and finite")
    if args.workers < 0:
        raise TrainingError("--workers should be positive")
    if args.out.is_dir():
        raise TrainingError(f"{args.out} is a folder; name a file")
    # The folder of shards is named without the ending: v1.0 and v1.1 would share one.
    if args.out.suffix != ".h5":
        raise TrainingError(f"--out should end in .h5, found {args.out}")


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """What went wrong when a file was written, in one line; what was there is still there."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error.strerror or error}") from error
