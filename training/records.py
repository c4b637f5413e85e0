"""What a run leaves behind beside its weights: its log, and its entries in the catalogue.

Not here: checkpoints (``train``), pictures (``figures``).
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from acquisition.catalogue import DELETED, OK, Catalogue, CatalogueError, maker
from engine.errors import TrainingError
from engine.spec import ModelSpec
from training.batches import Batch, Batches, batch_of
from training.files import replace_file
from training.mixing import Mixer
from training.recordings import Collection

log = logging.getLogger("training")

LOG = "log.csv"
EVENTS = "tensorboard"
CATALOGUE = "catalogue.sqlite"
"""Names in the run's folder."""

# A batch is learnt from again some updates after the first time; then it is forgotten.
_REMEMBERED = 32

Pair = tuple[str, str]
"""Names of a speech and a noise recording that were heard together."""


class Look(NamedTuple):
    """One line of the log: what was found at one look at held-out sound."""

    look: int
    step: int
    """Updates so far."""
    minutes: float
    """Spent learning [min]."""
    rate: float
    """Learning rate."""
    loss: float
    """Mean since the look before."""
    accuracy: float
    """The thesis's, 0…1, of the last batch that was learnt from."""
    held_out: float
    """Loss on held-out sound, of what does better: average of the weights or themselves."""
    held_out_accuracy: float
    averaged: float
    """1 if that was the average."""
    frames_s: float
    """Learnt from per second of learning, since the look before or the resumption."""
    waiting: float
    """Share of that time spent waiting for data, 0…1."""


class Log:
    """All looks of a run: a CSV file, TensorBoard's event files, and a line each on the screen.

    Parameters
    ----------
    folder : of the run
    looks : those of a run that is resumed; the file is written anew with them
    tensorboard : whether to write event files; it takes Keras on TensorFlow
    """

    def __init__(self, folder: Path, looks: Sequence[Look], tensorboard: bool) -> None:
        self._path = folder / LOG
        self.looks = list(looks)
        self._write()
        self._events = _events(folder / EVENTS) if tensorboard else None

    def add(self, look: Look) -> None:
        """Write down one look."""
        self.looks.append(look)
        self._write()
        if self._events is not None:
            _add_event(self._events, look)
        log.info("%s", describe(look))

    def _write(self) -> None:
        """The file as a whole: cut off lines, or lines of a future undone by a kill, cannot be."""
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(Look._fields)
        for look in self.looks:
            table.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in look)
        replace_file(self._path, text.getvalue().encode())


def read_looks(folder: Path) -> list[Look]:
    """All looks of a run, from its folder; raises TrainingError where there are none."""
    try:
        with (folder / LOG).open(newline="", encoding="utf-8") as file:
            rows = [[float(row[name]) for name in Look._fields] for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{folder}: not the folder of a run: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{folder / LOG}: not the log of a run") from error
    if not rows:
        raise TrainingError(f"{folder}: this run has not looked at held-out sound yet")
    return [Look(int(look), int(step), *rest) for look, step, *rest in rows]


def describe(look: Look) -> str:
    """A look in one line."""
    return (
        f"look {look.look}: step {look.step}, {look.minutes:.1f} min, rate {look.rate:.2g}, "
        f"loss {look.loss:.4g}, accuracy {look.accuracy:.1%}, held out {look.held_out:.4g} "
        f"({'average' if look.averaged else 'as learnt'}), accuracy {look.held_out_accuracy:.1%}, "
        f"{look.frames_s:.0f} frames/s, waiting {look.waiting:.0%}"
    )


def _events(folder: Path) -> Any:
    """What writes event files, or None where TensorFlow is not at work."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow

    return tensorflow.summary.create_file_writer(str(folder))


def _add_event(writer: Any, look: Look) -> None:
    """Scalars as TensorFlow itself writes them: ``summary.scalar`` needs TensorBoard installed."""
    import tensorflow as tf

    summary = tf.compat.v1.Summary()
    for name, value in look._asdict().items():
        if name not in ("look", "step"):
            summary.value.add(tag=name, simple_value=value)
    with writer.as_default():
        tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=look.step)
    writer.flush()


class PairedBatches(Batches):
    """Batches that remember which recordings met in them: ``pairs[k]`` of batch k."""

    def __init__(self, mixer: Mixer, *args: Any, **kwargs: Any) -> None:
        super().__init__(mixer, *args, **kwargs)
        self.pairs: dict[int, list[Pair]] = {}
        self._met: list[Pair] = []
        mixer.on_draw = lambda speech, noise: self._met.append((speech, noise))

    def __getitem__(self, k: int) -> Batch:
        self._met = []
        batch = super().__getitem__(k)
        self.pairs[k] = self._met
        self.pairs.pop(k - _REMEMBERED * self.echo, None)
        return batch

    def met(self, step: int) -> list[Pair]:
        """Which recordings were heard together in what was learnt from at ``step``."""
        return self.pairs[batch_of(step, self.echo)]


class Register:
    """A run's rows in the catalogue: its model, its checkpoints, and what was learnt between.

    A checkpoint is entered before its file is written. A kill between the two leaves a row
    for a file that never was: ``resume`` marks it DELETED, with what led to it.

    Raises
    ------
    engine.errors.TrainingError : the catalogue cannot be used, or holds another run's model
        of that name and version
    """

    def __init__(
        self, path: Path, folder: Path, spec: ModelSpec, speech: Collection, noise: Collection
    ) -> None:
        self._folder, self._model = folder, {"model_name": spec.name, "model_version": spec.version}
        self._last: int | None = None
        with _as_training_error():
            self._catalogue = Catalogue(path)
            try:
                with self._catalogue.transaction():
                    self._enter_model(spec)
                    self._speech = self._enter(
                        "audio_books_tracks", "track_", speech, lambda source: {"speaker": source}
                    )
                    self._noise = self._enter("noise_files", "", noise, lambda _: {})
            except BaseException:
                self._catalogue.close()
                raise

    def close(self) -> None:
        """Close the catalogue."""
        self._catalogue.close()

    def resume(self, checkpoint: int) -> None:
        """Go on after a checkpoint, or from the beginning if it is 0: what came later is undone."""
        with _as_training_error(), self._catalogue.transaction():
            self._last = None
            for row in self._catalogue.find("model_checkpoint", **self._model):
                number, status = row["id"], row["checkpoint_status"]
                if number == checkpoint:
                    self._last = checkpoint
                wanted = OK if number == checkpoint else DELETED
                if status != wanted:
                    self._mark(number, wanted)
                if checkpoint < number:
                    self._catalogue.change(
                        "training_track", {"end_checkpoint_id": number}, status=DELETED
                    )

    def checkpoint(
        self, path: Path, step: int, look: int, held_out: float | None, pairs: Mapping[Pair, int]
    ) -> int:
        """Enter a checkpoint that is about to replace the one before, and return its id.

        Parameters
        ----------
        step, look : how far the run is
        held_out : the last look's loss, if there was one
        pairs : how often each was learnt from since the checkpoint before
        """
        with _as_training_error(), self._catalogue.transaction():
            if self._last is not None:
                self._mark(self._last, DELETED)  # its file is written over
            number = self._catalogue.add(
                "model_checkpoint",
                **self._model,
                **maker(),
                checkpoint_path=str(path),
                step=step,
                held_out_loss=held_out,
            )
            self._catalogue.add_all(
                "training_track",
                (
                    {
                        **self._model,
                        "start_checkpoint_id": self._last,
                        "end_checkpoint_id": number,
                        "audio_book_track_id": self._speech[speech],
                        "noise_id": self._noise[noise],
                        "epoch": look,
                        "times": times,
                    }
                    for (speech, noise), times in pairs.items()
                ),
            )
        self._last = number
        return number

    def _mark(self, checkpoint: int, status: str) -> None:
        self._catalogue.change("model_checkpoint", {"id": checkpoint}, checkpoint_status=status)

    def _enter_model(self, spec: ModelSpec) -> None:
        key = {"name": spec.name, "version": spec.version}
        path = str(self._folder / f"{spec.name}.onnx")
        found = self._catalogue.find("model_info", **key)
        if not found:
            self._catalogue.add("model_info", **key, path=path, licence=spec.licence)
        elif found[0]["path"] != path:
            if self._catalogue.path.parent != self._folder:
                raise TrainingError(
                    f"{self._catalogue.path}: {spec.name} {spec.version} is the model of another "
                    f"run, {found[0]['path']}: choose another version, as --set model.version=2"
                )
            # Its own catalogue: the folder was moved or copied as a whole.
            self._catalogue.change("model_info", key, path=path)

    def _enter(self, table: str, prefix: str, collection: Collection, more: Any) -> dict[str, int]:
        """Ids of all recordings by name; those the catalogue does not know are added."""
        known = {}
        for row in self._catalogue.find(table):
            path = Path(row[f"{prefix}path"] or "")
            known[f"{path.parent.name}/{path.name}"] = row["id"]
            known[row[f"{prefix}name"]] = row["id"]
        for recording in collection.recordings:
            if recording.name not in known:
                known[recording.name] = self._catalogue.add(
                    table,
                    **{
                        f"{prefix}name": recording.name,
                        f"{prefix}duration": len(recording.samples) / collection.sample_rate,
                        "split": "train",
                        **more(recording.source),
                    },
                )
        return known


@contextmanager
def _as_training_error() -> Iterator[None]:
    """The catalogue's own error is not known to the command line."""
    try:
        yield
    except CatalogueError as error:
        raise TrainingError(str(error)) from error
