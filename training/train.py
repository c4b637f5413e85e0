"""The training loop: mixtures in, a checkpoint now and then, a model file at the end.

``denoise-app train [SETTINGS.toml] --out runs/NAME``. Not here: what a mixture, a network,
a loss, a setting or a model file is (``mixing``, ``networks``, ``objectives``, ``settings``,
``export``).

A run's folder holds ``settings.toml``, ``state.npz`` (all that resuming takes),
``checkpoint.npz`` (the best weights so far: what is exported), the log and its pictures, the
catalogue and the model file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.errors import TrainingError
from engine.stft import Float
from training import figures, memory, runs, settings
from training.batches import Batch, Batches, Supply, as_array, statistics
from training.files import replace_file, replacing
from training.mixing import Mixer
from training.recordings import Collection, Side, load, split, summary
from training.records import CATALOGUE, Log, Look, Pair, PairedBatches, Register
from training.rooms import decaying_rooms, of_side
from training.runs import BEST, LEVELS, STATE, TOLD
from training.settings import Optimiser, Run, Settings

if TYPE_CHECKING:
    from training.accelerated import CardBatches
    from training.dataset_mixed import MixedBatches
    from training.networks import Preset
    from training.objectives import Objective

log = logging.getLogger("training")

KEPT_FRAMES = 4000
"""How many are left to compare a model file with the network on."""

# A card draws among rooms that it holds, 2 MB each; a processor makes each one anew.
_DECAYING_ROOMS = 100

# A pause of the whole process (a laptop asleep) is not time spent learning.
_LONGEST_STEP_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    settings.add_arguments(parser)


@dataclass(slots=True)
class Progress:
    """Where a run is: all that a checkpoint needs beside weights and optimiser."""

    step: int = 0
    spent_s: float = 0.0
    best: float = math.inf
    """Lowest held-out loss so far."""
    stale: int = 0
    """Looks since then."""
    factor: float = 1.0
    """Of the learning rate, lowered on a plateau."""
    lost: Any = 0.0
    """Sum of the losses since the last look, a number that may lie on a card still; its updates
    are counted by ``step``."""
    checkpoint: int = 0
    """Id in the catalogue; 0 before the first."""
    looks: list[Look] = field(default_factory=list)

    def share(self, run: Run) -> float:
        """How much of the run is over, 0…1."""
        if run.steps is not None:
            return min(1.0, self.step / run.steps)
        minutes = 60.0 if run.minutes is None else run.minutes
        return min(1.0, self.spent_s / (60.0 * minutes)) if minutes else 1.0

    def over(self, run: Run) -> bool:
        """Whether there is nothing more to learn: its length, or nothing gained by more."""
        return self.share(run) >= 1.0 or 0 < run.patience <= self.stale

    def judge(self, held_out: float, optimiser: Optimiser) -> bool:
        """Take note of the loss that a look found; returns whether none was lower before."""
        if held_out < self.best:
            self.best, self.stale = held_out, 0
            return True
        self.stale += 1
        if optimiser.schedule == "plateau" and self.stale % optimiser.plateau_looks == 0:
            self.factor *= optimiser.plateau_factor
        return False

    def arrays(self) -> dict[str, np.ndarray]:
        """For a checkpoint."""
        self.lost = float(self.lost)
        plain = asdict(self) | {"looks": np.array(self.looks).reshape(-1, len(Look._fields))}
        return {f"progress.{name}": np.array(value) for name, value in plain.items()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Progress:
        """What ``arrays`` gave; raises TrainingError when it did not give them."""
        if missing := [n for n in cls.__dataclass_fields__ if f"progress.{n}" not in arrays]:
            raise TrainingError(f"no checkpoint of this version: it lacks {', '.join(missing)}")
        plain = {name: arrays[f"progress.{name}"] for name in cls.__dataclass_fields__}
        looks = [Look(int(n), int(step), *rest) for n, step, *rest in plain.pop("looks").tolist()]
        return cls(**{name: value.item() for name, value in plain.items()}, looks=looks)


def learning_rate(share: float, optimiser: Optimiser, factor: float = 1.0) -> float:
    """The rate after a share of the run, 0…1; ``factor`` is what plateaus have left of it."""
    highest, warm_up = optimiser.rate * factor, optimiser.warm_up
    if share < warm_up:
        return highest * (0.05 + 0.95 * share / warm_up)
    if optimiser.schedule != "cosine":
        return highest
    falling = (share - warm_up) / (1.0 - warm_up)
    return highest * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * falling)))


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Train as settings and arguments say, and write the model file.

    Raises
    ------
    engine.errors.TrainingError : a setting is wrong, a folder holds no sound, the run's folder
        holds a run already, its checkpoint is of another network, the catalogue cannot be
        used, or there are not as many devices
    engine.errors.ModelError : the setting of the model is not possible
    """
    chosen = settings.settings(args)
    if not args.resume and any((chosen.out / name).exists() for name in (STATE, BEST)):
        raise TrainingError(
            f"{chosen.out} holds a run already: go on with --resume, or choose another folder"
        )
    memory.keep()
    # What processor it found is nothing to read between our lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # TensorFlow wants to know of other hosts before it does anything.
    strategy, is_first = _strategy(chosen)
    from training import losses, networks, objectives
    from training.export import export_run

    begun = None
    if chosen.start is not None and (
        chosen.preset == settings.AS_START or not (chosen.out / STATE).exists()
    ):
        begun = runs.beginning(chosen.start)
    chosen, usual = _with_preset(chosen, begun)
    preset = settings.table(networks.Preset, chosen.network, "network", usual)
    weights = settings.table(losses.Weights, chosen.loss, "loss")
    model = replace(
        chosen.model,
        filter_bins=preset.filter_bins,
        filter_taps=preset.filter_taps,
        phase_bins=preset.phase_bins,
    )
    chosen = replace(chosen, model=model)
    chosen = replace(chosen, network=asdict(preset), loss=asdict(weights))
    objective = objectives.objective(preset, chosen.model, weights)
    _prepare(chosen)
    try:
        chosen.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{chosen.out} cannot be the run's folder: {error}") from error
    state = runs.arrays(chosen.out / STATE) if (chosen.out / STATE).exists() else None
    progress = Progress.of(state) if state else Progress()
    if chosen.data.mixed_on == "card":
        _check_card()
    made = partial(_learner, chosen, preset, objective, strategy)
    learner, before = None, begun.before if begun is not None else {}
    if state is not None or begun is not None:
        # Levels are among the weights; what does not fit is told before hours of sound are read.
        unknown = np.zeros(chosen.model.n_bins, np.float32)
        learner = made((unknown, unknown))
        if state is not None:
            before = runs.told_of(chosen.out).get("before", {})
            learner.restore(state)
            log.info("resumed at step %d, %.1f min", progress.step, progress.spent_s / 60.0)
        elif begun is not None:
            learner.begin_with(begun.weights)
    learnt, held_out, speech, noise, data = _supplies(chosen, objective.waves)
    if learner is None:
        learner = made(statistics(learnt, chosen.run.statistics_batches))
    validation = [held_out[k] for k in range(chosen.run.validation_batches)]
    if not is_first:
        _learn(learner, learnt, validation, progress, chosen, _Leaving(chosen, None, None))
        return
    _describe_run(chosen, data, validation[0], before)
    catalogue = chosen.catalogue or chosen.out / CATALOGUE
    with closing(Register(catalogue, chosen.out, chosen.model, speech, noise)) as register:
        register.resume(progress.checkpoint)
        table = Log(chosen.out, progress.looks, chosen.run.tensorboard)
        _learn(learner, learnt, validation, progress, chosen, _Leaving(chosen, table, register))
    figures.draw(progress.looks, chosen.model.name, chosen.out / figures.FIGURE)
    path = export_run(chosen.out, chosen.out / f"{chosen.model.name}.onnx")
    tell(f"wrote {path}\n")


class Learner:
    """A network with its optimiser and loss, on one device or on several.

    Parameters
    ----------
    chosen : optimiser and seed are read
    preset : of the network, a ``networks.Preset``
    mean_db, deviation_db : (n_bins,) of what it will hear [dB]
    strategy : of ``tf.distribute``, or None for one device
    """

    def __init__(
        self,
        chosen: Settings,
        preset: Any,
        objective: Objective,
        mean_db: Float,
        deviation_db: Float,
        strategy: Any = None,
    ) -> None:
        import keras

        from training import networks

        self.objective = objective
        self._has_average = chosen.optimiser.average > 0.0
        with strategy.scope() if strategy is not None else nullcontext():
            self.model = networks.build(
                preset, mean_db, deviation_db, chosen.model.sample_rate / chosen.model.n_fft
            )
            averaging = {"use_ema": True, "ema_momentum": chosen.optimiser.average}
            self.model.compile(
                optimizer=keras.optimizers.Adam(
                    chosen.optimiser.rate,
                    global_clipnorm=chosen.optimiser.clip,
                    **(averaging if self._has_average else {}),
                ),
                loss=objective.losses,
                loss_weights=objective.loss_weights,
                jit_compile=_compiled(),
            )
            self.model.optimizer.build(self.model.trainable_variables)
        self._keras = self.model if strategy is None else _Together(self.model, strategy)

    def begin_with(self, weights: dict[str, np.ndarray]) -> None:
        """Before the first update: from what another network learnt, ``networks.begin_with``."""
        from training import networks

        networks.begin_with(self.model, weights)

    def learn(self, batch: Batch, rate: float) -> float:
        """One update; returns the loss before it."""
        self.model.optimizer.learning_rate = rate
        self.model.reset_metrics()  # Keras 2 would average the losses of a whole run
        return _total(self._keras.train_on_batch(batch.heard, self.objective.targets(batch)))

    def look(self, batches: list[Batch]) -> tuple[float, float]:
        """Mean loss and the thesis's accuracy, nothing being learnt."""
        losses, accuracies = [], []
        for batch in batches:
            self.model.reset_metrics()
            targets = self.objective.targets(batch)
            losses.append(_total(self._keras.test_on_batch(batch.heard, targets)))
            found = self._keras.predict_on_batch(batch.heard)
            outputs = found if isinstance(found, list) else [found]
            accuracies.append(self.objective.accuracy(batch, outputs))
        return float(np.mean(losses)), float(np.mean(accuracies))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """With the moving average of the weights in their place."""
        from training import networks

        own = networks.weights_of(self.model)
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        try:
            yield
        finally:
            networks.set_weights(self.model, own)

    def best_of(self, batches: list[Batch]) -> tuple[float, float, bool, dict[str, np.ndarray]]:
        """Loss, accuracy and weights of the average or of the weights themselves, which is better.

        The third is whether it was the average. It lags behind by a thousand updates, which
        is worse in the beginning and better in the end.
        """
        from training import networks

        own = (*self.look(batches), False, networks.weights_of(self.model))
        if not self._has_average:
            return own
        with self.averaged():
            average = (*self.look(batches), True, networks.weights_of(self.model))
        return average if average[0] < own[0] else own

    def arrays(self) -> dict[str, np.ndarray]:
        """For a checkpoint: weights, and what the optimiser remembers, averages with it."""
        from training import networks

        arrays = networks.weights_of(self.model)
        for k, variable in enumerate(self.model.optimizer.variables):
            arrays[f"optimiser.{k}"] = np.asarray(variable)
        return arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Put back what ``arrays`` gave; raises TrainingError when it is of another network."""
        from training import networks

        networks.set_weights(self.model, arrays)
        for k, variable in enumerate(self.model.optimizer.variables):
            if f"optimiser.{k}" not in arrays:
                raise TrainingError("the checkpoint is of another optimiser: resume it as it began")
            variable.assign(arrays[f"optimiser.{k}"])


class _Together:
    """Keras's own steps on several devices or hosts, with the batch divided among them.

    ``train_on_batch`` of Keras 3 hands each device the whole batch, and fails on several
    hosts (3.15: it takes the mean of losses along an axis they have not).
    """

    def __init__(self, model: Any, strategy: Any) -> None:
        import keras
        import tensorflow as tf

        self._model, self._strategy = model, strategy
        # Keras 3 cannot make its metrics within a step, Keras 2 only there.
        self._is_built = not hasattr(keras, "ops")
        self._predict = tf.function(model.predict_step)
        self._train, self._test = (self._mean(s) for s in (model.train_step, model.test_step))

    def train_on_batch(self, heard: Float, targets: list[Float]) -> float:
        """One update by all; returns the mean loss."""
        return float(self._train(self._divided(heard, targets)))

    def test_on_batch(self, heard: Float, targets: list[Float]) -> float:
        """The mean loss."""
        return float(self._test(self._divided(heard, targets)))

    def predict_on_batch(self, heard: Float) -> Any:
        """The answers of this host's first device."""
        found = self._predict((heard,))
        return [np.asarray(output) for output in (found if isinstance(found, list) else [found])]

    def _mean(self, step: Callable[[Any], dict[str, Any]]) -> Any:
        import tensorflow as tf

        def together(data: Any) -> Any:
            losses = self._strategy.run(step, args=(data,))["loss"]
            return self._strategy.reduce("MEAN", losses, axis=None)

        return tf.function(together)

    def _divided(self, heard: Float, targets: list[Float]) -> Any:
        """Each device's clips; every host makes the same batch and takes its part."""
        import tensorflow as tf

        if not self._is_built:
            one, *others = (tf.convert_to_tensor(array[:1]) for array in (heard, *targets))
            with self._strategy.scope():
                self._model.test_step((one, others))
            self._model.reset_metrics()
            self._is_built = True
        n = len(heard) // self._strategy.num_replicas_in_sync

        def part(array: Float) -> Any:
            whole = tf.convert_to_tensor(array)
            return self._strategy.experimental_distribute_values_from_function(
                lambda context: whole[(k := context.replica_id_in_sync_group * n) : k + n]
            )

        return part(heard), [part(target) for target in targets]


class _Leaving:
    """What a run leaves behind while it learns: nothing, if another host does it."""

    def __init__(self, chosen: Settings, table: Log | None, register: Register | None) -> None:
        self._chosen, self._table, self._register = chosen, table, register
        self._saved = time.monotonic()
        self.pairs: Counter[Pair] = Counter()
        """Learnt from since the last checkpoint."""

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is too long ago."""
        return time.monotonic() - self._saved >= self._chosen.run.save_s

    def save(self, learner: Learner, progress: Progress) -> None:
        """A checkpoint: first its row in the catalogue, then its file in place of the last."""
        from training import networks

        if self._register is not None:
            path = self._chosen.out / STATE
            progress.checkpoint = self._register.checkpoint(
                path,
                progress.step,
                len(progress.looks),
                progress.looks[-1].held_out if progress.looks else None,
                self.pairs,
            )
            networks.save(path, learner.arrays() | progress.arrays())
        self.pairs.clear()
        self._saved = time.monotonic()

    def save_best(self, weights: dict[str, np.ndarray], progress: Progress) -> None:
        """The weights that will be exported if none better come."""
        from training import networks

        if self._register is not None:
            networks.save(self._chosen.out / BEST, weights | {"step": np.array(progress.step)})

    def look(self, look: Look) -> None:
        """A line of the log."""
        if self._table is not None:
            self._table.add(look)


def _learn(
    learner: Learner,
    learnt: PairedBatches | MixedBatches | CardBatches,
    validation: list[Batch],
    progress: Progress,
    chosen: Settings,
    leaving: _Leaving,
) -> None:
    """Update until the run is over; look at held-out sound and save now and then."""
    run, frames = chosen.run, chosen.batch.clips * chosen.batch.frames
    batches = learnt.ahead(progress.step)
    with _bar(progress, run) as show, closing(batches):  # type: ignore[type-var]  # a generator
        first, waiting_s, began = progress.step, 0.0, time.monotonic()
        before = began
        while not progress.over(run):
            rate = learning_rate(progress.share(run), chosen.optimiser, progress.factor)
            asked = time.monotonic()
            batch = next(batches)
            waiting_s += time.monotonic() - asked
            progress.lost += learner.learn(batch, rate)
            if run.tracks:
                leaving.pairs.update(learnt.met(progress.step))
            progress.step += 1
            now = time.monotonic()
            progress.spent_s += min(now - before, _LONGEST_STEP_S)
            before = now
            if progress.step % run.validate == 0 or progress.over(run):
                took_s = max(now - began, 1e-9)
                speed = (progress.step - first) * frames / took_s, waiting_s / took_s
                _look(learner, batch, validation, progress, rate, chosen, speed, leaving)
                leaving.save(learner, progress)
                first, waiting_s, began = progress.step, 0.0, time.monotonic()
            elif leaving.is_due:
                leaving.save(learner, progress)
            show()


def _look(
    learner: Learner,
    learnt_from: Batch,
    validation: list[Batch],
    progress: Progress,
    rate: float,
    chosen: Settings,
    speed: tuple[float, float],
    leaving: _Leaving,
) -> None:
    """Find out how good the network is, and keep it if it was never better."""
    held_out, accuracy, averaged, weights = learner.best_of(validation)
    if not math.isfinite(held_out):
        raise TrainingError(
            f"the loss is {held_out} at step {progress.step}: a lower --rate, or begin again "
            f"with the weights before it (--start {chosen.out})"
        )
    if progress.judge(held_out, chosen.optimiser):
        leaving.save_best(weights, progress)
    since = progress.looks[-1].step if progress.looks else 0
    look = Look(
        look=len(progress.looks) + 1,
        step=progress.step,
        minutes=progress.spent_s / 60.0,
        rate=rate,
        loss=float(progress.lost) / (progress.step - since),
        accuracy=learner.look([learnt_from])[1],
        held_out=held_out,
        held_out_accuracy=accuracy,
        averaged=float(averaged),
        frames_s=speed[0],
        waiting=speed[1],
    )
    progress.looks.append(look)
    progress.lost = 0.0
    leaving.look(look)


@contextmanager
def _bar(progress: Progress, run: Run) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal; elsewhere the log's lines are what tells."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    by_steps = run.steps is not None
    total = run.steps if by_steps else round(60.0 * (60.0 if run.minutes is None else run.minutes))

    def at() -> int:
        return progress.step if by_steps else round(progress.spent_s)

    unit = " updates" if by_steps else " s"
    with logging_redirect_tqdm(), tqdm(total=total, initial=at(), unit=unit) as bar:
        yield lambda: bar.update(at() - bar.n)


def _learner(
    chosen: Settings, preset: Any, objective: Objective, strategy: Any, levels: tuple[Float, Float]
) -> Learner:
    """What learns: on a card with an update of its own, where the network has one."""
    if chosen.data.mixed_on == "card":
        from training import card_learning

        if card_learning.learns(preset):
            return card_learning.CardLearner(chosen, preset, objective, *levels)
    if chosen.optimiser.kind == "muon":
        raise TrainingError(
            "optimiser.kind = muon takes a network of bands and data.mixed_on = card"
        )
    return Learner(chosen, preset, objective, *levels, strategy)


def _strategy(chosen: Settings) -> tuple[Any, bool]:
    """What divides batches among devices or hosts, and whether this host is the first.

    TensorFlow's own: of several hosts, where ``TF_CONFIG`` names them, or of several
    devices of this one; None for a single device, which needs none.
    """
    hosts = json.loads(os.environ.get("TF_CONFIG", "{}"))
    if not hosts.get("cluster") and chosen.devices == "1":
        return None, True
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise TrainingError("several devices take Keras on TensorFlow: unset KERAS_BACKEND")
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.WARNING)  # each sum over devices is told
    first = True
    if hosts.get("cluster"):
        if chosen.run.steps is None:
            raise TrainingError("hosts that learn together need a length in --steps: clocks differ")
        strategy: Any = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = strategy.cluster_resolver
        first = resolver.task_type in (None, "chief") or (
            resolver.task_type == "worker"
            and resolver.task_id == 0
            and "chief" not in hosts["cluster"]
        )
    else:
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        wanted = len(found) if chosen.devices == "all" else int(chosen.devices)
        if wanted > len(found):
            raise TrainingError(f"{wanted} devices were asked for, {len(found)} are there")
        if wanted == 1:
            return None, True
        strategy = tf.distribute.MirroredStrategy([device.name for device in found[:wanted]])
    n = strategy.num_replicas_in_sync
    if chosen.batch.clips % n:
        raise TrainingError(f"a batch of {chosen.batch.clips} clips cannot be divided among {n}")
    return strategy, first


def _prepare(chosen: Settings) -> None:
    """Seeds, and operations that give the same bits each time."""
    import keras

    keras.utils.set_random_seed(chosen.seed)
    if chosen.run.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _compiled() -> Any:
    """What to tell ``compile`` about XLA: slower on processors (7,900 frames/s against 11,000)."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return False
    return "auto" if hasattr(keras, "ops") else None


def _total(losses: Any) -> float:
    """Of what ``train_on_batch`` returns: all losses together, or the parts after them."""
    return float(np.ravel(losses)[0])


def _supplies(
    chosen: Settings, waves: bool
) -> tuple[
    PairedBatches | MixedBatches | CardBatches, Supply, Collection, Collection, dict[str, Any]
]:
    """Batches to learn from and of held-out sound, speech and noise of the first, and a summary."""
    if chosen.data.dataset and (chosen.data.speech or chosen.data.noise or chosen.data.rir):
        raise TrainingError("--dataset takes the place of --speech, --noise and --rir: leave out")
    if chosen.data.dataset:
        from training import dataset_mixed

        if dataset_mixed.is_layout(chosen.data.dataset):
            return _ready(chosen, chosen.data.dataset, waves)
    sides = _from_dataset(chosen) if chosen.data.dataset else _from_folders(chosen)
    drawn_from: list[tuple[Any, Any, Any, Any, Any]] = []
    for k, ((speech, noise, rooms), what) in enumerate(
        zip(sides, ("trained on", "held out"), strict=True)
    ):
        if not (speech.recordings and noise.recordings):
            raise TrainingError(f"too few voices or noises: none is left to be {what}")
        log.info("%s: %.2f h of speech, %.2f h of noise", what, speech.hours, noise.hours)
        rate = chosen.model.sample_rate
        simulated = of_side(rate, _cache(chosen), chosen.data.simulated_rooms, k)
        if chosen.data.mixed_on == "card":
            simulated = simulated or decaying_rooms(rate, _DECAYING_ROOMS, seed=k)
        drawn_from.append((speech, noise, rooms, chosen.mixing, simulated))
    spec, clips, frames = chosen.model, chosen.batch.clips, chosen.batch.frames
    seed = 2 * chosen.seed
    learnt: PairedBatches | CardBatches
    held_out: Supply
    if chosen.data.mixed_on == "card":
        from training.accelerated import CardBatches, CardMixer

        echoes = chosen.batch.echo, 1
        cards = [
            CardMixer(*sound, clips, frames * spec.hop, echo)
            for sound, echo in zip(drawn_from, echoes, strict=True)
        ]
        learnt, held_out = (CardBatches(c, spec, seed + k, waves) for k, c in enumerate(cards))
    else:
        mixers = [Mixer(*sound) for sound in drawn_from]
        size = clips, frames
        learnt = PairedBatches(mixers[0], spec, *size, seed, waves, chosen.batch.echo)
        held_out = Batches(mixers[1], spec, *size, seed + 1, waves)
    speech, noise, _ = sides[0]
    return learnt, held_out, speech, noise, summary(sides)


def _check_card() -> None:
    """Raise TrainingError unless Keras learns by what mixes on a card."""
    import keras

    if importlib.util.find_spec("torch") is None:
        raise TrainingError("data.mixed_on = card needs torch: install the extra 'card'")
    if getattr(keras, "backend", None) is None or keras.backend.backend() != "torch":
        raise TrainingError("data.mixed_on = card takes Keras on PyTorch: set KERAS_BACKEND=torch")


def _cache(chosen: Settings) -> Path:
    """Folder of what is decoded or simulated once."""
    return chosen.data.cache or chosen.out / "cache"


def _ready(
    chosen: Settings, path: Path, waves: bool
) -> tuple[MixedBatches, Supply, Collection, Collection, dict[str, Any]]:
    """The same of a dataset of ready mixtures, which has the recordings' names alone."""
    from training import dataset_mixed
    from training.dataset_mixed import MixedBatches

    if waves:
        raise TrainingError(
            f"{path}: holds no samples, which loss.si_sdr, opinion, background and p808 need: "
            "use layout pcm"
        )
    if chosen.model.phase_bins:
        raise TrainingError(f"{path}: holds no phases, which network.phase needs: use layout pcm")
    log.info("%s: mixtures are ready, so nothing in the table mixing changes them", path)
    size = chosen.batch.clips, chosen.batch.frames
    learnt = MixedBatches(path, "train", chosen.model, *size, seed=2 * chosen.seed)
    held_out = MixedBatches(path, "valid", chosen.model, *size, seed=2 * chosen.seed + 1)
    return learnt, held_out, learnt.speech, learnt.noise, dataset_mixed.training(path)


def _from_dataset(chosen: Settings) -> tuple[Side, Side]:
    """Both sides of a built dataset: what is trained on, what is held out."""
    from training.dataset import collections

    assert chosen.data.dataset is not None
    return collections(chosen.data.dataset, "train"), collections(chosen.data.dataset, "valid")


def _from_folders(chosen: Settings) -> tuple[Side, Side]:
    """The same of folders, decoded and divided here."""
    data, rate = chosen.data, chosen.model.sample_rate
    if not (data.speech and data.noise):
        raise TrainingError("nothing to learn from: give --speech and --noise, or --dataset")
    cache = _cache(chosen)
    speech = split(load(data.speech, rate, cache / "speech"), data.held_out)
    noise = split(load(data.noise, rate, cache / "noise"), data.held_out)
    if not data.rir:
        return (speech[0], noise[0], None), (speech[1], noise[1], None)
    rooms = split(load(data.rir, rate, cache / "rir"), data.held_out)
    return (speech[0], noise[0], rooms[0]), (speech[1], noise[1], rooms[1])


def _with_preset(chosen: Settings, begun: runs.Beginning | None) -> tuple[Settings, Preset]:
    """The preset that is meant, and settings that name one: weights tell all but their loss."""
    from training import networks

    if chosen.preset != settings.AS_START:
        return chosen, networks.named(chosen.preset)
    if begun is None:
        raise TrainingError(f"preset {settings.AS_START} is that of what --start names: give both")
    preset = networks.preset_of(begun.weights)
    name = begun.preset
    if name is None or name not in networks.PRESETS:
        return chosen, preset
    return replace(chosen, preset=name), replace(preset, loss=networks.PRESETS[name].loss)


def _describe_run(
    chosen: Settings, data: dict[str, Any], held_out: Batch, before: dict[str, float]
) -> None:
    """Leave beside the checkpoint what repeating it and exporting it take."""
    training = data | {
        "preset": chosen.preset,
        "seed": chosen.seed,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
    }
    told = {
        "spec": asdict(chosen.model),
        "training": training,
        "frames_per_step": chosen.batch.clips * chosen.batch.frames,
        "before": before,
    }
    # Enough to compare a model file on; a card's batches are hundreds of megabytes.
    clips = max(1, KEPT_FRAMES // held_out.noisy_db.shape[1])
    with replacing(chosen.out / LEVELS) as part, part.open("wb") as file:
        np.save(file, as_array(held_out.heard[:clips]))
    replace_file(chosen.out / TOLD, json.dumps(told, indent=1).encode())
    replace_file(chosen.out / settings.FILE, settings.to_toml(chosen).encode())


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
