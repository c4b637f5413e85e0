"""The weights that a model file was written from, read back from its graph.

Undoes what ``graph`` does to them, so that training can go on from a file that ships, without
the run that made it. Not here: writing one (``graph``), what the weights are of (``networks``).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engine.errors import TrainingError
from engine.network import Network
from engine.spec import ModelSpec

_WEIGHT = re.compile(r"\w+\.\d+")
_KERNEL = "_kernel"
_ROUNDED = "_quantized"
_SETTLING = {
    "settle.0": ("kept_falling", "kept_rising", "least_gain"),
    "pauses.0": ("sure_speech", "pause_least"),
}


def weights_in(path: Path) -> tuple[dict[str, np.ndarray], ModelSpec]:
    """Weights of a model file of ours, named as ``networks.weights_of`` names them, and its spec.

    Raises
    ------
    engine.errors.ModelError : it is no model file
    engine.errors.TrainingError : it holds no weights of a network known here
    """
    spec = Network(path, provider="cpu").spec
    model = onnx.load(str(path))
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    constants |= _from_8_bits(constants)
    found = {name: _as_keras(c) for name, c in constants.items() if _WEIGHT.fullmatch(name)}
    for name in constants:
        if name.endswith(_KERNEL) and f"{name.removesuffix(_KERNEL)}_recurrent" in constants:
            found |= _lstm(constants, name.removesuffix(_KERNEL))
    if "signs" in constants:
        found["turn.0"] = constants["signs"][:, 0].T
    if "variance_db" in constants:
        found["running.0"] = constants["mean_db"]
        found["running.1"] = np.sqrt(constants["variance_db"])
        found["running.2"] = constants["kept"]
    elif "deviation_db" in constants:
        found["standardise.0"] = constants["mean_db"]
        found["standardise.1"] = constants["deviation_db"]
    for name, parts in _SETTLING.items():
        if parts[0] in constants:
            found[name] = np.array([constants[part] for part in parts], np.float32)
    if not any(name.startswith(("lstm", "frame")) for name in found):
        raise TrainingError(
            f"{path.name} holds no weights of a network known here: it was made elsewhere"
        )
    return {name: np.ascontiguousarray(weight) for name, weight in found.items()}, spec


def _from_8_bits(constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ``export.quantise`` rounded, as it was but for that.

    ONNX Runtime turns an LSTM's kernels, (1, 4 · units, n), to have the units last.
    """
    found = {}
    for name in constants:
        if (whole := name.removesuffix(_ROUNDED)) != name:
            steps = constants[name].astype(np.float32) - constants[f"{whole}_zero_point"]
            weight = (steps * constants[f"{whole}_scale"][..., None, :]).astype(np.float32)
            found[whole] = weight.transpose(0, 2, 1) if weight.ndim == 3 else weight
    return found


def _as_keras(constant: np.ndarray) -> np.ndarray:
    """Kernels of convolutions have height and width first in Keras, last in ONNX."""
    return constant.transpose(2, 3, 1, 0) if constant.ndim == 4 else constant


def _lstm(constants: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """ONNX's gates input, output, forget, cell one above the other, as Keras has them."""

    def reordered(gates: np.ndarray) -> np.ndarray:
        i, o, f, c = np.split(gates, 4, axis=-1)
        return np.concatenate([i, f, c, o], axis=-1)

    both = constants[f"{name}_bias"][0]
    return {
        f"{name}.0": reordered(constants[f"{name}_kernel"][0].T),
        f"{name}.1": reordered(constants[f"{name}_recurrent"][0].T),
        f"{name}.2": reordered(both[: len(both) // 2]),
    }
