"""Voices and noises for tests that learn: made of nothing, as files in folders, and real ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

import app
from engine.spec import ModelSpec
from engine.stft import Float
from training import dataset
from training.batches import make_batch
from training.mixing import Mixture, mix

CLIPS = Path(app.__file__).parent / "clips"

# Run by itself, with Keras on PyTorch; who looks for doctests would import it.
collect_ignore = ["card_steps.py"]


def voice(rng: np.random.Generator, seconds: float, sample_rate: int) -> Float:
    """Syllables of a buzzing source with moving formants, and pauses: (n,) float32."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch_hz = rng.uniform(90.0, 220.0) * (1.0 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    formant_hz = 500.0 + 250.0 * np.sin(2 * np.pi * rng.uniform(1.0, 2.0) * t + rng.random())
    made = np.zeros(len(t))
    for k in range(1, 25):
        distance = (k * pitch_hz - formant_hz) / 200.0
        made += np.exp(-0.5 * distance**2) * np.sin(k * phase) + 0.02 * np.sin(k * phase)
    syllables = np.clip(3.0 * np.sin(2 * np.pi * 1.7 * t + rng.random()), 0.0, 1.0)
    return (0.1 * made * syllables).astype(np.float32)


def real_mixtures(
    spec: ModelSpec, snrs_db: Sequence[float], n_frames: int
) -> tuple[list[Mixture], Float]:
    """The bundled voice in two real noises at each level, and what a spectral loss is told."""

    def clip(name: str) -> Float:
        sound, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="float32")
        return soxr.resample(sound, rate, spec.sample_rate)[: n_frames * spec.hop]

    speech = clip("voice")
    mixtures = []
    for name in ("rain", "helicopter"):
        noise = np.resize(clip(name), len(speech))
        for snr_db in snrs_db:
            noisy = mix(speech, noise, snr_db, spec.sample_rate)
            mixtures.append(Mixture(noisy, speech, snr_db))
    return mixtures, make_batch(mixtures, spec).spectra


def powers(spectra: Float, spec: ModelSpec) -> tuple[Float, Float]:
    """Noisy and clean, (…, n_bins + 1), of what a spectral loss is told."""
    n = spec.n_bins + 1
    return spectra[..., :n] ** 2, spectra[..., n : 2 * n] ** 2


def dataset_command(*given: str) -> str:
    """What ``denoise-app dataset`` with these arguments prints."""
    parser = argparse.ArgumentParser()
    dataset.add_arguments(parser)
    told: list[str] = []
    dataset.run(parser.parse_args(given), told.append)
    return "".join(told)


@contextmanager
def withheld(path: Path) -> Iterator[None]:
    """As without the right to read a file, which the super-user has whatever its mode is."""

    class Withheld(soundfile.SoundFile):
        def __init__(self, file: Path, *more: object) -> None:
            super().__init__(path.parent / "nowhere" if file == path else file, *more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(soundfile, "SoundFile", Withheld)
        patched.setattr(
            "training.recordings.ProcessPoolExecutor", lambda n, initializer: ThreadPoolExecutor(n)
        )
        yield


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Some seconds of speech, noise and rooms below one folder each."""
    rng = np.random.default_rng(7)
    made = {kind: tmp_path / kind for kind in ("speech", "noise", "rir")}
    for folder in made.values():
        folder.mkdir()
    for name in ("anna", "ben", "cleo", "dora", "emil", "fay"):
        (made["speech"] / name).mkdir()
        for piece in (1, 2):
            path = made["speech"] / name / f"{name}_{piece}.flac"
            soundfile.write(path, voice(rng, 3.0, 16_000), 16_000)
    for name in ("air", "brook", "cars", "dryer", "engine", "frost"):
        hiss = np.cumsum(rng.standard_normal(40_000)) * 0.9 ** np.arange(40_000)[::-1].clip(0, 50)
        noise = 0.1 * rng.standard_normal(40_000) + 0.001 * hiss
        soundfile.write(made["noise"] / f"{name}.wav", noise.astype(np.float32), 16_000)
    response = rng.standard_normal(4800) * np.exp(-np.arange(4800) / 400.0) * 0.1
    response[0] = 1.0
    soundfile.write(made["rir"] / "room.wav", (0.5 * response).astype(np.float32), 16_000)
    return made
