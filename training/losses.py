"""What a gain network is told about its answers.

Elementary operations of Keras 3 or, where that is not there, of TensorFlow's NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

try:
    from keras import ops
except ImportError:  # Keras 2.14
    from tensorflow.experimental import numpy as ops


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part counts."""

    exponent: float = 0.3
    """Of the compression: about how loudness follows magnitude."""
    complex_part: float = 0.3
    """Share of the phase-aware part in the compressed error, in [0, 1]."""
    eaten: float = 0.5
    """What is turned down too far counts 1 + this much: lost speech does not come back."""
    sdr: float = 0.15
    """Of the signal-to-distortion ratio [1/dB] against 100 times the compressed error."""


class SpectralLoss:
    """Compares gain · noisy with clean.

    ``loss(spectra, gain)``: spectra (batch, time, 3 · (n_bins + 1)) as in ``batches.Batch``,
    gain (batch, time, n_bins) in [0, 1]; returns (batch,). The bins above follow the mean of
    the top eighth, as in the engine. The compressed error of magnitude and
    complex value follows Braun & Tashev 2021 (arXiv:2009.12286).
    """

    def __init__(self, n_bins: int, weights: Weights | None = None) -> None:
        self.n_bins = n_bins
        self.weights = weights or Weights()
        self.__name__ = "spectral_loss"

    def __call__(self, spectra: Any, gain: Any) -> Any:
        w, n = self.weights, self.n_bins + 1
        above = ops.mean(gain[..., -max(1, self.n_bins // 8) :], axis=-1, keepdims=True)
        gain = ops.concatenate([gain, above], axis=-1)
        noisy, clean, product = spectra[..., :n], spectra[..., n : 2 * n], spectra[..., 2 * n :]
        # Under −60 dB nothing is heard, and the slope of the power has no bound at 0.
        estimate = (ops.maximum(gain, 1e-3) * noisy + 1e-6) ** w.exponent
        wanted = (clean + 1e-6) ** w.exponent
        cosine = product / (noisy * clean + 1e-9)
        eaten = ops.maximum(wanted - estimate, 0.0)
        magnitude = (estimate - wanted) ** 2 + w.eaten * eaten**2
        phase_aware = estimate**2 + wanted**2 - 2.0 * estimate * wanted * cosine
        compressed = (1.0 - w.complex_part) * magnitude + w.complex_part * phase_aware
        distortion = (gain * noisy) ** 2 + clean**2 - 2.0 * gain * product
        # Of a voice at its active level a frame's bins hold a power of about 3. A 1000th of
        # it bounds the ratio near 30 dB: better than that cannot be heard.
        floor = 0.003
        ratio_db = (10.0 / 2.302585) * (
            ops.log(ops.mean(ops.sum(clean**2, axis=-1), axis=-1) + floor)
            - ops.log(ops.mean(ops.sum(ops.maximum(distortion, 0.0), axis=-1), axis=-1) + floor)
        )
        return 100.0 * ops.mean(ops.mean(compressed, axis=-1), axis=-1) - w.sdr * ratio_db
