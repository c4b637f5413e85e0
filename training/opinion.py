"""What listeners would say of a sound, after DNSMOS, as a loss.

DNSMOS P.835 (Reddy et al. 2022, arXiv:2110.01763) and P.808 (Reddy et al. 2021,
arXiv:2010.15258) were trained on people's ratings of noise suppressors. Their networks come with
the package ``speechmos`` (MIT licence); here they are put together again of Keras's operations,
so that a gain can be followed back through them. A score that is learnt for can be flattered:
the other parts of the loss hold it to the clean speech, and what is gained must show in scores
that were not learnt for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
_POOLED, _P808_POOLED = (3, 4, 5), (0, 1, 3)
"""Convolutions that a pooling follows."""
_P808_FRAME, _P808_BANDS, _P808_RANGE_DB = 2 * _HOP + 1, 120, 80.0
"""Of P.808: samples, mel bands, and how far under the loudest band of a clip it hears."""


class Scores(NamedTuple):
    """What DNSMOS gives each clip: (batch,), 1…5."""

    signal: Any
    """Of the voice (SIG)."""
    background: Any
    """Of what is heard behind it (BAK)."""
    overall: Any
    """Of both (OVRL)."""
    p808: Any = None
    """Of P.808's single question, where it is asked."""


class Opinion:
    """DNSMOS's scores: ``opinion(sound)``, (batch, samples) to ``Scores``.

    Parameters
    ----------
    sample_rate : of the sound [Hz]; speech has an RMS of 1 in it
    p808 : whether to ask P.808's network too

    Raises
    ------
    engine.errors.TrainingError : the rate has no whole blocks of it, or Keras is older than 3
    """

    def __init__(self, sample_rate: int, p808: bool = False) -> None:
        if not hasattr(ops, "conv"):
            raise TrainingError("the loss opinion needs Keras 3")
        self._block, weights = resampling(sample_rate)
        self._resampling = ops.convert_to_tensor(weights)
        constants = _constants("sig_bak_ovr")
        real, imaginary = (constants[f"time2freq/stft-{k}/kernel:0"] for k in ("real", "imag"))
        transform = np.concatenate([real[..., 0], imaginary[..., 0]]).T  # (320, 2 · 161)
        self._transform = ops.convert_to_tensor(transform)
        self._least = float(constants["mos_estimator_logpow/Maximum/x:0"])
        self._ratio = float(constants["mos_estimator_logpow/truediv/y:0"])
        names = ["conv2d", *(f"conv2d_{k}" for k in range(1, 7))]
        dense = [f"mos_estimator_logpow/{name}" for name in ("dense", "dense_1", "dense_3")]
        self._network = _uncompiled(_Network(constants, names, dense, _POOLED))
        self._p808 = _P808() if p808 else None

    def __call__(self, sound: Any) -> Scores:
        heard = _LEVEL * self._resampled(ops.convert_to_tensor(sound))
        n = heard.shape[1] // _HOP
        hops = ops.reshape(heard[:, : n * _HOP], (-1, n, _HOP))
        frames = ops.concatenate([hops[:, :-1], hops[:, 1:]], axis=-1)
        power = _power(ops.matmul(frames, self._transform))
        seen = ops.log(ops.maximum(power, self._least)) / self._ratio
        answers = self._network(seen)
        signal, background, overall = (
            square * answers[:, k] ** 2 + linear * answers[:, k] + constant
            for k, (square, linear, constant) in enumerate(_SCALES)
        )
        p808 = self._p808(hops) if self._p808 is not None else None
        return Scores(signal, background, overall, p808)

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


class _P808:
    """The network of P.808: levels of mel bands under the loudest one of a clip."""

    def __init__(self) -> None:
        from librosa.filters import mel

        n = _P808_FRAME
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi / n * np.arange(n))
        angle = 2.0 * np.pi / n * np.outer(np.arange(n), np.arange(n // 2 + 1))
        transform = window[:, None] * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        self._transform = ops.convert_to_tensor(transform.astype(np.float32))
        bands = mel(sr=_RATE, n_fft=n, n_mels=_P808_BANDS)
        self._bands = ops.convert_to_tensor(bands.T.astype(np.float32))
        where = "mos_estimator_small_1"
        names = [f"conv2d_{k}" for k in range(5, 10)]
        dense = [f"{where}/dense_{k}" for k in range(3, 6)]
        network = _Network(_constants("model_v8"), names, dense, _P808_POOLED)
        self._network = _uncompiled(network)

    def __call__(self, hops: Any) -> Any:
        frames = ops.concatenate([hops[:, :-2], hops[:, 1:-1], hops[:, 2:, :1]], axis=-1)
        power = ops.matmul(_power(ops.matmul(frames, self._transform)), self._bands)
        level_db = (10.0 / 2.302585) * ops.log(ops.maximum(power, 1e-10))
        level_db = level_db - ops.max(ops.max(level_db, axis=2), axis=1)[:, None, None]
        half = 0.5 * _P808_RANGE_DB
        return self._network((ops.maximum(level_db, -_P808_RANGE_DB) + half) / half)[:, 0]


class _Network:
    """Convolutions of 3 × 3, the largest of each channel, and dense layers.

    ``network(seen)``: (batch, frames, bands) to (batch, scores).

    Parameters
    ----------
    constants : as of ``_constants``
    convolutions, dense : their names there, in order
    pooled : which convolutions a pooling follows
    """

    def __init__(
        self,
        constants: dict[str, np.ndarray],
        convolutions: Sequence[str],
        dense: Sequence[str],
        pooled: Sequence[int],
    ) -> None:
        tensor = ops.convert_to_tensor
        self._pooled = pooled
        self._convolutions = [
            (
                tensor(constants[f"{name}/kernel:0"].transpose(2, 3, 1, 0)),
                tensor(constants[f"{name}/bias:0"]),
            )
            for name in convolutions
        ]
        self._dense = [
            tuple(
                tensor(constants[f"{name}/{kind}/ReadVariableOp/resource:0"])
                for kind in ("MatMul", "BiasAdd")
            )
            for name in dense
        ]

    def __call__(self, seen: Any) -> Any:
        seen = seen[..., None]
        for k, (kernel, bias) in enumerate(self._convolutions):
            made = ops.conv(seen, kernel, padding="same")
            seen = ops.relu(made + ops.cast(bias, made.dtype))
            if k in self._pooled:
                seen = ops.max_pool(seen, 2, padding="valid")
        seen = ops.cast(ops.max(ops.max(seen, axis=2), axis=1), self._dense[0][0].dtype)
        for k, (weight, bias) in enumerate(self._dense):
            seen = ops.matmul(seen, weight) + bias
            if k < len(self._dense) - 1:
                seen = ops.relu(seen)
        return seen


def _uncompiled(network: _Network) -> Callable[[Any], Any]:
    """As those operations want it that have a say in what is compiled."""
    return ops.uncompiled(network) if hasattr(ops, "uncompiled") else network


def _power(spectrum: Any) -> Any:
    """Of real parts and as many imaginary ones after them: (…, 2 · n) to (…, n)."""
    bins = spectrum.shape[-1] // 2
    squared = spectrum**2
    return squared[..., :bins] + squared[..., bins:]


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


def _constants(name: str) -> dict[str, np.ndarray]:
    """What a network of DNSMOS has learnt, by its names there."""
    import onnx
    import speechmos
    from onnx import numpy_helper

    path = Path(speechmos.__file__).parent / "dnsmos_models" / f"{name}.onnx"
    graph = onnx.load(str(path)).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}
