"""Weights in, a model file that describes itself out, or nothing if it would lie.

Not here: the graph itself (``graph``), training, scores.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from engine.errors import TrainingError
from engine.network import Network
from engine.spec import ABOVE, METADATA_KEY, SYNTHESIS_WINDOWS, ModelSpec
from engine.stft import Float
from training.files import replace_file, replacing
from training.runs import behind, checkpoint, exported

TOLERANCE = 1e-4
"""Largest difference of a gain between Keras and the file, but for ``RARE`` ones; 1e-6 is usual,
1e-2 audible."""

RARE = 1e-4
"""Share of gains that may differ by more, up to ``RARE_TOLERANCE``. At a sudden sound the memory of
a large network can make 1e-4 of the last places of its levels; a wrong graph differs everywhere."""

RARE_TOLERANCE = 1e-3

PARITY_FRAMES = 2000
"""Frames on which the two are compared, if there are as many."""

INT8_TOLERANCE = 0.01
"""Largest mean difference of a gain that 8-bit weights may make."""

HEAVY = 0.05
"""Share of all weights from which a matrix is stored in 8 bits. The small ones at both ends of a
network take no time to speak of, and make two thirds of the error."""

_OCTAVES_PER_DB = np.float32(np.log2(10.0) / 20.0)


class ParityError(TrainingError):
    """The file would not do what the network that was trained does."""


def export(
    weights: Mapping[str, np.ndarray],
    spec: ModelSpec,
    path: Path,
    heard: Float,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network as a model file that was seen to agree with Keras.

    A network that was trained on levels standardised by the whole clip's statistics gets
    the training set's in their place: a stream has no end to wait for.

    Parameters
    ----------
    weights : as ``networks.weights_of`` gives them
    spec : what the file will say of itself
    path : where it will lie; an older file stays there until the new one has passed
    heard : (n_clips, n_frames, n_heard) float32, real noisy speech to compare on
    training : provenance, added to the spec's own

    Raises
    ------
    ParityError : over ``PARITY_FRAMES`` frames gains differ by more than ``TOLERANCE``, but for a
        share of ``RARE``, or one by more than ``RARE_TOLERANCE``
    engine.errors.ModelError : the file breaks the model contract
    """
    from training.graph import graph

    told = {**spec.training, **(training or {})}
    if "clip.0" in weights:
        told["normalisation"] = "trained on each whole clip's, runs on the training set's"
        weights = streamable(weights)
    spec = replace(spec, training=told)
    frames = _parity_frames(heard)
    wanted = estimates(weights, frames[np.newaxis])[0][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(graph(weights, spec))
        found = _step_by_step(Network(part, provider="cpu"), frames)
        difference = np.abs(found - wanted)
        worst, beyond = float(difference.max()), float(np.mean(difference > TOLERANCE))
        if not (worst <= RARE_TOLERANCE and beyond <= RARE):  # so that NaN does not pass
            raise ParityError(
                f"{path.name} was not written: over {len(frames)} frames its gains differ from "
                f"Keras by up to {worst:.2g}, and {100 * beyond:.2g} % of them by more than "
                f"{TOLERANCE:.0e}; {RARE_TOLERANCE:.0e} and {100 * RARE:g} % are allowed"
            )
    return path


def streamable(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights of the network that ships: as trained, but never standardised by a whole clip."""
    return {
        f"standardise.{name[5:]}" if name.startswith("clip.") else name: weight
        for name, weight in weights.items()
    }


def estimates(weights: Mapping[str, np.ndarray], noisy_db: Float) -> tuple[Float, Float]:
    """What Keras makes of levels, as a model file would tell it.

    Parameters
    ----------
    weights : ``streamable`` ones
    noisy_db : (n_clips, n_frames, n_bins) float32 [dB], motion of phases behind for a network that
        hears them

    Returns
    -------
    gains (n_clips, n_frames, n_bins), a filter behind them if there is one, and probabilities of
    speech (n_clips, n_frames, 1). A
    network of clean levels has none of the latter: it is the share of the frame's energy
    times gain that passes.
    """
    from training.graph import softmax_range_db
    from training.networks import answers, from_weights, preset_of

    kind = preset_of(weights).output
    outputs = answers(from_weights(weights), noisy_db)
    if kind == "gain":
        return outputs[0], outputs[1]
    clean_db = outputs[0]
    if kind == "softmax":
        low, high = softmax_range_db(weights)
        clean_db = np.float32(low) + clean_db * np.float32(high - low)
    gain = np.exp2(np.minimum(clean_db - noisy_db, np.float32(0.0)) * _OCTAVES_PER_DB)
    power = np.exp2(2.0 * _OCTAVES_PER_DB * noisy_db)
    speech = np.sum(gain * power, axis=-1, keepdims=True) / power.sum(axis=-1, keepdims=True)
    return gain, speech


def quantise(model: Path, path: Path, heard: Float) -> float:
    """Write a model file with its large matrices in 8 bits: a third as large, twice as fast.

    Parameters
    ----------
    model : of float32 weights
    path : of the file to write; its spec tells of the 8 bits and of the error
    heard : (…, n_heard) float32, real noisy speech to compare on

    Returns
    -------
    mean difference of the gains over ``PARITY_FRAMES`` frames, step by step

    Raises
    ------
    engine.errors.TrainingError : that is not under ``INT8_TOLERANCE``; nothing is written
    engine.errors.ModelError : the file breaks the model contract
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    frames = _parity_frames(heard)
    before = Network(model, provider="cpu")
    prepared = onnx.load(model)
    for node in prepared.graph.node:
        node.name = node.output[0]
    # Its advice to prepare the graph elsewhere is silenced by saying that it was done:
    # there is nothing in our graphs to fuse or fold.
    onnx.helper.set_model_props(
        prepared,
        {METADATA_KEY: before.spec.to_json(), "onnx.quant.pre_process": "onnxruntime.quant"},
    )
    log = logging.getLogger()  # where it remarks on each product
    log.addFilter(_not_of_quantisation)
    try:
        with replacing(path) as part:
            quantize_dynamic(
                prepared,
                part,
                op_types_to_quantize=["MatMul", "LSTM"],
                nodes_to_quantize=_heavy(prepared),
                weight_type=QuantType.QInt8,
                per_channel=True,  # a third less error than one scale for a whole matrix
                # Processors without VNNI add products in pairs in 16 bits, which 8-bit weights
                # overflow: an error of 0.012 to 0.022 where others have 0.003.
                reduce_range=True,
            )
            after = Network(part, provider="cpu")
            difference = np.abs(_step_by_step(after, frames) - _step_by_step(before, frames))
            error = float(difference.mean())
            if not error < INT8_TOLERANCE:  # so that NaN does not pass
                raise TrainingError(
                    f"{path.name} was not written: with 8-bit weights its gains differ by "
                    f"{error:.4f} on average, less than {INT8_TOLERANCE} is allowed"
                )
            told = {**before.spec.training, "weights": "int8", "int8_gain_error": round(error, 5)}
            describe(part, replace(before.spec, training=told))
    finally:
        log.removeFilter(_not_of_quantisation)
    return error


def _heavy(model: Any) -> list[str]:
    """Nodes that read a large share of all weights."""
    sizes = {one.name: math.prod(one.dims) for one in model.graph.initializer}
    least = HEAVY * sum(sizes.values())
    return [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "LSTM") and sum(sizes.get(n, 0) for n in node.input) >= least
    ]


def _not_of_quantisation(record: logging.LogRecord) -> bool:
    """Whether a line of the log says something to whoever exports a model."""
    return "Quantization parameters" not in record.getMessage()


def export_run(
    folder: Path,
    path: Path,
    int8: bool = False,
    blend: Sequence[tuple[Path, float]] = (),
    **changes: Any,
) -> Path:
    """Write the model of a training run's last checkpoint.

    Parameters
    ----------
    folder : of the run, which ``runs.exported`` reads
    path : of the model file
    int8 : with weights of 8 bits, by ``quantise``
    blend : folders of other runs on the same way, and the share in [0, 1] that each has of the
        mean of all runs' weights (Wortsman et al. 2022, "Model soups", arXiv:2203.05482)
    changes : fields of the spec to be other than in the run; only those that the network
        does not notice (``above``, ``synthesis_window``, ``description``, ``licence``)

    Raises
    ------
    engine.errors.TrainingError : as ``runs.exported``, or 8 bits are too few, or as ``blended``
    ParityError, engine.errors.ModelError : as ``export``
    """
    weights, told, levels = exported(folder)
    spec = replace(ModelSpec(**told["spec"]), **changes)
    training = told["training"] | behind(told, int(weights["step"]))
    if blend:
        training["blended"] = [share for _, share in blend]
        weights = blended(weights, blend)
    if not int8:
        return export(weights, spec, path, levels, training)
    with TemporaryDirectory() as aside:
        whole = export(weights, spec, Path(aside) / path.name, levels, training)
        path.parent.mkdir(parents=True, exist_ok=True)
        quantise(whole, path, levels)
    return path


def blended(
    weights: Mapping[str, np.ndarray], others: Sequence[tuple[Path, float]]
) -> dict[str, np.ndarray]:
    """The mean of a network's weights and those of other runs, each of which has its share.

    Between ends of one way of learning it trades what they are good at, smoothly.
    Raises TrainingError when the networks differ, or shares are under 0 or over 1 together.
    """
    shares = [share for _, share in others]
    whole = math.fsum(shares)
    if not (min(shares) >= 0.0 and whole <= 1.0):  # so that NaN does not pass
        told = " + ".join(f"{share:g}" for share in shares)
        raise TrainingError(f"the share to blend should be from 0 to 1, found {told}")
    mean = {name: (1.0 - whole) * weight for name, weight in weights.items()}
    for folder, share in others:
        other = checkpoint(folder)
        if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in other.items()}:
            raise TrainingError(f"{folder} holds another network than the run it is blended with")
        for name, weight in other.items():
            mean[name] = mean[name] + share * weight
    rounded = {name: mean[name].astype(weight.dtype) for name, weight in weights.items()}
    return rounded | {"step": weights["step"]}


def describe(path: Path, spec: ModelSpec) -> None:
    """Replace what a model file says about itself, and nothing else in it."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    replace_file(path, model.SerializeToString())


def _parity_frames(heard: Float) -> Float:
    """The frames to compare on, as one stream: (n_frames, n_heard)."""
    return np.ascontiguousarray(heard.reshape(-1, heard.shape[-1])[:PARITY_FRAMES])


def _step_by_step(network: Network, frames: Float) -> Float:
    """Gains of (n_frames, n_heard), each frame alone with the state of the one before.

    A filter follows the gains, as in ``estimates``.
    """
    state, gains = network.initial_state(), []
    for k in range(len(frames)):
        estimate = network(frames[k : k + 1], state)
        state = estimate.state
        answer = [estimate.gain[0]]
        if estimate.filter is not None:
            answer.append(estimate.filter.view(np.float32).ravel())
        gains.append(np.concatenate(answer))
    return np.array(gains)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser."""
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("model", type=Path, help="model file to write")
    parser.add_argument("--above", choices=ABOVE, help="bins above the network's")
    parser.add_argument("--synthesis-window", choices=SYNTHESIS_WINDOWS)
    parser.add_argument("--description", help="what it is, in a sentence")
    parser.add_argument("--licence", help="under which the weights are given")
    parser.add_argument(
        "--blend",
        nargs=2,
        action="append",
        default=[],
        metavar=("RUN", "SHARE"),
        help="the mean with the weights of another run on the same way, which has SHARE of it; "
        "may be given again",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="8-bit weights, if the gains then differ by less than 0.01 on average",
    )


def run(args: argparse.Namespace, tell: Callable[[str], object]) -> None:
    """Write the model of a run's last checkpoint; raises as ``export_run``."""
    names = ("above", "synthesis_window", "description", "licence")
    chosen = {n: value for n in names if (value := getattr(args, n)) is not None}
    blend = []
    for other, share in args.blend:
        try:
            blend.append((Path(other), float(share)))
        except ValueError:
            raise TrainingError(f"--blend: {share!r} is no share, as 0.5 is") from None
    tell(f"wrote {export_run(args.run, args.model, args.int8, blend, **chosen)}\n")
