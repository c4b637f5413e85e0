"""Damage to bytes and to the fields of a model, and models that are hostile as a whole."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

from engine.spec import METADATA_KEY, ModelSpec

FLOAT = TensorProto.FLOAT
NUMBERS = (0, 1, 2, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62)
"""Where sizes, counts and signs go wrong."""
WORDS = ("", "noisy_db", "gain", "x" * 70_000, "\0", "../../../../etc/passwd", "\x7f", "é")


def of_bytes(rng: random.Random, whole: bytes, others: Sequence[bytes]) -> bytes:
    """A few bytes changed, cut, doubled, inserted, or taken from another file."""
    made = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        # Headers come first, so half of the damage goes there; tables may come last.
        size = max(1, len(made))
        at = rng.randrange(size)
        if rng.random() < 0.6:
            at = min(size - 1, int(rng.expovariate(1 / 60.0)))
        elif rng.random() < 0.2:
            at = max(0, size - 1 - int(rng.expovariate(1 / 60.0)))
        length = rng.choice((1, 2, 4, 8, 32, 300, 4000))
        how = rng.randrange(8)
        if how == 0:
            made[at : at + 1] = bytes([rng.randrange(256)])
        elif how == 1 and made:
            made[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            width = rng.choice((2, 4, 8))
            number = rng.choice(NUMBERS) % (1 << (8 * width))
            made[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif how == 3:
            del made[at : at + length]
        elif how == 4:
            made[at:at] = made[at : at + length] * rng.choice((1, 2, 50))
        elif how == 5:
            made[at:at] = rng.randbytes(length)
        elif how == 6:
            other = rng.choice(others)
            start = rng.randrange(max(1, len(other)))
            made[at : at + length] = other[start : start + length]
        elif rng.random() < 0.3:
            del made[at:]
    return bytes(made[:400_000])


def of_fields(rng: random.Random, whole: bytes) -> bytes:
    """A model with some of its fields set to something else, doubled, or taken away."""
    model = onnx.ModelProto.FromString(whole)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        _change(rng, model)
    if rng.random() < 0.5:
        for node in model.graph.node:
            if rng.random() < 0.1:
                node.op_type = rng.choice(OPERATORS)
    return bytes(model.SerializeToString())


def _change(rng: random.Random, message: Message) -> None:
    """Walk down to some field and change it there."""
    while True:
        fields = message.ListFields()
        if not fields:
            return
        descriptor, value = rng.choice(fields)
        repeated = descriptor.is_repeated
        if descriptor.message_type is None:
            break
        if repeated and rng.random() < 0.15:
            _shuffle(rng, value)
            return
        message = rng.choice(value) if repeated else value
    if repeated:
        at = rng.randrange(len(value))
        how = rng.random()
        if how < 0.3:
            del value[at]
        elif how < 0.5:
            value.append(value[at])
        else:
            value[at] = _other(rng, value[at])
    elif rng.random() < 0.15:
        message.ClearField(descriptor.name)
    else:
        try:
            setattr(message, descriptor.name, _other(rng, value))
        except (ValueError, TypeError):  # beyond the field's width, or bytes that are no text
            message.ClearField(descriptor.name)


def _shuffle(rng: random.Random, items: Any) -> None:
    how = rng.randrange(3)
    at = rng.randrange(len(items))
    if how == 0:
        del items[at]
    elif how == 1:
        items.add().CopyFrom(items[at])
    else:
        items[at].CopyFrom(rng.choice(items))


def _other(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        number = rng.choice(
            (rng.choice(NUMBERS), value + rng.choice((-1, 1, 2)), rng.randrange(40))
        )
        return max(-(2**31), min(number, 2**31 - 1))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf"), rng.gauss(0, 1)))
    if isinstance(value, str):
        return rng.choice((*WORDS, value + "x", value[:-1]))
    return of_bytes(rng, value, [value])[:100_000]


OPERATORS = (
    *("Abs", "Add", "ArgMax", "BatchNormalization", "Cast", "Clip", "Concat", "ConstantOfShape"),
    *("Conv", "ConvTranspose", "CumSum", "DepthToSpace", "Einsum", "Expand", "EyeLike", "GRU"),
    *("Flatten", "Gather", "GatherND", "Gemm", "GridSample", "If", "LSTM", "Loop", "MatMul"),
    *("MaxPool", "MaxUnpool", "Multinomial", "NonMaxSuppression", "NonZero", "OneHot", "Pad"),
    *("Pow", "RNN", "RandomNormalLike", "Range", "ReduceSum", "Reshape", "Resize", "Reverse"),
    *("Scan", "ScatterND", "SequenceAt", "Slice", "Softmax", "SpaceToDepth", "Split", "Squeeze"),
    *("StringNormalizer", "TfIdfVectorizer", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze"),
    *("Where", "ImageDecoder", "RegexFullMatch", "NotAnOperator"),
)


# Hostile as a whole: each would do harm if it were simply run


def hostile(rng: random.Random, spec: ModelSpec) -> bytes:
    """One of HOSTILE, with sizes of its own, and the interface that a model should have."""
    build = rng.choice(list(HOSTILE.values()))
    return build(rng, spec)


def _finish(
    spec: ModelSpec,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    extra: Sequence[onnx.TensorProto] = (),
) -> bytes:
    """A whole model: ``nodes`` turn ``noisy_db`` into ``harm`` (any shape), which is added."""
    weights = {"zero": np.zeros(1, np.float32), "axes": np.array([2], np.int64), **(weights or {})}
    nodes = [
        *nodes,
        helper.make_node("ReduceMax", ["harm"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Sigmoid", ["noisy_db"], ["level"]),
        helper.make_node("Add", ["level", "nothing"], ["gain"]),
        helper.make_node("ReduceMax", ["gain", "axes"], ["speech"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("noisy_db", FLOAT, ["batch", "time", spec.n_bins])],
        [
            helper.make_tensor_value_info("gain", FLOAT, ["batch", "time", spec.n_bins]),
            helper.make_tensor_value_info("speech", FLOAT, ["batch", "time", 1]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()] + list(extra),
    )
    domains = {node.domain for node in nodes} | {f.domain for f in functions} | {""}
    imports = [helper.make_opsetid(domain, 18 if not domain else 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    return bytes(model.SerializeToString())


def _size(rng: random.Random) -> int:
    return rng.choice((10**6, 10**8, 10**9, 10**10, 2**31, 2**40, 2**62, -5))


def _constant_of_huge_shape(rng: random.Random, spec: ModelSpec) -> bytes:
    node = helper.make_node("ConstantOfShape", ["shape"], ["harm"])
    return _finish(spec, [node], {"shape": np.array([_size(rng)], np.int64)})


def _expanded(rng: random.Random, spec: ModelSpec) -> bytes:
    node = helper.make_node("Expand", ["zero", "shape"], ["harm"])
    return _finish(spec, [node], {"shape": np.array([_size(rng), 1], np.int64)})


def _range(rng: random.Random, spec: ModelSpec) -> bytes:
    weights = {"from": np.float32(0), "to": np.float32(_size(rng)), "by": np.float32(1)}
    return _finish(
        spec,
        [helper.make_node("Range", ["from", "to", "by"], ["harm"])],
        {name: np.asarray(value) for name, value in weights.items()},
    )


def _doubling(rng: random.Random, spec: ModelSpec) -> bytes:
    """Each node joins the answer of the one before with itself."""
    n = rng.choice((10, 24, 34, 60))
    names = ["zero", *(f"d{k}" for k in range(n))]
    nodes = [
        helper.make_node("Concat", [before, before], [after], axis=0)
        for before, after in itertools.pairwise(names)
    ]
    nodes.append(helper.make_node("Identity", [names[-1]], ["harm"]))
    return _finish(spec, nodes)


def _grown_by_level(rng: random.Random, spec: ModelSpec) -> bytes:
    """Harmless at the levels of the trial, as large as memory at others."""
    nodes = [
        helper.make_node("ReduceMax", ["noisy_db"], ["loudest"], keepdims=0),
        helper.make_node("Add", ["loudest", "above"], ["raised"]),
        helper.make_node("Relu", ["raised"], ["over"]),
        helper.make_node("Mul", ["over", "much"], ["count"]),
        helper.make_node("Add", ["count", "one"], ["some"]),
        helper.make_node("Cast", ["some"], ["shape"], to=TensorProto.INT64),
        helper.make_node("Expand", ["zero", "shape"], ["harm"]),
    ]
    weights = {"above": 50.0, "much": float(rng.choice((1e6, 1e8, 1e10))), "one": 1.0}
    return _finish(spec, nodes, {k: np.array([v], np.float32) for k, v in weights.items()})


def _endless_loop(rng: random.Random, spec: ModelSpec) -> bytes:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Identity", ["held"], ["held_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held_out", FLOAT, [1]),
        ],
    )
    times = rng.choice(("", "many"))
    nodes = [
        # By way of the input, so that it is not worked out in advance.
        helper.make_node("ReduceMax", ["noisy_db"], ["loudest"], keepdims=0),
        helper.make_node("Less", ["loudest", "high"], ["yes"]),
        helper.make_node("Loop", [times, "yes", "zero"], ["harm"], body=body),
    ]
    weights = {"high": np.array(1e30, np.float32), "many": np.array(2**62, np.int64)}
    return _finish(spec, nodes, weights)


def _long_scan(rng: random.Random, spec: ModelSpec) -> bytes:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["held", "part"], ["held_out"]),
            helper.make_node("Identity", ["held_out"], ["told"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("held", FLOAT, [1]),
            helper.make_tensor_value_info("part", FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("held_out", FLOAT, [1]),
            helper.make_tensor_value_info("told", FLOAT, [1]),
        ],
    )
    nodes = [
        helper.make_node("Expand", ["zero", "shape"], ["long"]),
        helper.make_node("Scan", ["zero", "long"], ["last", "harm"], body=body, num_scan_inputs=1),
    ]
    return _finish(spec, nodes, {"shape": np.array([_size(rng), 1], np.int64)})


def _deep_if(rng: random.Random, spec: ModelSpec) -> bytes:
    """Conditions in conditions in conditions: for parsers that call themselves."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["zero"], ["out"])],
        "inner",
        [],
        [helper.make_tensor_value_info("out", FLOAT, [1])],
    )
    for _ in range(rng.choice((1, 8, 30, 200))):
        node = helper.make_node("If", ["yes"], ["out"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph(
            [node], "outer", [], [helper.make_tensor_value_info("out", FLOAT, [1])]
        )
        if graph.ByteSize() > 300_000:
            break
    node = helper.make_node("If", ["yes"], ["harm"], then_branch=graph, else_branch=graph)
    return _finish(spec, [node], {"yes": np.array(True)})


def _outside_data(rng: random.Random, spec: ModelSpec) -> bytes:
    """Weights that lie in another file."""
    tensor = TensorProto(name="harm", data_type=FLOAT, dims=[rng.choice((4, 1000, 10**9))])
    tensor.data_location = TensorProto.EXTERNAL
    where = rng.choice(("/dev/zero", "/etc/passwd", "../../etc/passwd", "other.bin", ""))
    for key, value in (("location", where), ("offset", "0"), ("length", str(4 * tensor.dims[0]))):
        tensor.external_data.add(key=key, value=value)
    return _finish(spec, [], extra=[tensor])


def _huge_weights(rng: random.Random, spec: ModelSpec) -> bytes:
    """A tensor that says it is larger than what there is of it."""
    tensor = TensorProto(name="harm", data_type=FLOAT, dims=[_size(rng), rng.choice((1, 2**31))])
    tensor.raw_data = b"\0" * rng.choice((0, 4, 400))
    return _finish(spec, [], extra=[tensor])


def _own_operator(rng: random.Random, spec: ModelSpec) -> bytes:
    domain = rng.choice(("my.own", "com.microsoft", "ai.onnx.ml", "com.microsoft.nchwc"))
    kind = rng.choice(("Harm", "EPContext", "Tokenizer", "TreeEnsembleRegressor", "FusedConv"))
    node = helper.make_node(kind, ["noisy_db"], ["harm"], domain=domain)
    return _finish(spec, [node])


def _functions(rng: random.Random, spec: ModelSpec) -> bytes:
    """Each calls the one before it twice: 2^n nodes once they are written out."""
    n = rng.choice((3, 12, 30, 60))
    made = []
    for k in range(n):
        inner = f"f{k - 1}" if k else "Neg"
        domain = "mine" if k else ""
        nodes = [
            helper.make_node(inner, ["x"], ["y"], domain=domain),
            helper.make_node(inner, ["y"], ["z"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
        made.append(helper.make_function("mine", f"f{k}", ["x"], ["z"], nodes, imports))
    node = helper.make_node(f"f{n - 1}", ["noisy_db"], ["harm"], domain="mine")
    return _finish(spec, [node], functions=made)


def _slow_product(rng: random.Random, spec: ModelSpec) -> bytes:
    """Products of matrices that fit into memory and take minutes."""
    n = rng.choice((500, 3000, 9000))
    nodes = [
        helper.make_node("ReduceMax", ["noisy_db"], ["loudest"], keepdims=0),
        helper.make_node("Expand", ["loudest", "shape"], ["m0"]),
    ]
    turns = rng.choice((1, 30))
    nodes += [helper.make_node("MatMul", [f"m{k}", "m0"], [f"m{k + 1}"]) for k in range(turns)]
    nodes.append(helper.make_node("Sigmoid", [f"m{turns}"], ["harm"]))
    return _finish(spec, nodes, {"shape": np.array([n, n], np.int64)})


def _wide_window(rng: random.Random, spec: ModelSpec) -> bytes:
    """Attributes that ask for more than there is: padding, pools, resizing."""
    node = rng.choice(
        (
            helper.make_node(
                "MaxPool", ["noisy_db"], ["harm"], kernel_shape=[3], pads=[2**31 - 1] * 2
            ),
            helper.make_node("Pad", ["noisy_db", "pads"], ["harm"]),
            helper.make_node("Resize", ["noisy_db", "", "scales"], ["harm"]),
            helper.make_node("Tile", ["noisy_db", "pads3"], ["harm"]),
            helper.make_node("OneHot", ["places", "depth", "values"], ["harm"]),
        )
    )
    big = _size(rng)
    return _finish(
        spec,
        [node],
        {
            "pads": np.array([0, 0, big, 0, 0, big], np.int64),
            "pads3": np.array([1, big, 1], np.int64),
            "scales": np.array([1, 1, float(abs(big))], np.float32),
            "places": np.array([1], np.int64),
            "depth": np.array([big], np.int64),
            "values": np.array([0, 1], np.float32),
        },
    )


HOSTILE: dict[str, Callable[[random.Random, ModelSpec], bytes]] = {
    "constant of a huge shape": _constant_of_huge_shape,
    "expanded": _expanded,
    "range": _range,
    "doubling": _doubling,
    "grown by level": _grown_by_level,
    "endless loop": _endless_loop,
    "long scan": _long_scan,
    "deep if": _deep_if,
    "outside data": _outside_data,
    "huge weights": _huge_weights,
    "own operator": _own_operator,
    "functions": _functions,
    "slow product": _slow_product,
    "wide window": _wide_window,
}


# What a model says of itself


def spec_text(rng: random.Random, whole: str) -> str:
    """The spec's JSON with a field changed, or no JSON at all."""
    if rng.random() < 0.3:
        return of_bytes(rng, whole.encode(), [b'{"name": [[[', b"\\ud800"]).decode("latin-1")
    fields = json.loads(whole)
    for _ in range(rng.choice((1, 1, 2, 5))):
        name = rng.choice((*fields, "colour", ""))
        fields[name] = _any_json(rng, 0)
        if rng.random() < 0.2:
            del fields[name]
        if not fields:
            break
    return json.dumps(fields)


def _any_json(rng: random.Random, depth: int) -> Any:
    how = rng.randrange(8 if depth < 4 else 6)
    if how == 0:
        return rng.choice(NUMBERS)
    if how == 1:
        return rng.choice((1e308, -1e308, float("nan"), float("inf"), 0.5, 10**400))
    if how == 2:
        return rng.choice((True, False, None))
    if how == 3:
        return rng.choice((*WORDS, "hann", "sqrt_hann", "hold", "\ud800"))
    if how == 4:
        return rng.randrange(-2, 3000)
    if how == 5:
        return {}
    if how == 6:
        return [_any_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(WORDS)[:20]: _any_json(rng, depth + 1) for _ in range(rng.randrange(4))}
