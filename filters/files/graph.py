"""An ONNX file as a table of what its graph takes and gives. This runs in the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from filters.files.columns import Column
from filters.files.tables import BadFile

_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 7, 8, 25
_NODES, _NODE_DOMAIN, _NODE_OPERATOR, _NODE_ATTRIBUTES = 1, 7, 4, 5
_TENSORS = {5, 15}  # of a graph: initializers, sparse ones
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = {5, 10, 22, 23}, {6, 11}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Numbers of fields. Source: onnx.proto3 of ONNX, IR version 10."""
STANDARD = {"", "ai.onnx", "ai.onnx.ml"}
"""Domains of operators that every ONNX runtime knows."""
_DEEPEST = 20


def onnx(raw: bytes) -> list[Column]:
    """What a graph takes and gives, a row each. Raises BadFile, and whatever onnxruntime raises."""
    _refuse_what_is_not_inside(raw)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    every = [("input", one) for one in session.get_inputs()]
    every += [("output", one) for one in session.get_outputs()]
    told = {
        "what": [what for what, _ in every],
        "name": [one.name for _, one in every],
        "type": [one.type for _, one in every],
        "shape": [" x ".join("any" if isinstance(n, str) else str(n) for n in one.shape) for _, one in every],
    }
    none = np.zeros(len(every), bool)
    return [Column(name, "text", [word[:200] for word in words], none) for name, words in told.items()]


def _refuse_what_is_not_inside(raw: bytes) -> None:
    """Numbers in other files, and operators that only somebody's own library knows. Raises BadFile."""
    for number, value in _fields(raw):
        if number == _MODEL_OPSETS:
            _refuse_domain(_text(value, 1))
        elif number == _MODEL_FUNCTIONS:
            raise BadFile("it defines functions of its own")
        elif number == _MODEL_GRAPH and isinstance(value, bytes):
            _graph(value, 0)


def _graph(raw: bytes, deep: int) -> None:
    if deep > _DEEPEST:
        raise BadFile(f"its graphs are more than {_DEEPEST} deep in each other")
    for number, value in _fields(raw):
        if number in _TENSORS:
            _tensor(value, deep)
        elif number == _NODES and isinstance(value, bytes):
            for field, inner in _fields(value):
                if field == _NODE_DOMAIN:
                    _refuse_domain(_bytes(inner).decode(errors="replace"), _text(value, _NODE_OPERATOR))
                elif field == _NODE_ATTRIBUTES:
                    _attribute(_bytes(inner), deep)


def _attribute(raw: bytes, deep: int) -> None:
    for number, value in _fields(raw):
        if number in _ATTRIBUTE_TENSORS:
            _tensor(value, deep)
        elif number in _ATTRIBUTE_GRAPHS:
            _graph(_bytes(value), deep + 1)


def _tensor(value: bytes | int, deep: int) -> None:
    """Sparse ones have tensors inside."""
    if deep > _DEEPEST:
        raise BadFile(f"its tensors are more than {_DEEPEST} deep in each other")
    for number, inner in _fields(_bytes(value)):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and inner == 1):
            raise BadFile("its numbers are in another file (external data): save it as one file")
        if number in (1, 2) and isinstance(inner, bytes) and _is_tensor(inner):
            _tensor(inner, deep + 1)


def _is_tensor(raw: bytes) -> bool:
    try:
        return any(number in (_EXTERNAL_DATA, _DATA_LOCATION) for number, _ in _fields(raw))
    except BadFile:
        return False  # packed numbers


def _refuse_domain(domain: str, operator: str = "") -> None:
    if domain not in STANDARD:
        named = f" ({operator})" if operator else ""
        raise BadFile(f"it wants operators of the domain {domain[:60]!r}{named}, which ONNX does not define")


def _text(raw: bytes | int, wanted: int) -> str:
    found = [value for number, value in _fields(_bytes(raw)) if number == wanted and isinstance(value, bytes)]
    return found[-1].decode(errors="replace")[:100] if found else ""


def _bytes(value: bytes | int) -> bytes:
    if not isinstance(value, bytes):
        raise BadFile("it is no ONNX file")
    return value


def _fields(raw: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a Protobuf message: number, and its bytes or whole number. Raises BadFile."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(raw, at)
        if size is None or at + size > len(raw):
            raise BadFile("it is no ONNX file, or cut short")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            break
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
    raise BadFile("it is no ONNX file, or cut short")
