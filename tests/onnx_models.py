"""Tiny real ONNX models: some that keep the model contract, some that break it in one way.

Each ``write_…(path, spec)`` writes a file and returns its path. All are built with
``onnx.helper``, so that they pass through ONNX Runtime as a shipped model does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.spec import METADATA_KEY, ModelSpec

FLOAT = TensorProto.FLOAT

CLASSIC = ModelSpec(
    name="classic", version="test", sample_rate=11025, n_fft=1024, hop=512, n_bins=250
)
"""The thesis's setting: 93 ms, half the band."""

FULLBAND = ModelSpec(
    name="fullband",
    version="test",
    sample_rate=48000,
    n_fft=960,
    hop=480,
    n_bins=481,
    window="sqrt_hann",
    synthesis_window="sqrt_hann",
)
"""The setting for calls: 20 ms, the whole band."""


# Models that keep the contract


def write_identity(path: Path, spec: ModelSpec) -> Path:
    """Every gain 1, every frame speech, no state."""
    return save(path, constant_model(spec, gain=1.0, speech=1.0), spec)


def write_silence(path: Path, spec: ModelSpec) -> Path:
    """Every gain 0, no frame speech, no state."""
    return save(path, constant_model(spec, gain=0.0, speech=0.0), spec)


def write_lowpass(path: Path, spec: ModelSpec, top_hz: float) -> Path:
    """Gain 1 up to a frequency, 0 above it, no state."""
    made = constant_model(spec, gain=1.0, speech=1.0)
    (gain,) = (node for node in made.graph.node if node.output[0] == "gain")
    gain.output[0] = "ones"
    hz = np.arange(spec.n_bins) * spec.sample_rate / spec.n_fft
    curve = (hz <= top_hz).astype(np.float32)
    made.graph.initializer.append(numpy_helper.from_array(curve, "curve"))
    made.graph.node.append(helper.make_node("Mul", ["ones", "curve"], ["gain"]))
    return save(path, made, spec)


def write_heavy(path: Path, spec: ModelSpec, products: int) -> Path:
    """Every gain 1, after so many products with a matrix of 1024 × 1024, 0.1 ms to 0.5 ms each."""
    made = constant_model(spec, gain=1.0, speech=1.0)
    (gain,) = (node for node in made.graph.node if node.output[0] == "gain")
    gain.output[0] = "ones"
    rng, node = np.random.default_rng(0), helper.make_node
    weights = {
        "in": rng.standard_normal((spec.n_bins, 1024)) * spec.n_bins**-0.5,
        "square": rng.standard_normal((1024, 1024)) / 32.0,
        "out": rng.standard_normal((1024, spec.n_bins)) / 32.0,
        "nothing": np.zeros(1),
    }
    for name, array in weights.items():
        made.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    nodes = [node("MatMul", ["noisy_db", "in"], ["p0"])]
    for k in range(products):
        nodes += [
            node("MatMul", [f"p{k}", "square"], [f"q{k}"]),
            node("Tanh", [f"q{k}"], [f"p{k + 1}"]),
        ]
    nodes += [
        node("MatMul", [f"p{products}", "out"], ["answer"]),
        node("Mul", ["answer", "nothing"], ["zeros"]),
        node("Add", ["ones", "zeros"], ["gain"]),
    ]
    made.graph.node.extend(nodes)
    return save(path, made, spec)


def write_lstm(path: Path, spec: ModelSpec, units: int = 16, seed: int = 0) -> Path:
    """Random weights, state ``h0`` and ``c0`` of (batch, units); gains differ by bin and time."""
    return save(path, lstm_model(spec, units, seed), spec)


# What they are made of


def save(
    path: Path, model: onnx.ModelProto, spec: ModelSpec | None, metadata: str | None = None
) -> Path:
    """Write a graph with the spec, or with any other text in its place, or with none."""
    text = metadata if spec is None else spec.to_json()
    if text is not None:
        helper.set_model_props(model, {METADATA_KEY: text})
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, shape: list[object], kind: int = FLOAT) -> onnx.ValueInfoProto:
    """Declare an input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def finish(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """Put a graph together for the oldest ONNX Runtime we allow."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests"
    )


def write_filter(path: Path, spec: ModelSpec, n: int | None = None) -> Path:
    """Every gain 1, and in the output ``filter`` the number of each of its ``n`` places.

    ``n`` is what the spec wants unless said.
    """
    n = 2 * spec.filter_taps * spec.filter_bins if n is None else n
    made = constant_model(spec, gain=1.0, speech=1.0)
    numbers = numpy_helper.from_array(np.arange(n, dtype=np.float32), "numbers")
    made.graph.initializer.append(numbers)
    made.graph.node.append(helper.make_node("Mul", ["speech", "numbers"], ["filter"]))
    made.graph.output.append(value("filter", ["batch", "time", n]))
    return save(path, made, spec)


def write_listener(path: Path, spec: ModelSpec, name: str = "phase") -> Path:
    """Gains that are what the network hears of phases: (1 + cosine or sine) / 2, as many as fit.

    ``name`` of the input is what the contract calls it unless said.
    """
    n = spec.n_heard - spec.n_bins
    made = constant_model(spec, gain=1.0, speech=1.0)
    del made.graph.node[1]
    for of, (number, dtype) in {
        "half": (0.5, np.float32),
        "start": ([0], np.int64),
        "end": ([spec.n_bins], np.int64),
        "axis": ([2], np.int64),
    }.items():
        made.graph.initializer.append(numpy_helper.from_array(np.array(number, dtype), of))
    made.graph.node.extend(
        [
            helper.make_node("Mul", [name, "half"], ["halves"]),
            helper.make_node("Add", ["halves", "half"], ["all_gains"]),
            helper.make_node("Slice", ["all_gains", "start", "end", "axis"], ["gain"]),
        ]
    )
    made.graph.input.append(value(name, ["batch", "time", n]))
    return save(path, made, spec)


def constant_model(spec: ModelSpec, gain: float, speech: float) -> onnx.ModelProto:
    """The same answer to every frame."""

    def fill(name: str, number: float) -> onnx.NodeProto:
        tensor = numpy_helper.from_array(np.array([number], np.float32))
        return helper.make_node("ConstantOfShape", ["shape"], [name], value=tensor)

    nodes = [
        helper.make_node("Shape", ["noisy_db"], ["shape"]),
        fill("gain", gain),
        fill("speech_by_bin", speech),
        helper.make_node("ReduceMax", ["speech_by_bin"], ["speech"], axes=[2], keepdims=1),
    ]
    inputs = [value("noisy_db", ["batch", "time", spec.n_bins])]
    outputs = [
        value("gain", ["batch", "time", spec.n_bins]),
        value("speech", ["batch", "time", 1]),
    ]
    return finish(nodes, inputs, outputs)


def lstm_model(spec: ModelSpec, units: int = 16, seed: int = 0) -> onnx.ModelProto:
    """One LSTM layer, then a dense layer for the gains and one for speech."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights = {
        "scale": np.float32(1 / 50.0),
        "W": normal(1, 4 * units, spec.n_bins, scale=spec.n_bins**-0.5),
        "R": normal(1, 4 * units, units, scale=units**-0.5),
        "B": normal(1, 8 * units, scale=0.1),
        "gain_kernel": normal(units, spec.n_bins, scale=3.0),
        "speech_kernel": normal(units, 1, scale=3.0),
        "axis_0": np.array([0], np.int64),
        "axis_1": np.array([1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Mul", ["noisy_db", "scale"], ["scaled"]),
        node("Transpose", ["scaled"], ["time_first"], perm=[1, 0, 2]),
        node("Unsqueeze", ["h0", "axis_0"], ["h_before"]),
        node("Unsqueeze", ["c0", "axis_0"], ["c_before"]),
        node(
            "LSTM",
            ["time_first", "W", "R", "B", "", "h_before", "c_before"],
            ["hidden_4d", "h_after", "c_after"],
            hidden_size=units,
        ),
        node("Squeeze", ["hidden_4d", "axis_1"], ["hidden_time_first"]),
        node("Transpose", ["hidden_time_first"], ["hidden"], perm=[1, 0, 2]),
        node("MatMul", ["hidden", "gain_kernel"], ["gain_logit"]),
        node("Sigmoid", ["gain_logit"], ["gain"]),
        node("MatMul", ["hidden", "speech_kernel"], ["speech_logit"]),
        node("Sigmoid", ["speech_logit"], ["speech"]),
        node("Squeeze", ["h_after", "axis_0"], ["h0_out"]),
        node("Squeeze", ["c_after", "axis_0"], ["c0_out"]),
    ]
    inputs = [
        value("noisy_db", ["batch", "time", spec.n_bins]),
        value("h0", ["batch", units]),
        value("c0", ["batch", units]),
    ]
    outputs = [
        value("gain", ["batch", "time", spec.n_bins]),
        value("speech", ["batch", "time", 1]),
        value("h0_out", ["batch", units]),
        value("c0_out", ["batch", units]),
    ]
    return finish(nodes, inputs, outputs, weights)


# Models that break the contract in one way each: (what it says, writer)


def _with_metadata(text: str | None) -> Callable[[Path], Path]:
    return lambda path: save(path, constant_model(CLASSIC, 1.0, 1.0), None, text)


def _with_fields(**changed: object) -> Callable[[Path], Path]:
    fields = {**asdict(CLASSIC), **changed}
    return _with_metadata(json.dumps(fields))


def _without_field(name: str) -> Callable[[Path], Path]:
    return _with_metadata(json.dumps({k: v for k, v in asdict(CLASSIC).items() if k != name}))


def _whole(build: Callable[[], onnx.ModelProto]) -> Callable[[Path], Path]:
    return lambda path: save(path, build(), CLASSIC)


def _edited(
    edit: Callable[[onnx.ModelProto], object], build: Callable[[], onnx.ModelProto] | None = None
) -> Callable[[Path], Path]:
    """A good model with one thing changed."""

    def write(path: Path) -> Path:
        model = build() if build else constant_model(CLASSIC, 1.0, 1.0)
        edit(model)
        return save(path, model, CLASSIC)

    return write


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Give a tensor another name wherever it occurs."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for declared in (*model.graph.input, *model.graph.output):
        if declared.name == old:
            declared.name = new


def _dimension(model: onnx.ModelProto, name: str, axis: int, size: int | str) -> None:
    """Declare another size of one dimension."""
    for declared in (*model.graph.input, *model.graph.output):
        if declared.name == name:
            dimension = declared.type.tensor_type.shape.dim[axis]
            dimension.Clear()
            if isinstance(size, int):
                dimension.dim_value = size
            else:
                dimension.dim_param = size


def _drop_output(model: onnx.ModelProto, name: str) -> None:
    kept = [output for output in model.graph.output if output.name != name]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def double_model(spec: ModelSpec) -> onnx.ModelProto:
    """float64 throughout."""
    nodes = [
        helper.make_node("Sigmoid", ["noisy_db"], ["gain"]),
        helper.make_node("ReduceMax", ["gain"], ["speech"], axes=[2], keepdims=1),
    ]
    double = TensorProto.DOUBLE
    return finish(
        nodes,
        [value("noisy_db", ["batch", "time", spec.n_bins], double)],
        [
            value("gain", ["batch", "time", spec.n_bins], double),
            value("speech", ["batch", "time", 1], double),
        ],
    )


def flat_model(spec: ModelSpec) -> onnx.ModelProto:
    """(batch, bins) where (batch, time, bins) is wanted."""
    nodes = [
        helper.make_node("Sigmoid", ["noisy_db"], ["gain"]),
        helper.make_node("ReduceMax", ["gain"], ["speech"], axes=[1], keepdims=1),
    ]
    return finish(
        nodes,
        [value("noisy_db", ["batch", spec.n_bins])],
        [value("gain", ["batch", spec.n_bins]), value("speech", ["batch", 1])],
    )


def square_root_model(spec: ModelSpec, least_db: float = 0.0) -> onnx.ModelProto:
    """gain = √(dB − least_db): NaN for a frame quieter than that, and more than 1 for a louder."""
    nodes = [
        helper.make_node("Sub", ["noisy_db", "least"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["gain"]),
        helper.make_node("Sigmoid", ["noisy_db"], ["some"]),
        helper.make_node("ReduceMax", ["some"], ["speech"], axes=[2], keepdims=1),
    ]
    return finish(
        nodes,
        [value("noisy_db", ["batch", "time", spec.n_bins])],
        [value("gain", ["batch", "time", spec.n_bins]), value("speech", ["batch", "time", 1])],
        {"least": np.float32(least_db)},
    )


def infinity_model(spec: ModelSpec, least_db: float = -80.0) -> onnx.ModelProto:
    """gain = ±infinity, by turns from bin to bin, for bins above ``least_db``; else ½."""
    sign = np.where(np.arange(spec.n_bins) % 2, -np.inf, np.inf).astype(np.float32)
    nodes = [
        helper.make_node("Greater", ["noisy_db", "least"], ["loud"]),
        helper.make_node("Where", ["loud", "infinity", "half"], ["gain"]),
        helper.make_node("Sigmoid", ["noisy_db"], ["some"]),
        helper.make_node("ReduceMax", ["some"], ["speech"], axes=[2], keepdims=1),
    ]
    return finish(
        nodes,
        [value("noisy_db", ["batch", "time", spec.n_bins])],
        [value("gain", ["batch", "time", spec.n_bins]), value("speech", ["batch", "time", 1])],
        {"least": np.float32(least_db), "infinity": sign, "half": np.float32(0.5)},
    )


def hidden_shape_model(spec: ModelSpec, dropped: str) -> onnx.ModelProto:
    """Declares the right shapes, but answers (2, 3, 5) for ``dropped``: ``gain`` or ``speech``.

    That shape depends on the data (NonZero), so ONNX Runtime cannot see it when loading.
    """
    node = helper.make_node
    nodes = [
        node("NonZero", ["noisy_db"], ["where"]),
        node("Shape", ["where"], ["counted"]),
        node("Gather", ["counted", "one"], ["count"]),
        node("Sub", ["count", "count"], ["zero"]),
        *(node("Add", ["zero", size], [f"size_{size}"]) for size in ("two", "three", "five")),
        node("Concat", ["size_two", "size_three", "size_five"], ["odd_shape"], axis=0),
        node("ConstantOfShape", ["odd_shape"], ["odd"]),
        node("Sigmoid", ["noisy_db"], ["mask"]),
        node("ReduceMax", ["mask"], ["voice"], axes=[2], keepdims=1),
        node("Identity", ["odd" if dropped == "gain" else "mask"], ["gain"]),
        node("Identity", ["odd" if dropped == "speech" else "voice"], ["speech"]),
    ]
    sizes = {"one": 1, "two": 2, "three": 3, "five": 5}
    return finish(
        nodes,
        [value("noisy_db", ["batch", "time", spec.n_bins])],
        [value("gain", ["batch", "time", spec.n_bins]), value("speech", ["batch", "time", 1])],
        {name: np.array([size], np.int64) for name, size in sizes.items()},
    )


def odd_state_model(spec: ModelSpec) -> onnx.ModelProto:
    """Gives back a state of (2, 3) where (batch, 16) is declared; the data decide that as well."""
    model = lstm_model(spec)
    model.graph.node[-2].output[0] = "unused"
    node = helper.make_node
    model.graph.node.extend(
        [
            node("NonZero", ["noisy_db"], ["where"]),
            node("Shape", ["where"], ["counted"]),
            node("Sub", ["counted", "counted"], ["zeros"]),
            node("Add", ["zeros", "odd_sizes"], ["odd_shape"]),
            node("ConstantOfShape", ["odd_shape"], ["h0_out"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "odd_sizes"))
    return model


def stuck_model(spec: ModelSpec) -> onnx.ModelProto:
    """Loads, but cannot run: asks for a reshape that no frame fits."""
    nodes = [
        helper.make_node("NonZero", ["noisy_db"], ["where"]),
        helper.make_node("Shape", ["where"], ["counted"]),
        helper.make_node("Add", ["counted", "one"], ["wrong"]),
        helper.make_node("Reshape", ["noisy_db", "wrong"], ["flat"]),
        helper.make_node("ReduceMax", ["flat"], ["most"], keepdims=0),
        helper.make_node("Mul", ["noisy_db", "most"], ["some"]),
        helper.make_node("Sigmoid", ["some"], ["gain"]),
        helper.make_node("ReduceMax", ["gain"], ["speech"], axes=[2], keepdims=1),
    ]
    return finish(
        nodes,
        [value("noisy_db", ["batch", "time", spec.n_bins])],
        [value("gain", ["batch", "time", spec.n_bins]), value("speech", ["batch", "time", 1])],
        {"one": np.array([1, 1], np.int64)},
    )


def foreign_model() -> onnx.ModelProto:
    """A fine ONNX model of another program: integers to integers."""
    nodes = [helper.make_node("Add", ["tokens", "tokens"], ["logits"])]
    integer = TensorProto.INT64
    return finish(
        nodes, [value("tokens", ["batch", 7], integer)], [value("logits", ["batch", 7], integer)]
    )


def _lstm() -> onnx.ModelProto:
    return lstm_model(CLASSIC)


BROKEN: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "no metadata": (f"has no {METADATA_KEY}", _with_metadata(None)),
    "metadata empty": ("not JSON", _with_metadata("")),
    "metadata not JSON": ("not JSON", _with_metadata("{name: classic")),
    "metadata deep": ("JSON", _with_metadata("[" * 100_000)),
    "metadata a list": ("JSON object, found list", _with_metadata("[1, 2]")),
    "metadata null": ("JSON object, found NoneType", _with_metadata("null")),
    "field missing": ("incomplete.*sample_rate", _without_field("sample_rate")),
    "field unknown": ("unknown fields: colour", _with_fields(colour="blue")),
    "newer format": ("format 2", _with_fields(format=2)),
    "name empty": ("name is empty", _with_fields(name="")),
    "name a number": ("name should be str", _with_fields(name=7)),
    "rate a string": ("sample_rate should be int", _with_fields(sample_rate="11025")),
    "rate true": ("sample_rate should be int", _with_fields(sample_rate=True)),
    "rate zero": ("sample_rate should be within", _with_fields(sample_rate=0)),
    "rate beyond float": ("sample_rate should be within", _with_fields(sample_rate=10**400)),
    "rate negative": ("sample_rate should be within", _with_fields(sample_rate=-11025)),
    "n_fft odd": ("n_fft should be even", _with_fields(n_fft=1023)),
    "n_fft huge": ("n_fft should be within", _with_fields(n_fft=2**30)),
    "hop zero": ("hop should be within", _with_fields(hop=0)),
    "hop longer than n_fft": ("hop should be within", _with_fields(hop=1025)),
    "hop leaves gaps": ("leave gaps", _with_fields(hop=1024)),
    "n_bins too many": ("n_bins should be within", _with_fields(n_bins=514)),
    "n_bins not the graph's": ("noisy_db should be", _with_fields(n_bins=251)),
    "floor infinite": ("floor_db should be within", _with_fields(floor_db=-float("inf"))),
    "floor NaN": ("floor_db should be within", _with_fields(floor_db=float("nan"))),
    "lookahead negative": ("lookahead should be within", _with_fields(lookahead=-1)),
    "lookahead huge": ("lookahead should be within", _with_fields(lookahead=10**9)),
    "window unknown": ("window should be one of hann", _with_fields(window="kaiser")),
    "above unknown": ("above should be one of zero", _with_fields(above="noisy")),
    "training a string": ("training should be Mapping", _with_fields(training="LibriVox")),
    "input misnamed": ("noisy_db is missing", _edited(lambda m: _rename(m, "noisy_db", "noisy"))),
    "gain missing": ("gain is missing", _edited(lambda m: _drop_output(m, "gain"))),
    "speech missing": ("speech is missing", _edited(lambda m: _drop_output(m, "speech"))),
    "gain misnamed": ("gain is missing", _edited(lambda m: _rename(m, "gain", "mask"))),
    "batch fixed": ("should be symbolic", _edited(lambda m: _dimension(m, "noisy_db", 0, 1))),
    "time fixed": ("should be symbolic", _edited(lambda m: _dimension(m, "noisy_db", 1, 1))),
    "bins symbolic": ("noisy_db should be", _edited(lambda m: _dimension(m, "noisy_db", 2, "n"))),
    "float64": ("float32.*double", _whole(lambda: double_model(CLASSIC))),
    "no time axis": ("noisy_db should be", _whole(lambda: flat_model(CLASSIC))),
    "state not given back": (
        "h0_out is missing",
        _edited(lambda m: _drop_output(m, "h0_out"), _lstm),
    ),
    "state misnamed": (
        "c0_out is missing",
        _edited(lambda m: _rename(m, "c0_out", "cell"), _lstm),
    ),
    "state of unknown size": (
        "c0 should be",
        _edited(lambda m: _dimension(m, "c0", 1, "units"), _lstm),
    ),
    "foreign input": (
        "should be",
        _edited(lambda m: m.graph.input.append(value("step", [], TensorProto.INT64))),
    ),
    "integer state": (
        "step should be float32",
        _edited(lambda m: m.graph.input.append(value("step", ["batch", 4], TensorProto.INT64))),
    ),
    "gain of 2": ("0…1", _whole(lambda: constant_model(CLASSIC, 2.0, 1.0))),
    "gain negative": ("0…1", _whole(lambda: constant_model(CLASSIC, -0.5, 1.0))),
    "speech of 7": ("0…1", _whole(lambda: constant_model(CLASSIC, 1.0, 7.0))),
    "gain NaN": ("NaN", _whole(lambda: square_root_model(CLASSIC))),
    "gain ±infinity": ("NaN or infinity", _whole(lambda: infinity_model(CLASSIC))),
    "gain of another shape": (
        "gain should have shape",
        _whole(lambda: hidden_shape_model(CLASSIC, "gain")),
    ),
    "speech of another shape": (
        r"speech \(1,",
        _whole(lambda: hidden_shape_model(CLASSIC, "speech")),
    ),
    "state of another shape": (
        "inference failed.*h0",
        _whole(lambda: odd_state_model(CLASSIC)),
    ),
    "cannot run": ("inference failed", _whole(lambda: stuck_model(CLASSIC))),
    "of another program": (
        f"has no {METADATA_KEY}",
        lambda path: save(path, foreign_model(), None),
    ),
}
"""What is wrong, what the message must say of it (regular expression), and the writer."""
