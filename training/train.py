"""The training loop: mixtures in, a checkpoint now and then, a model file at the end.

``denoise-app train --speech DIR --noise DIR --out runs/NAME``. Not here: what a
mixture, a network or a model file is (``mixing``, ``networks``, ``export``).
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import TrainingError
from engine.spec import ModelSpec
from training.batches import Batch, Batches, statistics
from training.mixing import Mixer, Recipe
from training.recordings import Collection, load, split

log = logging.getLogger("training")

CLASSIC = ModelSpec(
    name="classic",
    version="1",
    sample_rate=11025,
    n_fft=1024,
    hop=512,
    n_bins=250,
    window="hann",
    synthesis_window="rect",
    above="hold",
)
"""The setting of the thesis: 93 ms of sound, 46 ms apart, the bins up to 2.7 kHz."""

# A pause of the whole process (a laptop asleep) is not time spent learning.
_LONGEST_STEP_S = 30.0
_HELD_OUT = 0.07
_STATISTICS_BATCHES = 8
_WARM_UP = 0.01
"""Share of the run in which the learning rate rises."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    add = parser.add_argument
    add("--speech", type=Path, nargs="+", required=True, help="folders of clean speech")
    add("--noise", type=Path, nargs="+", required=True, help="folders of noise")
    add("--rir", type=Path, nargs="*", default=[], help="folders of room impulse responses")
    add("--out", type=Path, required=True, help="folder of this run: checkpoint, log, model")
    add("--cache", type=Path, help="folder of decoded sound (default: in the run's folder)")
    add("--preset", default="classic", help="size of the network (default: %(default)s)")
    add("--start", type=Path, metavar="RUN", help="begin with the weights of another run")
    add("--clean", type=float, default=Recipe().clean, help="share of clips without noise")
    add("--seed", type=int, default=1, help="of weights and mixtures (default: %(default)s)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="length by the clock [min] (default: 60)")
    length.add_argument("--steps", type=int, help="length in updates; reproducible by seed")
    add("--clips", type=int, default=48, help="clips in a batch (default: %(default)s)")
    add("--frames", type=int, default=96, help="frames of a clip (default: %(default)s)")
    add("--rate", type=float, default=1e-3, help="highest learning rate (default: %(default)s)")
    add("--validate", type=int, default=250, help="updates between looks at held-out sound")
    add("--validation-batches", type=int, default=6, help="batches of one look")
    add("--resume", action="store_true", help="go on from the run's checkpoint")


@dataclass(slots=True)
class Progress:
    """Where a run is; all that a checkpoint needs beside weights and optimiser."""

    step: int = 0
    spent_s: float = 0.0

    def share(self, steps: int | None, minutes: float | None) -> float:
        """How much of the run is over, 0…1."""
        if steps is not None:
            return min(1.0, self.step / steps)
        return min(1.0, self.spent_s / (60.0 * (minutes or 60.0)))


def learning_rate(share: float, highest: float) -> float:
    """Rises over the first hundredth, then falls along a half cosine to a hundredth."""
    if share < _WARM_UP:
        return highest * (0.05 + 0.95 * share / _WARM_UP)
    falling = (share - _WARM_UP) / (1.0 - _WARM_UP)
    return highest * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * falling)))


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Train as the arguments say, and write the model file.

    Raises
    ------
    engine.errors.TrainingError : a folder holds no sound, a preset is not known, or the
        checkpoint is of another network
    """
    import keras

    from training import networks
    from training.export import export_run
    from training.losses import SpectralLoss

    spec = CLASSIC
    if args.preset not in networks.PRESETS:
        raise TrainingError(f"preset should be one of {', '.join(networks.PRESETS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    learnt, held_out, data = _supplies(args, spec)
    keras.utils.set_random_seed(args.seed)
    mean_db, deviation_db = statistics(learnt, _STATISTICS_BATCHES)
    model = networks.gain_network(networks.PRESETS[args.preset], mean_db, deviation_db)
    if args.start:
        with np.load(args.start / "checkpoint.npz") as weights:
            networks.set_weights(model, weights)
    model.compile(
        # One wild batch must not undo an hour: the norm is some tenths in a normal one.
        optimizer=keras.optimizers.Adam(args.rate, global_clipnorm=5.0),
        loss=[SpectralLoss(spec.n_bins), "binary_crossentropy"],
        loss_weights=[1.0, 0.2],
        jit_compile=False,  # slower on processors: 7,900 frames/s against 11,000
    )
    model.optimizer.build(model.trainable_variables)
    checkpoint, progress = args.out / "checkpoint.npz", Progress()
    if args.resume and checkpoint.exists():
        progress = _restore(checkpoint, model)
        log.info("resumed at step %d, %.1f min", progress.step, progress.spent_s / 60.0)
    validation = [held_out[k] for k in range(args.validation_batches)]
    _describe_run(args, spec, data, validation[0])
    batches = learnt.ahead(progress.step)
    table = _Table(args.out / "log.csv", append=progress.step > 0)
    try:
        _learn(model, batches, validation, progress, args, table, checkpoint)
    finally:
        batches.close()  # type: ignore[attr-defined]  # a generator, typed as what it yields
    path = export_run(args.out, args.out / f"{spec.name}.onnx")
    tell(f"wrote {path}\n")


def _supplies(args: argparse.Namespace, spec: ModelSpec) -> tuple[Batches, Batches, dict[str, Any]]:
    """Batches to learn from, batches of held-out sound, and what they are made of."""
    cache = args.cache or args.out / "cache"
    speech = load(args.speech, spec.sample_rate, cache / "speech")
    noise = load(args.noise, spec.sample_rate, cache / "noise")
    rooms = load(args.rir, spec.sample_rate, cache / "rir") if args.rir else None
    parts = [split(c, _HELD_OUT) for c in (speech, noise)]
    parts.append(split(rooms, _HELD_OUT) if rooms else (None, None))  # type: ignore[arg-type]
    mixers = []
    for side, what in enumerate(("trained on", "held out")):
        chosen: list[Collection | None] = [pair[side] for pair in parts]
        told, noises, responses = chosen
        if told is None or noises is None or not (told.recordings and noises.recordings):
            raise TrainingError(f"too few voices or noises: none is left to be {what}")
        log.info("%s: %.2f h of speech, %.2f h of noise", what, told.hours, noises.hours)
        mixers.append(Mixer(told, noises, responses, replace(Recipe(), clean=args.clean)))
    size = (args.clips, args.frames)
    data = {
        "speech_hours": round(speech.hours, 2),
        "noise_hours": round(noise.hours, 2),
        "rooms": len(rooms.recordings) if rooms else 0,
        "skipped_files": len(speech.skipped) + len(noise.skipped),
        "data": sorted({r.name.split("/")[0] for c in (speech, noise) for r in c.recordings}),
    }
    return (
        Batches(mixers[0], spec, *size, seed=2 * args.seed),
        Batches(mixers[1], spec, *size, seed=2 * args.seed + 1),
        data,
    )


def _describe_run(
    args: argparse.Namespace, spec: ModelSpec, data: dict[str, Any], held_out: Batch
) -> None:
    """Leave beside the checkpoint what an export of it needs to know."""
    training = data | {
        "preset": args.preset,
        "seed": args.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
    }
    told = {
        "spec": asdict(spec),
        "training": training,
        "frames_per_step": args.clips * args.frames,
    }
    np.save(args.out / "levels.npy", held_out.noisy_db)
    (args.out / "run.json").write_text(json.dumps(told, indent=1))


def _commit() -> str:
    """The commit of this source, or nothing where it was installed without its history."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def _learn(
    model: Any,
    batches: Iterator[Batch],
    validation: list[Batch],
    progress: Progress,
    args: argparse.Namespace,
    table: _Table,
    checkpoint: Path,
) -> None:
    """Update until the run is over; look at held-out sound and save now and then."""
    losses: list[Any] = []
    before = time.monotonic()
    while (share := progress.share(args.steps, args.minutes)) < 1.0:
        model.optimizer.learning_rate = learning_rate(share, args.rate)
        batch = next(batches)
        model.reset_metrics()  # Keras would average the losses of a whole run
        losses.append(model.train_on_batch(batch.noisy_db, [batch.spectra, batch.speech]))
        progress.step += 1
        now = time.monotonic()
        progress.spent_s += min(now - before, _LONGEST_STEP_S)
        before = now
        over = progress.share(args.steps, args.minutes) >= 1.0
        if progress.step % args.validate == 0 or over:
            table.write(progress, learning_rate(share, args.rate), losses, _look(model, validation))
            losses.clear()
            _save(checkpoint, model, progress)


def _look(model: Any, validation: list[Batch]) -> np.ndarray:
    """Mean losses on held-out sound: total, spectral, speech."""
    found = []
    for batch in validation:
        model.reset_metrics()
        found.append(model.test_on_batch(batch.noisy_db, [batch.spectra, batch.speech])[:3])
    return np.mean(np.array(found, np.float64), axis=0)


class _Table:
    """The run's log: one line of a CSV file, and one on the screen, per look."""

    columns = ("step", "minutes", "rate", "loss", "gain", "speech", "held_out", "held_out_gain")

    def __init__(self, path: Path, append: bool) -> None:
        self._path = path
        if not append:
            path.write_text(",".join(self.columns) + "\n")

    def write(self, at: Progress, rate: float, losses: list[Any], held_out: np.ndarray) -> None:
        mean = np.mean(np.array([found[:3] for found in losses], np.float64), axis=0)
        row = [at.step, round(at.spent_s / 60.0, 2), f"{rate:.2e}"]
        row += [round(float(value), 4) for value in (*mean, *held_out[:2])]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(row)
        log.info(
            ", ".join(f"{name} {value}" for name, value in zip(self.columns, row, strict=True))
        )


def _save(path: Path, model: Any, progress: Progress) -> None:
    """Weights, optimiser and place in the run, in one file."""
    from training import networks

    arrays = networks.weights_of(model)
    for k, variable in enumerate(model.optimizer.variables):
        arrays[f"optimiser.{k}"] = np.asarray(variable)
    arrays["step"], arrays["spent_s"] = np.array(progress.step), np.array(progress.spent_s)
    networks.save(path, arrays)


def _restore(path: Path, model: Any) -> Progress:
    """Put back what ``_save`` wrote."""
    from training import networks

    with np.load(path) as file:
        arrays = dict(file)
    networks.set_weights(model, arrays)
    for k, variable in enumerate(model.optimizer.variables):
        variable.assign(arrays[f"optimiser.{k}"])
    return Progress(int(arrays["step"]), float(arrays["spent_s"]))
