"""How well an estimate is understood, after ESTOI, as a loss.

Envelopes of thirds of an octave over 384 ms, compared with those of the clean speech: each
band's over time first, then the spectra of each moment, both without their means and at one
size (Jensen & Taal 2016, "An algorithm for predicting the intelligibility of speech masked by
modulated noise maskers"). Frames are the model's, segments overlap by half, and pauses, which the
measure cuts out, count nothing where they are. As a loss in training: Fu et al. 2018, "End-to-end
waveform utterance enhancement for direct evaluation metrics optimization".

Elementary operations of Keras 3 or, where that is not there, of TensorFlow's NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.spec import ModelSpec
from engine.stft import Float
from training.operations import ops
from training.perception import constant

_LOWEST_HZ, _BANDS = 150.0, 15
"""Centre of the first third of an octave, and how many there are, up to 4.3 kHz."""
_SEGMENT_S = 0.384
_PAUSE = 1e-4
"""Of the loudest frame's power: 40 dB under it nobody speaks."""
_FAINT = 1e-5
"""Variance of an envelope that counts as none. Of speech a frame holds a power of about 3."""
_FLAT = 0.03
"""Likewise of a spectrum: summed over bands, each of which has a variance of 1 over time."""
_VOICED = 0.03
"""Mean power of a clip's frames in which somebody speaks."""


class Intelligibility:
    """ESTOI, about: 1 for the clean speech itself, 0 for what has nothing of it.

    ``intelligibility(estimate, clean)``: powers (batch, time, n_bins + 1) of bins and of all above
    them together, scaled as in ``batches.Batch``; returns (batch,), 0 for clips without a voice.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.bands = constant(thirds(spec))
        self.segment = max(2, round(_SEGMENT_S * spec.sample_rate / spec.hop))

    def __call__(self, estimate: Any, clean: Any) -> Any:
        power = ops.sum(clean, axis=-1)
        loudest = ops.max(power, axis=1)[:, None]
        speaks = ops.where(power > _PAUSE * loudest, 1.0 + 0.0 * power, 0.0 * power)[..., None]
        # The root's slope has no bound at 0.
        found, wanted = ((ops.matmul(p, self.bands) + 1e-8) ** 0.5 for p in (estimate, clean))
        alike, frames = 0.0, 1e-6
        for start in (0, self.segment // 2):
            heard = self._segments(speaks, start)
            product = _shape(self._segments(found, start), heard) * _shape(
                self._segments(wanted, start), heard
            )
            alike, frames = alike + _of_clip(product), frames + _of_clip(heard)
        score = alike / frames
        return ops.where(ops.mean(power, axis=-1) > _VOICED, score, 0.0 * score)

    def _segments(self, frames: Any, start: int) -> Any:
        """(batch, time, n) to (batch, segments, frames of each, n); short clips are one."""
        n = (frames.shape[1] or 0) - start
        if n < self.segment:
            return frames[:, None]
        n = n // self.segment * self.segment
        parts = (-1, n // self.segment, self.segment, frames.shape[-1])
        return ops.reshape(frames[:, start : start + n], parts)


def _shape(envelopes: Any, speaks: Any) -> Any:
    """Envelopes without means and at one size: bands over time, then moments over bands.

    envelopes : (batch, segments, frames, bands); speaks (…, 1), 1 or 0
    """
    n = ops.sum(speaks, axis=2)[:, :, None] + 1e-6
    mean = ops.sum(speaks * envelopes, axis=2)[:, :, None] / n
    apart = speaks * (envelopes - mean)
    apart = apart / (ops.sum(apart**2, axis=2)[:, :, None] / n + _FAINT) ** 0.5
    apart = apart - ops.mean(apart, axis=3, keepdims=True)
    return apart * speaks / (ops.sum(apart**2, axis=3)[..., None] + _FLAT) ** 0.5


def _of_clip(values: Any) -> Any:
    """Their sum: (batch, segments, frames, n) to (batch,)."""
    return ops.sum(ops.sum(ops.sum(values, axis=3), axis=2), axis=1)


def thirds(spec: ModelSpec) -> Float:
    """How powers of bins add up to thirds of an octave, those that the network's bins reach.

    Returns
    -------
    (n_bins + 1, n_bands) float32 in [0, 1]; the last row, of all bins above, is 0
    """
    width = spec.sample_rate / spec.n_fft
    low = (np.arange(spec.n_bins) - 0.5) * width
    centre = _LOWEST_HZ * 2.0 ** (np.arange(_BANDS) / 3.0)
    edges = centre * 2.0 ** (-1.0 / 6.0), centre * 2.0 ** (1.0 / 6.0)
    inside = np.minimum(low[:, None] + width, edges[1]) - np.maximum(low[:, None], edges[0])
    weights = np.clip(inside / width, 0.0, 1.0)[:, edges[1] <= low[-1] + width]
    return np.pad(weights, ((0, 1), (0, 0))).astype(np.float32)
