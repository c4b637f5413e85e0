"""What listeners would say of a sound, after DNSMOS, as a loss.

DNSMOS P.835 (Reddy et al. 2022, arXiv:2110.01763) was trained on people's ratings of noise
suppressors. Its network comes with the package ``speechmos`` (MIT licence); here it is put
together again of Keras's operations, so that a gain can be followed back through it. A score
that is learnt for can be flattered: the other parts of the loss hold it to the clean speech,
and what is gained must show in scores that were not learnt for.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import TrainingError
from engine.stft import Float
from training.operations import ops

_RATE, _HOP = 16_000, 160
_CONTEXT_S = 0.006
"""What resampling hears on either side."""
_BLOCK_S = 0.04
_LEVEL = 10.0 ** (-26.0 / 20.0)
"""Of speech as DNSMOS mostly hears it, re full scale."""
_SCALES = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
"""Its authors' polynomials from the network's answers, signal, background and overall, to the
scale of listeners."""
_POOLED = (3, 4, 5)
"""Convolutions that a pooling follows."""


class Opinion:
    """DNSMOS's scores: ``opinion(sound)``, (batch, samples) to three of (batch,), 1…5.

    Of the voice (SIG), of what is heard behind it (BAK) and of all of it (OVRL).

    Parameters
    ----------
    sample_rate : of the sound [Hz]; speech has an RMS of 1 in it

    Raises
    ------
    engine.errors.TrainingError : the rate has no whole blocks of it, or Keras is older than 3
    """

    def __init__(self, sample_rate: int) -> None:
        if not hasattr(ops, "conv"):
            raise TrainingError("the loss opinion needs Keras 3")
        self._block, weights = resampling(sample_rate)
        self._resampling = ops.convert_to_tensor(weights)
        constants = _constants()
        real, imaginary = (constants[f"time2freq/stft-{k}/kernel:0"] for k in ("real", "imag"))
        transform = np.concatenate([real[..., 0], imaginary[..., 0]]).T  # (320, 2 · 161)
        self._transform = ops.convert_to_tensor(transform)
        self._least = float(constants["mos_estimator_logpow/Maximum/x:0"])
        self._ratio = float(constants["mos_estimator_logpow/truediv/y:0"])
        self._convolutions = [
            tuple(
                ops.convert_to_tensor(array)
                for array in (
                    constants[f"{name}/kernel:0"].transpose(2, 3, 1, 0),
                    constants[f"{name}/bias:0"],
                )
            )
            for name in ("conv2d", *(f"conv2d_{k}" for k in range(1, 7)))
        ]
        where = "mos_estimator_logpow/{}/{}/ReadVariableOp/resource:0"
        self._dense = [
            tuple(
                ops.convert_to_tensor(constants[where.format(name, kind)])
                for kind in ("MatMul", "BiasAdd")
            )
            for name in ("dense", "dense_1", "dense_3")
        ]

    def __call__(self, sound: Any) -> tuple[Any, Any, Any]:
        return self._judged(_LEVEL * self._resampled(ops.convert_to_tensor(sound)))

    def _resampled(self, sound: Any) -> Any:
        """At DNSMOS's rate; what is left over at the end is dropped."""
        block = self._block
        n = sound.shape[1] // block
        blocks = ops.reshape(sound[:, : n * block], (-1, n, block))
        context = (self._resampling.shape[0] - block) // 2
        before = ops.pad(blocks[:, :-1, -context:], ((0, 0), (1, 0), (0, 0)))
        after = ops.pad(blocks[:, 1:, :context], ((0, 0), (0, 1), (0, 0)))
        heard = ops.concatenate([before, blocks, after], axis=-1)
        return ops.reshape(ops.matmul(heard, self._resampling), (-1, n * self._resampling.shape[1]))

    def _judged(self, sound: Any) -> tuple[Any, Any, Any]:
        """Scores of sound at 16 kHz: (batch,) each."""
        n = sound.shape[1] // _HOP
        hops = ops.reshape(sound[:, : n * _HOP], (-1, n, _HOP))
        frames = ops.concatenate([hops[:, :-1], hops[:, 1:]], axis=-1)
        spectrum = ops.matmul(frames, self._transform) ** 2
        bins = self._transform.shape[1] // 2
        power = spectrum[..., :bins] + spectrum[..., bins:]
        seen = ops.log(ops.maximum(power, self._least))[..., None] / self._ratio
        for k, (kernel, bias) in enumerate(self._convolutions):
            made = ops.conv(seen, kernel, padding="same")
            seen = ops.relu(made + ops.cast(bias, made.dtype))
            if k in _POOLED:
                seen = ops.max_pool(seen, 2, padding="valid")
        seen = ops.cast(ops.max(ops.max(seen, axis=2), axis=1), self._dense[0][0].dtype)
        for k, (weight, bias) in enumerate(self._dense):
            seen = ops.matmul(seen, weight) + bias
            if k < len(self._dense) - 1:
                seen = ops.relu(seen)
        signal, background, overall = (
            square * seen[:, k] ** 2 + linear * seen[:, k] + constant
            for k, (square, linear, constant) in enumerate(_SCALES)
        )
        return signal, background, overall


def resampling(sample_rate: int) -> tuple[int, Float]:
    """Samples in a block, and what makes a block at 16 kHz of it and what lies around it.

    Returns
    -------
    block, weights (block + 2 · context, samples at 16 kHz) float32: a windowed sinc

    Raises TrainingError when no block of some hundredths of a second is whole at both rates.
    """
    divisor = math.gcd(sample_rate, _RATE)
    block, made = sample_rate // divisor, _RATE // divisor
    whole = max(1, math.ceil(_BLOCK_S * sample_rate / block))
    block, made = whole * block, whole * made
    if block > sample_rate // 4:
        raise TrainingError(f"the loss opinion cannot resample from {sample_rate} Hz")
    context = round(_CONTEXT_S * sample_rate)
    due = np.arange(made) * block / made + context
    apart = np.arange(block + 2 * context)[:, None] - due
    # DNSMOS hears up to its last bin.
    cut = 0.98 * min(1.0, _RATE / sample_rate)
    inside = np.maximum(1.0 - (apart / context) ** 2, 0.0)
    window = np.i0(9.0 * np.sqrt(inside)) / np.i0(9.0) * (inside > 0.0)
    return block, (cut * np.sinc(cut * apart) * window).astype(np.float32)


def _constants() -> dict[str, np.ndarray]:
    """What the network of DNSMOS has learnt, by its names there."""
    import onnx
    import speechmos
    from onnx import numpy_helper

    path = Path(speechmos.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    graph = onnx.load(str(path)).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}
