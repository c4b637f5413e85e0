"""A dataset is one file and the folder beside it: recordings by split, or ready mixtures.

``denoise-app dataset build`` makes it and ``info`` tells what it holds. Training takes
``collections`` from it. Not here: how shards are made (``dataset_build``), and what the
two layouts are (``dataset_pcm``, ``thesis_layout``).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.spec import ModelSpec
from training.dataset_build import build_shards, remove_strays, shard_folder
from training.dataset_pcm import SoundShard, collections, join, sound_shards

__all__ = ["SETTINGS", "add_arguments", "build", "collections", "run"]

log = logging.getLogger(__name__)

SETTINGS = {
    "classic": ModelSpec("classic", "1", 11_025, 1024, 512, 513),
    "fullband": ModelSpec(
        "fullband", "1", 48_000, 960, 480, 481, window="sqrt_hann", synthesis_window="sqrt_hann"
    ),
}
"""Rate and transform by name; every bin of the spectrum."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = commands.add_parser("build", help="make a dataset of folders of sound")
    add = build.add_argument
    add("--speech", type=Path, nargs="+", required=True, help="folders of clean speech")
    add("--noise", type=Path, nargs="+", required=True, help="folders of noise")
    add("--rir", type=Path, nargs="*", default=[], help="folders of room impulse responses")
    add("--out", type=Path, required=True, metavar="FILE.h5", help="its shards lie beside it")
    add("--setting", choices=SETTINGS, default="classic", help="rate (default: %(default)s)")
    add("--rate", type=int, help="another rate than the setting's [Hz]")
    add("--held-out", type=float, default=0.07, help="share of valid (default: %(default)s)")
    add("--test", type=float, default=0.07, help="share of test (default: %(default)s)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster (default: processes here)")
    add("--workers", type=int, default=0, help="processes here (default: one per core)")
    add("--shard-minutes", type=float, default=10.0, help="length of a shard [min]")


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Do what the arguments say.

    Raises
    ------
    engine.errors.TrainingError : the command could not do it
    """
    build(args)
    tell(f"wrote {args.out}\n")


def build(args: argparse.Namespace) -> None:
    """Make a dataset, or what is missing of it."""
    spec = SETTINGS[args.setting]
    spec = replace(spec, sample_rate=args.rate or spec.sample_rate)
    shards: list[SoundShard] = []
    for kind, folders in (("speech", args.speech), ("noise", args.noise), ("rooms", args.rir)):
        if folders:
            shards += sound_shards(folders, kind, spec.sample_rate, args.shard_minutes)
    folder = shard_folder(args.out)
    build_shards(folder, shards, args.scheduler, args.workers)
    join(args.out, shards, args.held_out, args.test)
    remove_strays(folder, [shard.name for shard in shards])
