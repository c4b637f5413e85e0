"""What a network is told about its answers.

Elementary operations of Keras 3 or, where that is not there, of TensorFlow's NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import TrainingError
from engine.spec import ModelSpec
from engine.stft import Float, synthesis_window, window
from training.intelligibility import Intelligibility
from training.operations import ops
from training.opinion import Opinion
from training.perception import Disturbance, constant

_VOICED = 0.01
"""Mean power of a clip in which somebody speaks, at an active level of 1."""
_PAUSE = 3e-4
"""Power of a frame, 40 dB under a voice's at its active level: nobody speaks there."""
_UNHEARD = 1e-8
"""Power of a bin that counts as silence: of all of them together, some 60 dB under a voice."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part counts."""

    exponent: float = 0.3
    """Of the compression: about how loudness follows magnitude."""
    complex_part: float = 0.3
    """Share of the phase-aware part in the compressed error, in [0, 1]."""
    eaten: float = 0.5
    """What is turned down too far counts 1 + this much: lost speech does not come back."""
    sdr: float = 0.25
    """Of the signal-to-distortion ratio of the spectra [1/dB] against 100 times the
    compressed error."""
    si_sdr: float = 0.0
    """Of the scale-invariant ratio of the samples that come out [1/dB]. What overlapping
    frames add up to is heard, not the frames; it costs an inverse transform."""
    disturbance: float = 3.0
    """Of what PESQ would take off, ``perception.Disturbance`` [1/point]."""
    opinion: float = 0.0
    """Of the overall score that DNSMOS would give, ``opinion.Opinion`` [1/point]."""
    background: float = 0.0
    """Likewise of its score of what is heard behind the voice [1/point]."""
    p808: float = 0.0
    """Likewise of the score of its older network, P.808 [1/point]."""
    intelligibility: float = 0.0
    """Of ESTOI, about, ``intelligibility.Intelligibility`` [1 / whole scale]."""
    pauses: float = 0.0
    """Of what is louder in pauses than the clean sound there [1/dB], the mean over all frames and
    bins. Compressed errors of what is faint are small, but nothing covers it there."""
    asked: int = 4
    """Clips of a batch, its first, of which DNSMOS is asked: on processors it takes longer than
    all else together."""

    @property
    def hear_samples(self) -> bool:
        """Whether any part listens to the samples that come out, not to frames."""
        return self.si_sdr != 0.0 or self.asks

    @property
    def asks(self) -> bool:
        """Whether DNSMOS is asked."""
        return any((self.opinion, self.background, self.p808))


class SpectralLoss:
    """Compares gain · noisy with clean.

    ``loss(spectra, gain)``: spectra (batch, time, 3 · (n_bins + 1)) as in ``batches.Batch``,
    gain (batch, time, n_bins) in [0, 1]; returns (batch,). The bins above follow the mean of
    the top eighth, as in the engine. The compressed error of magnitude and
    complex value follows Braun & Tashev 2021 (arXiv:2009.12286).

    With ``filtered``, (filter_bins, filter_taps), the lowest bins are filtered over time before
    the gain: ``Batch.low`` follows in spectra, the filter after the gains.
    """

    def __init__(
        self,
        n_bins: int,
        weights: Weights | None = None,
        disturbance: Disturbance | None = None,
        filtered: tuple[int, int] = (0, 0),
        intelligibility: Intelligibility | None = None,
    ) -> None:
        self.n_bins, self.filtered = n_bins, filtered
        self.weights = weights or Weights()
        self.disturbance, self.intelligibility = disturbance, intelligibility
        self.__name__ = "spectral_loss"

    def __call__(self, spectra: Any, gain: Any) -> Any:
        w, n = self.weights, self.n_bins + 1
        low, taps = spectra[..., 3 * n :], gain[..., self.n_bins :]
        gain = gain[..., : self.n_bins]
        above = ops.mean(gain[..., -max(1, self.n_bins // 8) :], axis=-1, keepdims=True)
        gain = ops.concatenate([gain, above], axis=-1)
        noisy, clean = spectra[..., :n], spectra[..., n : 2 * n]
        product = spectra[..., 2 * n : 3 * n]
        cosine = product / (noisy * clean + 1e-9)
        # Under −60 dB nothing is heard, and the slope of the power has no bound at 0.
        audible = ops.maximum(gain, 1e-3) * noisy
        made, product = gain * noisy, gain * product
        if self.filtered[0]:
            k = self.filtered[0]
            of_low = self._filtered(low, taps, gain[..., :k])
            turned = of_low[1] / (of_low[0] * clean[..., :k] + 1e-9)
            cosine = ops.concatenate([turned, cosine[..., k:]], axis=-1)
            heard = ops.maximum(of_low[0], 1e-3 * noisy[..., :k])
            audible = ops.concatenate([heard, audible[..., k:]], axis=-1)
            made = ops.concatenate([of_low[0], made[..., k:]], axis=-1)
            product = ops.concatenate([of_low[1], product[..., k:]], axis=-1)
        estimate = (audible + 1e-6) ** w.exponent
        wanted = (clean + 1e-6) ** w.exponent
        eaten = ops.maximum(wanted - estimate, 0.0)
        magnitude = (estimate - wanted) ** 2 + w.eaten * eaten**2
        phase_aware = estimate**2 + wanted**2 - 2.0 * estimate * wanted * cosine
        compressed = (1.0 - w.complex_part) * magnitude + w.complex_part * phase_aware
        distortion = made**2 + clean**2 - 2.0 * product
        # Of a voice at its active level a frame's bins hold a power of about 3. A 1000th of
        # it bounds the ratio near 30 dB: better than that cannot be heard.
        floor = 0.003
        ratio_db = (10.0 / 2.302585) * (
            ops.log(ops.mean(ops.sum(clean**2, axis=-1), axis=-1) + floor)
            - ops.log(ops.mean(ops.sum(ops.maximum(distortion, 0.0), axis=-1), axis=-1) + floor)
        )
        loss = 100.0 * ops.mean(ops.mean(compressed, axis=-1), axis=-1) - w.sdr * ratio_db
        if self.disturbance is not None:
            loss = loss + w.disturbance * self.disturbance(made**2, clean**2)
        if self.intelligibility is not None:
            loss = loss - w.intelligibility * self.intelligibility(made**2, clean**2)
        if w.pauses:
            loss = loss + w.pauses * left_in_pauses_db(made**2, clean**2)
        return loss

    def _filtered(self, low: Any, taps: Any, gain: Any) -> tuple[Any, Any]:
        """Magnitude of the filtered bins, and Re(filtered · conj(clean)): both like ``gain``."""
        n, n_taps = self.filtered
        clean_real, clean_imaginary = low[..., 2 * n : 3 * n], low[..., 3 * n :]
        made_real, made_imaginary = _through_taps(low, taps, n, n_taps)
        # The root's slope has no bound at 0.
        magnitude = gain * (made_real**2 + made_imaginary**2 + 1e-10) ** 0.5
        return magnitude, gain * (made_real * clean_real + made_imaginary * clean_imaginary)


def _through_taps(low: Any, taps: Any, n: int, n_taps: int) -> tuple[Any, Any]:
    """Real and imaginary part of the lowest n bins after their filter over time.

    low : real and imaginary part of those bins first, as in ``Batch.low``
    """
    made_real, made_imaginary = 0.0, 0.0
    for k in range(n_taps):
        tap = taps[..., 2 * k * n : 2 * (k + 1) * n]
        a, b = tap[..., 0::2], tap[..., 1::2]
        x, y = _later(low[..., :n], k), _later(low[..., n : 2 * n], k)
        made_real, made_imaginary = made_real + a * x - b * y, made_imaginary + a * y + b * x
    return made_real, made_imaginary


def _later(frames: Any, n_frames: int) -> Any:
    """Frames so much later, silence before the first: (batch, time, n_bins)."""
    if n_frames == 0:
        return frames
    return ops.concatenate([0.0 * frames[:, :n_frames], frames[:, :-n_frames]], axis=1)


def spectral_loss(
    spec: ModelSpec, weights: Weights | None = None, filtered: tuple[int, int] = (0, 0)
) -> SpectralLoss:
    """The spectral loss at one setting, with every part that has a weight."""
    weights = weights or Weights()
    disturbance = Disturbance(spec) if weights.disturbance else None
    understood = Intelligibility(spec) if weights.intelligibility else None
    return SpectralLoss(spec.n_bins, weights, disturbance, filtered, understood)


def left_in_pauses_db(estimate: Any, clean: Any) -> Any:
    """What is louder in pauses than the clean sound there [dB]: (batch,), at least 0.

    estimate, clean : powers (batch, time, bins), scaled as in ``batches.Batch``; the mean over
    all bins and frames, those with a voice counting 0
    """
    above = ops.log(estimate + _UNHEARD) - ops.log(clean + _UNHEARD)
    above = ops.mean(ops.maximum(above, 0.0), axis=-1)
    pause = ops.sum(clean, axis=-1) < _PAUSE
    return (10.0 / 2.302585) * ops.mean(ops.where(pause, above, 0.0 * above), axis=-1)


class LevelLoss:
    """Mean squared error of levels, in units of 20 dB: about a bin's deviation.

    ``loss(wanted_db, found)``: both (batch, time, n_bins), found [dB] or, with ``of_gain``,
    gains in [0, 1] against what they should be in dB; returns (batch,).
    """

    def __init__(self, of_gain: bool = False) -> None:
        self.of_gain = of_gain
        self.__name__ = "level_loss"

    def __call__(self, wanted_db: Any, found: Any) -> Any:
        if self.of_gain:
            found = (20.0 / 2.302585) * ops.log(ops.maximum(found, 1e-3))
        return ops.mean(ops.mean(((found - wanted_db) / 20.0) ** 2, axis=-1), axis=-1)


class WaveLoss:
    """A spectral loss, and what the samples that come out are worth.

    ``loss(told, gain)``: told (batch, time, …) are ``spectra``, with a filter ``low``, and
    ``waves`` of ``batches.Batch`` side by side, gain (batch, time, n_bins), the filter behind it;
    returns (batch,). The gain steers all bins as in the engine, and its inverse transform and
    overlap-add follow, as one product with a fixed matrix. Of the samples count their
    scale-invariant signal-to-distortion ratio (Le Roux et al. 2019) and DNSMOS's scores.

    Raises TrainingError when a frame has no whole number of hops.
    """

    def __init__(
        self, spec: ModelSpec, weights: Weights | None = None, filtered: tuple[int, int] = (0, 0)
    ) -> None:
        if spec.n_fft % spec.hop:
            raise TrainingError(
                "the losses si_sdr, opinion, background and p808 need a hop that divides n_fft, "
                f"found {spec.hop} and {spec.n_fft}"
            )
        self.spec = spec
        self.filtered = filtered
        self.spectral = spectral_loss(spec, weights, filtered)
        weights = self.spectral.weights
        self.opinion = Opinion(spec.sample_rate, bool(weights.p808)) if weights.asks else None
        self.inverse = constant(_inverse_transform(spec))
        self.__name__ = "wave_loss"

    def __call__(self, told: Any, gain: Any) -> Any:
        weights = self.spectral.weights
        n = 3 * (self.spec.n_bins + 1) + 4 * self.filtered[0]
        loss = self.spectral(told[..., :n], gain)
        found, wanted = self.sound(told, gain), told[..., -self.spec.hop :]
        if weights.si_sdr:
            loss = loss - weights.si_sdr * ratio_db(found, wanted)
        if self.opinion is not None:
            asked = weights.asked
            heard = ops.reshape(found[:asked], (-1, found.shape[1] * found.shape[2]))
            scores = self.opinion(heard)
            score = weights.background * scores.background + weights.opinion * scores.overall
            if scores.p808 is not None:
                score = score + weights.p808 * scores.p808
            # Nobody was asked how good nothing sounds.
            voiced = _mean_of_clip(wanted[:asked] ** 2) > _VOICED
            score = ops.where(voiced, score, 0.0 * score)
            loss = loss - ops.concatenate([score, 0.0 * loss[asked:]], axis=0)
        return loss

    def sound(self, told: Any, gain: Any) -> Any:
        """The samples that come out, hop by hop: (batch, time, hop); speech has a power of 1."""
        spec, n = self.spec, self.spec.n_spectrum
        waves = told[..., -(2 * n + spec.hop) : -spec.hop]
        taps, gain = gain[..., spec.n_bins :], gain[..., : spec.n_bins]
        if n > spec.n_bins:
            above = ops.mean(gain[..., -max(1, spec.n_bins // 8) :], axis=-1, keepdims=True)
            gain = ops.concatenate([gain, ops.repeat(above, n - spec.n_bins, axis=-1)], axis=-1)
        if self.filtered[0]:
            k, low = self.filtered[0], 3 * (spec.n_bins + 1)
            real, imaginary = _through_taps(told[..., low : low + 2 * k], taps, *self.filtered)
            waves = ops.concatenate(
                [real, waves[..., k:n], imaginary, waves[..., n + k :]], axis=-1
            )
        kept = waves * ops.concatenate([gain, gain], axis=-1)
        frames = ops.matmul(kept, self.inverse)  # (B, T, n_fft)
        found = frames[..., : spec.hop]
        for k in range(1, spec.n_fft // spec.hop):
            found = found + _later(frames[..., k * spec.hop : (k + 1) * spec.hop], k)
        return found


def ratio_db(found: Any, wanted: Any) -> Any:
    """SI-SDR of each clip [dB], bounded near 30: (batch,); both (batch, time, hop)."""
    product = _mean_of_clip(wanted * found)
    scale = product / (_mean_of_clip(wanted**2) + 1e-9)
    told = scale[:, None, None] * wanted
    # Speech has a power of 1: a 1000th of it bounds the ratio, and silence has one too.
    return (10.0 / 2.302585) * (
        ops.log(_mean_of_clip(told**2) + 1e-3) - ops.log(_mean_of_clip((found - told) ** 2) + 1e-3)
    )


def _mean_of_clip(values: Any) -> Any:
    return ops.mean(ops.mean(values, axis=-1), axis=-1)


def _inverse_transform(spec: ModelSpec) -> Float:
    """Spectra as in ``Batch.waves`` to windowed frames: (2 · n_spectrum, n_fft) float32."""
    angle = 2.0 * np.pi / spec.n_fft * np.outer(np.arange(spec.n_spectrum), np.arange(spec.n_fft))
    both = np.full((spec.n_spectrum, 1), 2.0)  # a bin and its mirror image
    both[[0, -1]] = 1.0
    parts = np.concatenate([both * np.cos(angle), -both * np.sin(angle)]) / spec.n_fft
    full_scale = 2.0 / window(spec.window, spec.n_fft).sum()
    return (parts * synthesis_window(spec) / full_scale).astype(np.float32)
