"""Weights in, a model file that describes itself out, or nothing if it would lie.

The graph is written operator by operator: fused LSTMs with their state outside, and
batch and time open, which converters do not give. Not here: training, scores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import TrainingError
from engine.network import Network
from engine.spec import ABOVE, METADATA_KEY, SYNTHESIS_WINDOWS, ModelSpec
from engine.stft import Float

TOLERANCE = 1e-4
"""Largest difference of a gain between Keras and the file; 1e-6 is usual, 1e-2 audible."""

PARITY_FRAMES = 2000
"""Frames on which the two are compared, if there are as many."""

# ONNX Runtime 1.20 and all later ones read these.
_OPSET = 17
_IR_VERSION = 8


class ParityError(TrainingError):
    """The file would not do what the network that was trained does."""


def export(
    weights: Mapping[str, np.ndarray],
    spec: ModelSpec,
    path: Path,
    noisy_db: Float,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write a gain network as a model file that was seen to agree with Keras.

    Parameters
    ----------
    weights : as ``networks.weights_of`` gives them
    spec : what the file will say of itself
    path : where it will lie; an older file stays there until the new one has passed
    noisy_db : (n_clips, n_frames, n_bins) float32, real noisy speech to compare on [dB]
    training : provenance, added to the spec's own

    Raises
    ------
    ParityError : over ``PARITY_FRAMES`` frames a gain differs by more than ``TOLERANCE``
    engine.errors.ModelError : the file breaks the model contract
    """
    from training.networks import from_weights

    spec = replace(spec, training={**spec.training, **(training or {})})
    frames = np.ascontiguousarray(noisy_db.reshape(-1, spec.n_bins)[:PARITY_FRAMES])
    wanted = np.asarray(from_weights(weights)(frames[np.newaxis])[0])[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        part.write_bytes(graph(weights, spec))
        found = _step_by_step(Network(part, provider="cpu"), frames)
        worst = float(np.abs(found - wanted).max())
        if not worst <= TOLERANCE:  # so that NaN does not pass
            raise ParityError(
                f"{path.name} was not written: over {len(frames)} frames its gains differ from "
                f"Keras by up to {worst:.2g}, {TOLERANCE:.0e} is allowed"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def export_run(folder: Path, path: Path, **changes: Any) -> Path:
    """Write the model of a training run's last checkpoint.

    Parameters
    ----------
    folder : of the run: ``run.json``, ``levels.npy`` and ``checkpoint.npz`` are read
    path : of the model file
    changes : fields of the spec to be other than in the run; only those that the network
        does not notice (``above``, ``synthesis_window``, ``description``, ``licence``)

    Raises
    ------
    engine.errors.TrainingError : the folder is no run, or has no checkpoint yet
    ParityError, engine.errors.ModelError : as ``export``
    """
    try:
        told = json.loads((folder / "run.json").read_text())
        levels = np.load(folder / "levels.npy")
        with np.load(folder / "checkpoint.npz") as file:
            weights = dict(file)
    except OSError as error:
        raise TrainingError(f"{folder} is not a run with a checkpoint: {error}") from error
    spec = replace(ModelSpec(**told["spec"]), **changes)
    hours = int(weights["step"]) * told["frames_per_step"] * spec.hop_s / 3600.0
    training = told["training"] | {"steps": int(weights["step"]), "hours_seen": round(hours, 1)}
    return export(weights, spec, path, levels, training)


def graph(weights: Mapping[str, np.ndarray], spec: ModelSpec) -> bytes:
    """The ONNX file of a gain network (docs/architecture.md has its interface)."""
    from onnx import TensorProto, helper, numpy_helper

    from training.networks import STRETCH

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: np.ndarray, dtype: type = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def add(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[0]

    def dense(name: str, heard: str) -> str:
        kernel, bias = weights[f"{name}.0"], weights[f"{name}.1"]
        product = add("MatMul", [heard, constant(f"{name}_kernel", kernel)], [f"{name}_product"])
        return add("Add", [product, constant(f"{name}_bias", bias)], [f"{name}_sum"])

    first, second = (
        constant("first", np.array([0]), np.int64),
        constant("second", np.array([1]), np.int64),
    )
    mean = constant("mean_db", weights["standardise.0"])
    deviation = constant("deviation_db", weights["standardise.1"])
    centred = add("Sub", ["noisy_db", mean], ["centred"])
    standard = add("Div", [centred, deviation], ["standard"])
    front = add("Relu", [dense("front", standard)], ["front"])
    heard = add("Transpose", [front], ["front_by_time"], perm=[1, 0, 2])  # (T, B, F)
    states: list[tuple[str, int]] = []
    while f"lstm{(k := len(states) // 2)}.0" in weights:
        units = weights[f"lstm{k}.1"].shape[0]
        inputs = [heard, *(constant(n, v) for n, v in _lstm(weights, f"lstm{k}")), ""]
        for name in (f"h{k}", f"c{k}"):
            inputs.append(add("Unsqueeze", [name, first], [f"{name}_in"]))
            states.append((name, units))
        outputs = [f"lstm{k}_y", f"h{k}_last", f"c{k}_last"]
        add("LSTM", inputs, outputs, hidden_size=units)
        heard = add("Squeeze", [outputs[0], second], [f"lstm{k}"])  # (T, B, U)
        for name in (f"h{k}", f"c{k}"):
            add("Squeeze", [f"{name}_last", first], [f"{name}_out"])
    remembered = add("Transpose", [heard], ["remembered"], perm=[1, 0, 2])  # (B, T, U)
    seen = add("Concat", [remembered, front], ["seen"], axis=2)
    sure = add("Sigmoid", [dense("gain", seen)], ["sure"])
    scaled = add("Mul", [sure, constant("gain_scale", np.array(STRETCH[0]))], ["scaled"])
    moved = add("Add", [scaled, constant("gain_offset", np.array(STRETCH[1]))], ["moved"])
    bounds = [constant("least", np.array(0.0)), constant("most", np.array(1.0))]
    add("Clip", [moved, *bounds], ["gain"])
    add("Sigmoid", [dense("speech", seen)], ["speech"])

    def value(name: str, *shape: str | int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    model = helper.make_model(
        helper.make_graph(
            nodes,
            spec.name,
            [
                value("noisy_db", "batch", "time", spec.n_bins),
                *(value(name, "batch", units) for name, units in states),
            ],
            [
                value("gain", "batch", "time", spec.n_bins),
                value("speech", "batch", "time", 1),
                *(value(f"{name}_out", "batch", units) for name, units in states),
            ],
            constants,
        ),
        producer_name="denoise-app",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    return bytes(model.SerializeToString())


def describe(path: Path, spec: ModelSpec) -> None:
    """Replace what a model file says about itself, and nothing else in it."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    part = path.with_suffix(".part")
    part.write_bytes(model.SerializeToString())
    os.replace(part, path)


def _lstm(weights: Mapping[str, np.ndarray], name: str) -> list[tuple[str, np.ndarray]]:
    """Kernels and bias of a Keras LSTM as ONNX wants them.

    Keras has the gates side by side as input, forget, cell, output; ONNX has them one
    above the other as input, output, forget, cell, and a bias for each of the kernels.
    """
    kernel, recurrent, bias = (weights[f"{name}.{k}"] for k in range(3))

    def reordered(gates: np.ndarray) -> np.ndarray:
        i, f, c, o = np.split(gates, 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1)

    both = np.concatenate([reordered(bias), np.zeros_like(bias)])
    return [
        (f"{name}_kernel", reordered(kernel).T[np.newaxis]),
        (f"{name}_recurrent", reordered(recurrent).T[np.newaxis]),
        (f"{name}_bias", both[np.newaxis]),
    ]


def _step_by_step(network: Network, frames: Float) -> Float:
    """Gains of (n_frames, n_bins) levels, each frame alone with the state of the one before."""
    state, gains = network.initial_state(), []
    for k in range(len(frames)):
        estimate = network(frames[k : k + 1], state)
        state = estimate.state
        gains.append(estimate.gain[0])
    return np.array(gains)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("model", type=Path, help="model file to write")
    parser.add_argument("--above", choices=ABOVE, help="bins above the network's")
    parser.add_argument("--synthesis-window", choices=SYNTHESIS_WINDOWS)
    parser.add_argument("--description", help="what it is, in a sentence")
    parser.add_argument("--licence", help="under which the weights are given")


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Write the model of a run's last checkpoint; raises as ``export_run``."""
    names = ("above", "synthesis_window", "description", "licence")
    chosen = {n: value for n in names if (value := getattr(args, n)) is not None}
    tell(f"wrote {export_run(args.run, args.model, **chosen)}\n")
