"""Mixtures in, what the network reads and what its loss compares with.

Batch k of a seed is always the same, whichever batches were made before it, so an
interrupted run goes on with the very data it would have seen. Not here: the loss.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

import numpy as np

from engine.spec import ModelSpec
from engine.stft import Complex, Float, istft, phase_motion, stft, to_db, window
from training.mixing import Mixer, Mixture, active_level_db

# A frame this far under the speech's active level holds no voice worth the name.
VOICE_DB = 25.0

# Speech further under its mixture weighs as if it were only so far: a little over the worst SNR.
FAINT_DB = 12.0


_ECHO = 16
"""Batches between two looks at the same one."""


class Batch(NamedTuple):
    """Some clips, ready to train on."""

    noisy_db: Float
    """(n_clips, n_frames, n_bins) [dB re full-scale sine]: levels of the noisy speech."""
    spectra: Float
    """(n_clips, n_frames, 3 · (n_bins + 1)): |noisy|, |clean| and Re(noisy · conj(clean)) of
    each bin and of all bins above them together, scaled so that the active level of the
    clip's speech is 1. The last is 0 where ``spec.above`` silences those bins."""
    speech: Float
    """(n_clips, n_frames, 1): 1 where there is voice, else 0."""
    clean_db: Float
    """(n_clips, n_frames, n_bins) [dB re full-scale sine]: levels of the clean speech."""
    waves: Float | None = None
    """(n_clips, n_frames, 2 · n_spectrum + hop), if asked for: real and imaginary part of the
    noisy spectrum, scaled as ``spectra``, and the hop that the clean one gives with it."""
    low: Float | None = None
    """(n_clips, n_frames, 4 · filter_bins), where the spec has a filter: real and imaginary part of
    the noisy and of the clean spectrum in its bins, scaled as ``spectra``."""
    phase: Float | None = None
    """(n_clips, n_frames, 4 · phase_bins), where the spec has them: ``stft.phase_motion`` of the
    noisy speech."""

    @property
    def heard(self) -> Any:
        """(n_clips, n_frames, n_heard): the network's input, where the levels lie."""
        if self.phase is None:
            return self.noisy_db
        return beside([self.noisy_db, self.phase])


def make_batch(mixtures: list[Mixture], spec: ModelSpec, waves: bool = False) -> Batch:
    """Transform mixtures of one length with the engine's own analysis.

    ``waves`` are made if asked for: they are four times as large as the rest.
    """
    noisy = stft(np.stack([m.noisy for m in mixtures]), spec)
    clean = stft(np.stack([m.clean for m in mixtures]), spec)
    noisy_db, clean_db = (to_db(s[..., : spec.n_bins], spec) for s in (noisy, clean))
    phase = phase_motion(noisy, spec) if spec.phase_bins else None
    level_db = np.array([_level_db(m, spec) for m in mixtures])
    full_scale = 2.0 / window(spec.window, spec.n_fft).sum()
    scale = (full_scale * 10.0 ** (-level_db / 20.0)).astype(np.float32)
    noisy, clean = noisy * scale[:, None, None], clean * scale[:, None, None]
    parts = [
        np.sqrt(_with_rest(noisy.real**2 + noisy.imag**2, spec)),
        np.sqrt(_with_rest(clean.real**2 + clean.imag**2, spec)),
        _with_rest(noisy.real * clean.real + noisy.imag * clean.imag, spec),
    ]
    spectra = np.concatenate(parts, axis=-1)
    power = np.sum(np.square(parts[1]), axis=-1, keepdims=True)
    active = np.mean(power, axis=1, keepdims=True)
    # The mean of a clip is under its active level by the share of pauses, a few dB at most.
    voiced = power > np.maximum(active * 10.0 ** (-VOICE_DB / 10.0), 1e-12)
    return Batch(
        noisy_db,
        spectra,
        voiced.astype(np.float32),
        clean_db,
        _waves(noisy, clean, full_scale, spec) if waves else None,
        _low(noisy, clean, spec.filter_bins) if spec.filter_bins else None,
        phase,
    )


def batch_of(step: int, echo: int = 2) -> int:
    """Number of the batch to learn from at a step: new and known ones in turn.

    ``echo`` is how often each is learnt from.

    Examples
    --------
    >>> [batch_of(step) for step in (0, 1, 2, 3, 40, 41)]
    [0, 0, 1, 0, 20, 4]
    """
    new, again = divmod(step, echo)
    return max(0, new - _ECHO * again)


class Supply(Protocol):
    """What gives batches by their number: ``Batches``, ``dataset_mixed.MixedBatches``."""

    def __getitem__(self, k: int, /) -> Batch:
        """Batch k, always the same."""


class Batches:
    """An endless supply: ``batches[k]`` is batch k.

    ``ahead`` serves each batch ``echo`` times, some updates apart: mixing takes nearly as long
    as learning, and a mixture seen twice is still far from known by heart (Choi et al. 2019,
    "Faster neural network training with data echoing").

    Parameters
    ----------
    mixer : draws the clips
    n_clips, n_frames : size of a batch
    seed : of this supply; two seeds have nothing in common
    waves : whether batches hold them, for a loss of the samples (``losses.WaveLoss``)
    """

    def __init__(
        self,
        mixer: Mixer,
        spec: ModelSpec,
        n_clips: int,
        n_frames: int,
        seed: int,
        waves: bool = False,
        echo: int = 2,
    ) -> None:
        self.echo = echo
        self._mixer, self._spec, self._waves = mixer, spec, waves
        self._n_clips, self._n_samples, self._seed = n_clips, n_frames * spec.hop, seed

    def __getitem__(self, k: int) -> Batch:
        rng = np.random.default_rng([self._seed, k])
        mixtures = [self._mixer.draw(rng, self._n_samples) for _ in range(self._n_clips)]
        return make_batch(mixtures, self._spec, self._waves)

    def ahead(self, step: int, depth: int = 4) -> Iterator[Batch]:
        """What to learn from at ``step`` and after, made by a thread meanwhile."""
        return in_advance(self._in_turn(step), depth)

    def _in_turn(self, step: int) -> Iterator[Batch]:
        recent: dict[int, Batch] = {}
        for now in count(step):
            k = batch_of(now, self.echo)
            batch = recent[k] if k in recent else self[k]
            recent[k] = batch
            recent.pop(now // self.echo - _ECHO * (self.echo - 1) - 1, None)
            yield batch


def in_advance(batches: Iterator[Batch], depth: int) -> Iterator[Batch]:
    """The same batches, up to ``depth`` of them made by a thread before they are asked for."""
    waiting: queue.Queue[Batch | BaseException] = queue.Queue(depth)
    done = threading.Event()

    def hand_over(made: Batch | BaseException) -> None:
        """Wait for room, but not for one who has stopped asking."""
        while not done.is_set():
            try:
                waiting.put(made, timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for batch in batches:
                hand_over(batch)
                if done.is_set():
                    return
        except BaseException as error:  # handed over: a dead thread would hang the run
            hand_over(error)

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


def _with_rest(power: Float, spec: ModelSpec) -> Float:
    """The bins that the network steers, and the sum over those that follow it."""
    rest = power[..., spec.n_bins :].sum(axis=-1, keepdims=True)
    if spec.above == "zero":
        rest = np.zeros_like(rest)
    return np.concatenate([power[..., : spec.n_bins], rest], axis=-1)


def _low(noisy: Complex, clean: Complex, n_bins: int) -> Float:
    """See ``Batch.low``."""
    noisy, clean = noisy[..., :n_bins], clean[..., :n_bins]
    return np.concatenate([noisy.real, noisy.imag, clean.real, clean.imag], axis=-1)


def _waves(noisy: Complex, clean: Complex, full_scale: float, spec: ModelSpec) -> Float:
    """See ``Batch.waves``; speech has an RMS of 1 in the hops."""
    if spec.above == "zero":
        steered = np.arange(spec.n_spectrum) < spec.n_bins
        noisy, clean = noisy * steered, clean * steered
    sound = np.stack([istft(clip, spec) for clip in clean]) / np.float32(full_scale)
    hops = sound.reshape(*clean.shape[:-1], spec.hop)
    return np.concatenate([noisy.real, noisy.imag, hops], axis=-1)


def _level_db(mixture: Mixture, spec: ModelSpec) -> float:
    """Active level of the speech, or of what stands in its place [dB]."""
    speech_db = active_level_db(mixture.clean, spec.sample_rate)
    noisy_db = active_level_db(mixture.noisy, spec.sample_rate)
    if np.isfinite(speech_db):
        # A muted stretch can leave the faint tail of a word. At the tail's own level the noise
        # beside it would weigh a thousand times what any other clip does.
        return max(speech_db, noisy_db - FAINT_DB)
    # Noise alone weighs like noise 10 dB under a voice; silence alone weighs nothing.
    return noisy_db + 10.0 if np.isfinite(noisy_db) else 0.0


def beside(parts: Sequence[Any]) -> Any:
    """One array of several, side by side: where they lie, on a graphics card too."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis=-1)
    from training.operations import ops

    return ops.concatenate(parts, axis=-1)


def as_array(values: Any) -> Float:
    """Part of a batch as an array, also from a graphics card."""
    return values.cpu().numpy() if hasattr(values, "cpu") else np.asarray(values)


def statistics(batches: Supply, n_batches: int) -> tuple[Float, Float]:
    """Mean and standard deviation of each bin's level [dB]: two of (n_bins,) float32."""
    frames = np.concatenate([_flat(as_array(batches[k].noisy_db)) for k in range(n_batches)])
    return frames.mean(axis=0), np.maximum(frames.std(axis=0), 1.0)


def _flat(noisy_db: Float) -> Float:
    return noisy_db.reshape(-1, noisy_db.shape[-1])
