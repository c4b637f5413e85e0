"""What a model file holds, looked at before anything in it is run.

A model may come from a stranger. ONNX lets a file name other files as its weights, repeat a
graph for ever, and write one node down as a billion: none of that is needed to clean sound, and
none of it gets further than here. Reads the protocol buffer itself, because ONNX Runtime does
all of the above while it opens a file. Not here: the model's contract (``network``), and what
only a run can show (``trial``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from engine.errors import ModelError

MAX_NODES = 20_000
"""The largest of ours has some thirty; one with more could not run in real time."""
MAX_DEPTH = 8
"""Graphs within graphs."""

# Repeats as long as it likes. Scan and RNN, GRU, LSTM end with the frames they are given.
_ENDLESS = frozenset({"Loop", "SequenceMap"})

# ONNX Runtime's own operators that quantising and fusing bring in; some of its others read
# files or repeat graphs.
_OF_THE_RUNTIME = frozenset(
    {
        *("BiasGelu", "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul"),
        *("FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "Gelu", "MatMulIntegerToFloat"),
        *("MatMulNBits", "QGemm", "QLinearAdd", "QLinearConcat", "QLinearLeakyRelu"),
        *("QLinearMul", "QLinearSigmoid", "QuantizeLinear", "QuickGelu"),
        *("SkipLayerNormalization",),
    }
)

# Numbers of the fields in onnx.proto that are looked at.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = 7, 20, 25
_GRAPH_NODE, _GRAPH_WEIGHT, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_OUTSIDE, _TENSOR_PLACE = 13, 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def inspect(content: bytes, path: Path) -> None:
    """Raise ModelError for a file that no model of ours would be.

    A field that comes twice counts both times, so that no reader can see what this one did not.

    Parameters
    ----------
    content : of the whole file
    path : for messages
    """
    try:
        nodes = _Count()
        for number, value in _fields(memoryview(content)):
            if number == _MODEL_GRAPH:
                _inspect_graph(value, 1, nodes)
            elif number == _MODEL_FUNCTION:
                raise ModelError("defines functions of its own; export it with them written out")
            elif number == _MODEL_TRAINING:
                raise ModelError("holds a training graph; export it for inference")
    except _NoMessage as error:
        raise ModelError(f"{path}: is not a model that can be opened: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


class _NoMessage(Exception):
    """Bytes that are no protocol buffer."""


class _Count:
    n = 0


def _inspect_graph(graph: memoryview, depth: int, nodes: _Count) -> None:
    if depth > MAX_DEPTH:
        raise ModelError(f"has graphs within graphs, more than {MAX_DEPTH} deep")
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            nodes.n += 1
            if nodes.n > MAX_NODES:
                raise ModelError(f"has more than the {MAX_NODES} operators allowed")
            _inspect_node(value, depth, nodes)
        elif number == _GRAPH_WEIGHT:
            _inspect_tensor(value)
        elif number == _GRAPH_SPARSE:
            raise ModelError("has sparse weights; export it with dense ones")


def _inspect_node(node: memoryview, depth: int, nodes: _Count) -> None:
    operators, domains = [], []
    for number, value in _fields(node):
        if number == _NODE_OPERATOR:
            operators.append(_text(value))
        elif number == _NODE_DOMAIN:
            domains.append(_text(value))
        elif number == _NODE_ATTRIBUTE:
            for kind, part in _fields(value):
                if kind in _ATTRIBUTE_GRAPHS:
                    _inspect_graph(part, depth + 1, nodes)
                elif kind in _ATTRIBUTE_TENSORS:
                    _inspect_tensor(part)
                elif kind in _ATTRIBUTE_SPARSE:
                    raise ModelError("has sparse weights; export it with dense ones")
    if len(operators) > 1 or len(domains) > 1:
        raise ModelError("has an operator with two names")
    operator = operators[0] if operators else ""
    domain = domains[0] if domains else ""
    if domain == "com.microsoft" and operator in _OF_THE_RUNTIME:
        return
    if domain not in ("", "ai.onnx"):
        raise ModelError(
            f"uses the operator {domain}.{operator}; wanted are those of the ONNX standard"
        )
    if operator in _ENDLESS:
        raise ModelError(
            f"uses the operator {operator}, which may never end; wanted are LSTM, GRU or RNN, or "
            "states handed in and out"
        )


def _inspect_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor, numbers=True):
        if number == _TENSOR_OUTSIDE or (number == _TENSOR_PLACE and len(value)):
            raise ModelError("keeps weights in another file; export it as one file")


def _text(value: memoryview) -> str:
    return bytes(value[:100]).decode("utf-8", errors="replace")


def _fields(message: memoryview, numbers: bool = False) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field that has a length; with ``numbers`` of all that are not 0."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _NoMessage("a field has no number")
        if kind == _VARINT:
            value, after = _varint(message, at)
            if numbers and value:
                yield number, message[at:after]
            at = after
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if length > end - at:
                raise _NoMessage("it is cut off, or damaged")
            yield number, message[at : at + length]
            at += length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
            if at > end:
                raise _NoMessage("it is cut off, or damaged")
        else:  # groups, which ONNX never had
            raise _NoMessage(f"a field is of the unknown kind {kind}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise _NoMessage("it is cut off, or damaged")
