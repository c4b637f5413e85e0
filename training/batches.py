"""Mixtures in, what the network reads and what its loss compares with.

Batch k of a seed is always the same, whichever batches were made before it, so an
interrupted run goes on with the very data it would have seen. Not here: the loss.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from engine.spec import ModelSpec
from engine.stft import Float, stft, to_db, window
from training.mixing import Mixer, Mixture, active_level_db

# A frame this far under the speech's active level holds no voice worth the name.
_VOICE_DB = 25.0


class Batch(NamedTuple):
    """Some clips, ready to train on."""

    noisy_db: Float
    """(n_clips, n_frames, n_bins) [dB re full-scale sine]: the network's input."""
    spectra: Float
    """(n_clips, n_frames, 3 · n_bins): |noisy|, |clean| and Re(noisy · conj(clean)) of each
    bin, scaled so that the active level of the clip's speech is 1."""
    speech: Float
    """(n_clips, n_frames, 1): 1 where there is voice, else 0."""


def make_batch(mixtures: list[Mixture], spec: ModelSpec) -> Batch:
    """Transform mixtures of one length with the engine's own analysis."""
    noisy = stft(np.stack([m.noisy for m in mixtures]), spec)[..., : spec.n_bins]
    clean = stft(np.stack([m.clean for m in mixtures]), spec)[..., : spec.n_bins]
    noisy_db = to_db(noisy, spec)
    level_db = np.array([_level_db(m, spec) for m in mixtures])
    full_scale = 2.0 / window(spec.window, spec.n_fft).sum()
    scale = (full_scale * 10.0 ** (-level_db / 20.0)).astype(np.float32)
    noisy, clean = noisy * scale[:, None, None], clean * scale[:, None, None]
    product = noisy.real * clean.real + noisy.imag * clean.imag
    spectra = np.concatenate([np.abs(noisy), np.abs(clean), product], axis=-1)
    power = np.sum(np.square(np.abs(clean)), axis=-1, keepdims=True)
    active = np.mean(power, axis=1, keepdims=True)
    # The mean of a clip is under its active level by the share of pauses, a few dB at most.
    voiced = power > np.maximum(active * 10.0 ** (-_VOICE_DB / 10.0), 1e-12)
    return Batch(noisy_db, spectra, voiced.astype(np.float32))


class Batches:
    """An endless supply: ``batches[k]`` is batch k.

    Parameters
    ----------
    mixer : draws the clips
    n_clips, n_frames : size of a batch
    seed : of this supply; two seeds have nothing in common
    """

    def __init__(
        self, mixer: Mixer, spec: ModelSpec, n_clips: int, n_frames: int, seed: int
    ) -> None:
        self._mixer, self._spec = mixer, spec
        self._n_clips, self._n_samples, self._seed = n_clips, n_frames * spec.hop, seed

    def __getitem__(self, k: int) -> Batch:
        rng = np.random.default_rng([self._seed, k])
        mixtures = [self._mixer.draw(rng, self._n_samples) for _ in range(self._n_clips)]
        return make_batch(mixtures, self._spec)

    def ahead(self, first: int, depth: int = 4) -> Iterator[Batch]:
        """Batches from ``first`` on, made by a thread while the network learns."""
        waiting: queue.Queue[Batch | BaseException] = queue.Queue(depth)
        done = threading.Event()

        def produce() -> None:
            k = first
            try:
                while not done.is_set():
                    batch = self[k]
                    while not done.is_set():
                        try:
                            waiting.put(batch, timeout=0.1)
                            break
                        except queue.Full:
                            continue
                    k += 1
            except BaseException as error:  # handed over: a dead thread would hang the run
                waiting.put(error)

        thread = threading.Thread(target=produce, name="batches", daemon=True)
        thread.start()
        try:
            while True:
                batch = waiting.get()
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
        finally:
            done.set()
            thread.join()


def _level_db(mixture: Mixture, spec: ModelSpec) -> float:
    """Active level of the speech, or of what stands in its place [dB]."""
    level_db = active_level_db(mixture.clean, spec.sample_rate)
    if np.isfinite(level_db):
        return level_db
    # Noise alone weighs like noise 10 dB under a voice.
    return active_level_db(mixture.noisy, spec.sample_rate) + 10.0


def statistics(batches: Batches, n_batches: int) -> tuple[Float, Float]:
    """Mean and standard deviation of each bin's level [dB]: two of (n_bins,) float32."""
    frames = np.concatenate([_flat(batches[k].noisy_db) for k in range(n_batches)])
    return frames.mean(axis=0), np.maximum(frames.std(axis=0), 1.0)


def _flat(noisy_db: Float) -> Float:
    return noisy_db.reshape(-1, noisy_db.shape[-1])
