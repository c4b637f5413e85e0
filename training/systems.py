"""What can be evaluated: model files, nothing at all, the oracle, what others made.

A system takes an item of a test set and answers with sound. Each can be pickled: they
work in other processes. Not here: how good the sound is (``scores``).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

import numpy as np
import soundfile

from engine.denoiser import Denoiser, Frame
from engine.errors import TrainingError
from engine.network import Estimate, Estimator, Network, State
from engine.pipeline import Pipeline
from engine.spec import ModelSpec
from engine.stft import Float
from training import peers
from training.scores import at_rate

# The file goes through in blocks, as from a sound card: 10 ms at 48 kHz.
_BLOCK = 480

_SUFFIXES = (".wav", ".flac")

# STOI and octaves are of frames of some 20 ms, and fail where there is not one.
_LEAST_S = 0.05


@dataclass(frozen=True, slots=True)
class Item:
    """One clip of a test set."""

    name: str
    snr_db: float
    noisy: Path
    clean: Path


class Processed(NamedTuple):
    """What a system made of an item."""

    sound: Float
    """(n_samples,) at the item's rate, as long as the noisy clip."""
    estimated_db: Float | None = None
    """(n_frames, n_fft // 2 + 1) levels of the clean speech as estimated, None without [dB]."""
    gain: Float | None = None
    """(n_frames, n_fft // 2 + 1) as applied, 0…1."""
    seconds: float = math.nan
    """Processor time of a model [s]."""


class System(Protocol):
    """Something that makes sound of a test set's items."""

    def __call__(self, item: Item) -> Processed: ...


@dataclass(frozen=True, slots=True)
class Unprocessed:
    """The noisy clips as they are."""

    def __call__(self, item: Item) -> Processed:
        return Processed(read(item.noisy)[0])


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model through the engine, as it is shipped."""

    path: Path

    def __call__(self, item: Item) -> Processed:
        sound, rate = read(item.noisy)
        return through(Network(self.path, provider="cpu"), sound, rate)


@dataclass(frozen=True, slots=True)
class Folder:
    """What another program made: a folder with ID.wav or ID.flac of every item, at any rate."""

    path: Path

    def file(self, item: Item) -> Path | None:
        """Where the sound of an item is, or None."""
        found = (self.path / f"{item.name}{suffix}" for suffix in _SUFFIXES)
        return next((path for path in found if path.is_file()), None)

    def __call__(self, item: Item) -> Processed:
        """Raises TrainingError when the item is missing, cannot be read or is not finite."""
        noisy, rate = read(item.noisy)
        path = self.file(item)
        if path is None:
            raise TrainingError(f"{self.path}: no {item.name}.wav or .flac")
        sound, its_rate = read(path)
        return Processed(fitted(at_rate(sound, its_rate, rate), len(noisy)))


@dataclass(frozen=True, slots=True)
class PeerProgram:
    """Another noise suppressor, running here: a name in ``peers.PEERS``."""

    name: str

    def __call__(self, item: Item) -> Processed:
        """Raises TrainingError when it is not installed."""
        sound, rate = read(item.noisy)
        heard = at_rate(sound, rate, peers.SAMPLE_RATE)
        hops = fitted(heard, -(-len(heard) // peers.HOP) * peers.HOP).reshape(-1, peers.HOP)
        clean = peers.started(self.name)
        started_s = time.process_time()
        made = np.concatenate([clean(hop) for hop in hops])
        seconds = time.process_time() - started_s
        return Processed(
            fitted(at_rate(made, peers.SAMPLE_RATE, rate), len(sound)), seconds=seconds
        )


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A system that hears each clip through a source of a lower rate [Hz], a headset's say."""

    system: System
    source_rate: int

    def __call__(self, item: Item) -> Processed:
        sound, rate = read(item.noisy)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "narrow.wav"
            soundfile.write(path, narrowed(sound, rate, self.source_rate), rate, subtype="FLOAT")
            return self.system(replace(item, noisy=path))


@dataclass(frozen=True, slots=True)
class Oracle:
    """The ideal ratio mask at a model's setting: what a network there could reach.

    sqrt(S² / (S² + N²)) in each of the network's bins, of the true speech and noise; the
    noisy phase, and the bins above as the setting has it.
    """

    spec: ModelSpec

    def __call__(self, item: Item) -> Processed:
        noisy, speech, rate = pair(item)
        powers = [
            10.0 ** (frames(self.spec, sound, rate)[:, : self.spec.n_bins] / 10.0)
            for sound in (speech, noisy - speech)
        ]
        gains = np.sqrt(powers[0] / (powers[0] + powers[1])).astype(np.float32)
        return through(Told(self.spec, gains), noisy, rate)._replace(seconds=math.nan)


@dataclass(frozen=True, slots=True)
class Passthrough:
    """An estimator that turns nothing down: the pipeline itself, heard through."""

    spec: ModelSpec

    def initial_state(self) -> State:
        return ()

    def __call__(self, heard: Float, state: State) -> Estimate:
        gain = np.ones((len(heard), self.spec.n_bins), np.float32)
        return Estimate(gain, np.ones(len(heard), np.float32), state)


@dataclass(frozen=True, slots=True)
class Told:
    """An estimator that has its gains from somebody who knows: (n_frames, n_bins)."""

    spec: ModelSpec
    gains: Float

    def initial_state(self) -> State:
        return (np.zeros((1, 1), np.float32),)  # the number of the next frame

    def __call__(self, heard: Float, state: State) -> Estimate:
        first = int(state[0][0, 0])
        # After the last frame told of comes silence.
        gain = np.ones((len(heard), self.spec.n_bins), np.float32)
        told = self.gains[first : first + len(heard)]
        gain[: len(told)] = told
        return Estimate(gain, np.ones(len(heard), np.float32), (state[0] + np.float32(len(heard)),))


def through(network: Estimator, sound: Float, rate: int) -> Processed:
    """A whole clip through the engine, block by block; its delay removed by it."""
    seen: list[Frame] = []
    pipeline = Pipeline(Denoiser(network), rate, seen.append)
    started_s = time.process_time()
    blocks = [pipeline.process(sound[k : k + _BLOCK]) for k in range(0, len(sound), _BLOCK)]
    made = np.concatenate([*blocks, pipeline.flush()])
    seconds = time.process_time() - started_s
    noisy_db, gain = np.array([f.noisy_db for f in seen]), np.array([f.gain for f in seen])
    floor_db = network.spec.floor_db
    with np.errstate(divide="ignore"):  # of a gain of 0: clamped as every level is
        estimated_db = np.maximum(noisy_db + np.float32(20.0) * np.log10(gain), floor_db)
    return Processed(made, estimated_db.astype(np.float32), gain, seconds)


def frames(spec: ModelSpec, sound: Float, rate: int) -> Float:
    """Levels that the engine shows a network of this setting: (n_frames, n_fft // 2 + 1) [dB]."""
    estimated_db = through(Passthrough(spec), sound, rate).estimated_db
    assert estimated_db is not None
    return estimated_db


def pair(item: Item) -> tuple[Float, Float, int]:
    """The noisy sound, the clean speech at the level it has in it, and their rate.

    The clean file itself may have another level.
    """
    (noisy, rate), (clean, _) = read(item.noisy), read(item.clean)
    level = np.dot(noisy, clean) / max(float(np.dot(clean, clean)), 1e-12)
    return noisy, clean * np.float32(level), rate


def items(folder: Path) -> list[Item]:
    """The clips of a test set.

    Raises TrainingError when it has no manifest or misses files, or when a noisy clip and its
    clean speech are not of one rate and one length.
    """
    try:
        with (folder / "manifest.csv").open(newline="") as file:
            rows = csv.DictReader(file, strict=True)  # so that an open quote swallows no clips
            found = [_item(folder, row, rows.line_num) for row in rows]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise TrainingError(f"{folder}: no manifest.csv with id and snr_db: {error}") from error
    missing = [path for item in found for path in (item.noisy, item.clean) if not path.is_file()]
    if missing or not found:
        raise TrainingError(f"{folder}: {len(missing)} files are missing, first: {missing[:1]}")
    for item in found:
        _check_pair(item)
    return found


def _item(folder: Path, row: Mapping[str, str | None], line: int) -> Item:
    name, snr_db = row["id"], row["snr_db"]
    if name is None or snr_db is None:
        raise ValueError(f"line {line} is too short")
    if not math.isfinite(float(snr_db)):
        raise ValueError(f"line {line}: snr_db should be finite, found {snr_db}")
    where = (folder / kind / f"{name}.flac" for kind in ("noisy", "clean"))
    return Item(name, float(snr_db), *where)


def _check_pair(item: Item) -> None:
    """Raise TrainingError for a clip that would end the scoring of all, or be scored wrongly."""
    (n_noisy, rate), (n_clean, clean_rate) = _extent(item.noisy), _extent(item.clean)
    if clean_rate != rate:
        raise TrainingError(f"{item.clean}: is at {clean_rate} Hz, the noisy clip at {rate} Hz")
    if n_clean != n_noisy:
        raise TrainingError(f"{item.clean}: has {n_clean} samples, the noisy clip {n_noisy}")
    if n_noisy < _LEAST_S * rate:
        raise TrainingError(f"{item.noisy}: is shorter than {_LEAST_S} s")


def _extent(path: Path) -> tuple[int, int]:
    """How many samples a file has, and its rate; raises as ``read``."""
    try:
        found = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise TrainingError(f"{path}: {error}") from error
    return found.frames, found.samplerate


def read(path: Path) -> tuple[Float, int]:
    """A file mixed to mono, and its rate; raises TrainingError for what is no finite sound."""
    try:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise TrainingError(f"{path}: {error}") from error
    if not np.isfinite(sound).all():
        raise TrainingError(f"{path}: is not finite")
    return sound.mean(axis=1), int(rate)


def narrowed(sound: Float, rate: int, source_rate: int) -> Float:
    """A sound as a source of a lower rate [Hz] gives it: the same rate and length, less band."""
    return fitted(at_rate(at_rate(sound, rate, source_rate), source_rate, rate), len(sound))


def fitted(sound: Float, n_samples: int) -> Float:
    """The sound cut, or filled with silence, to a length."""
    return np.pad(sound[:n_samples], (0, max(0, n_samples - len(sound))))
