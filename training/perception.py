"""How disturbing an estimate sounds, after PESQ's model of hearing, as a loss.

Powers of bins become loudness in critical bands; what differs from the clean speech counts,
what was added much more than what was lost. Of ITU-T P.862 stay the bands, the threshold of
hearing, the loudness law, masking, asymmetry and the way time is summed up; its frames are the
model's, and it neither lines up in time nor forgives a tone control, which streams have no need
of. As a loss in training: Martin-Doñas et al. 2018, "A deep learning loss function based on the
perceptual evaluation of the speech quality".

Elementary operations of Keras 3 or, where that is not there, of TensorFlow's NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.spec import ModelSpec
from engine.stft import Float, window
from training.operations import ops

BAND_BARK = 0.41
"""Width of a band: 42 of them up to 4 kHz, as in P.862."""

_WIDE_HZ = 16_000
"""Sample rates from here on are heard as by P.862.2."""

ACTIVE_POWER = 1.2e7
"""Of a frame of speech at its active level, in P.862's units: 1 is 0 dB SPL."""

# The telephone's receiver (ITU-T P.48, as P.862 takes it), relative to its middle, and the
# headphones of P.862.2. Nothing is heard above the last.
_RECEIVER_HZ = (0, 50, 100, 125, 160, 200, 250, 300, 350, 400, 500, 600, 3250, 3500, 4000)
_RECEIVER_DB = (-99, -52, -32, -24, -18, -12, -8, -6, -4, -2, -1, 0, 0, -8, -99)
_HEADPHONES_HZ = (0, 25, 50, 100, 200, 8000)
_HEADPHONES_DB = (-60, -24, -12, -3, 0, 0)

_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309
"""What both disturbances take from the score of 4.5, P.862 §10.2.12."""

_SYLLABLE_S = 0.32
"""Within it the worst frames decide."""


class Disturbance:
    """What an estimate loses of PESQ's 4.5 points, about: 0 for the clean speech itself.

    ``disturbance(estimate, clean)``: powers (batch, time, n_bins + 1) of bins and of all above
    them together, scaled as in ``batches.Batch``; returns (batch,).
    """

    def __init__(self, spec: ModelSpec) -> None:
        weights, bark = bands(spec)
        self.bands = constant(weights)
        hz = _hz_of_bark(bark) / 1000.0
        quiet_db = 3.64 * hz**-0.8 - 6.5 * np.exp(-0.6 * (hz - 3.3) ** 2) + 1e-3 * hz**4
        threshold = 10.0 ** (quiet_db / 10.0)
        self.threshold = constant(threshold)
        low = np.minimum(6.0 / (bark + 2.0), 2.0) ** 0.15
        power = 0.23 * np.where(bark < 4.0, low, 1.0)
        self.power = constant(power)
        self.loudness_scale = constant(0.1866 * (threshold / 0.5) ** power)
        self.syllable = max(1, round(_SYLLABLE_S * spec.sample_rate / spec.hop))

    def __call__(self, estimate: Any, clean: Any) -> Any:
        found, wanted = ops.matmul(estimate, self.bands), ops.matmul(clean, self.bands)
        total = self._audible(wanted)
        # P.862 forgives slow changes of loudness, and noise in pauses most of all.
        ratio = (total + 5e3) / (self._audible(found) + 5e3)
        found = found * ops.clip(ratio, 3e-4, 5.0)
        loud, right = self._loudness(found), self._loudness(wanted)
        difference = ops.abs(loud - right)
        masked = 0.25 * ops.minimum(loud, right)
        difference = BAND_BARK * ops.maximum(difference - masked, 0.0)
        added = ((found + 50.0) / (wanted + 50.0)) ** 1.2
        added = ops.where(added < 3.0, 0.0 * added, ops.minimum(added, 12.0))
        whole = BAND_BARK * self.bands.shape[1]
        symmetric = (ops.sum(difference**2, axis=-1) / whole + 1e-6) ** 0.5 * whole
        asymmetric = ops.sum(difference * added, axis=-1)
        # Quiet frames count a little more, and none without bound.
        heard = ((total[..., 0] + 1e5) / 1e7) ** 0.04
        parts = (_SYMMETRIC, symmetric), (_ASYMMETRIC, asymmetric)
        return sum(weight * self._over_time(ops.minimum(d / heard, 45.0)) for weight, d in parts)

    def _audible(self, power: Any) -> Any:
        """Power of all bands that are heard: (batch, time, 1)."""
        heard = ops.where(power > self.threshold, power, 0.0 * power)
        return ops.sum(heard, axis=-1, keepdims=True)

    def _loudness(self, power: Any) -> Any:
        """Zwicker's law, in sone per Bark."""
        level = (0.5 + 0.5 * power / self.threshold) ** self.power - 1.0
        return self.loudness_scale * ops.maximum(level, 0.0)

    def _over_time(self, frames: Any) -> Any:
        """(batch, time) to (batch,): sixth power within syllables, square over them."""
        n = frames.shape[1] // self.syllable * self.syllable if frames.shape[1] else 0
        if n:
            frames = ops.reshape(frames[:, :n], (-1, n // self.syllable, self.syllable))
            frames = ops.mean((frames + 1e-3) ** 6, axis=-1) ** (1.0 / 6.0)
        return ops.mean(frames**2, axis=-1) ** 0.5


def constant(array: np.ndarray) -> Any:
    """A constant of float32 where the backend computes: PyTorch takes no arrays beside tensors."""
    array = array.astype(np.float32)
    return ops.convert_to_tensor(array) if hasattr(ops, "convert_to_tensor") else array


def bands(spec: ModelSpec) -> tuple[Float, np.ndarray]:
    """How bins add up to critical bands of what a telephone lets hear, or headphones.

    Headphones for rates from 16 kHz on: wide-band PESQ goes up to 8 kHz, the other to 4.

    Returns
    -------
    weights (n_bins + 1, n_bands) from a power in ``Batch.spectra`` to P.862's units, and centres
    (n_bands,) [Bark]. The last row is of all bins above the network's, spread evenly over the
    bands up there.
    """
    hz = np.arange(spec.n_bins) * spec.sample_rate / spec.n_fft
    wide = spec.sample_rate >= _WIDE_HZ
    receiver = (_HEADPHONES_HZ, _HEADPHONES_DB) if wide else (_RECEIVER_HZ, _RECEIVER_DB)
    top_hz = float(receiver[0][-1])
    edges = np.arange(0.0, float(_bark(np.array(top_hz))) + BAND_BARK / 2, BAND_BARK)
    half = 0.5 * spec.sample_rate / spec.n_fft
    low, high = _bark(np.maximum(hz - half, 0.0)), _bark(hz + half)
    inside = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    weights = np.maximum(inside, 0.0) / (high - low)[:, None]
    rest = np.clip((edges[1:] - high[-1]) / BAND_BARK, 0.0, 1.0)
    above_hz = spec.sample_rate / 2.0 - hz[-1]
    audible = max(0.0, top_hz - hz[-1]) / above_hz if above_hz > 0.0 else 0.0
    rest = rest / max(rest.sum(), 1e-9) * min(1.0, audible)
    weights = np.concatenate([weights, rest[None]])
    centre = 0.5 * (edges[1:] + edges[:-1])
    heard_db = np.interp(_hz_of_bark(centre), *receiver)
    shape = window(spec.window, spec.n_fft)
    # Of a frame of noise at an RMS of 1, as ``Batch.spectra`` has it: 3 for a Hann window.
    frame_power = (2.0 / shape.sum()) ** 2 * spec.n_fft / 2.0 * np.square(shape).sum()
    weights = weights * 10.0 ** (heard_db / 10.0) * ACTIVE_POWER / frame_power
    return weights.astype(np.float32), centre


def _bark(hz: np.ndarray) -> np.ndarray:
    """Zwicker & Terhardt 1980."""
    return 13.0 * np.arctan(0.00076 * hz) + 3.5 * np.arctan((hz / 7500.0) ** 2)


def _hz_of_bark(bark: np.ndarray) -> np.ndarray:
    hz = np.linspace(0.0, 24000.0, 24001)
    return np.interp(bark, _bark(hz), hz)
