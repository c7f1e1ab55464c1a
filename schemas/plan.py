"""Writer schema and wanted columns -> the program that `walk` runs and the builders of the Arrow columns.

A nullable union is a prefix of the op of its value, whatever that is. Maps, enums, fixed and unions of many
types are walked (so that everything behind them is found, and nothing corrupt passes) but have no columns of
their own: `Plan.slow` lists the columns that need them, which fastavro then decodes from the checked bodies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import walk as op
from schemas.errors import UnsupportedSchema
from schemas.surveys import EVERYTHING, Column
from schemas.writer import WriterSchema, smallest

_LEAVES = {
    "boolean": op.BOOLEAN,
    "int": op.INT,
    "long": op.LONG,
    "float": op.FLOAT,
    "double": op.DOUBLE,
    "string": op.STRING,
    "bytes": op.BYTES,
    "fixed": op.FIXED,
    "enum": op.ENUM,
}

_TYPES = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.large_binary(),
}

WIDTHS = {"int": 4, "float": 4, "long": 8, "double": 8, "string": 16, "bytes": 16, "array": 8, "mark": 8}
"""Bytes a row in the value column; strings are noted as (address, length), arrays as their length."""

_CASTS = {
    "int": {pa.int64(), pa.float32(), pa.float64()},
    "long": {pa.float32(), pa.float64()},
    "float": {pa.float64()},
    "double": {pa.float32()},  # a rewriter widened it: the value was a float32
}
"""Arrow types that a writer's type may become (Avro specification, Schema Resolution) and back."""

NO_NULL = 0xFF


@dataclass
class Node:
    """One place of the writer schema: where the walk leaves its values.

    op: its row of the program, -1 when it needs none. maybe: null is possible, here or in a record around it.
    data: its number among the value columns of its level; valid, truth: among the bit columns.
    """

    kind: str
    level: int
    op: int
    maybe: bool
    fields: dict[str, "Node"] = field(default_factory=dict)
    items: "Node | None" = None
    child: int = -1
    ends: int = -1
    data: int = -1
    valid: int = -1
    truth: int = -1


@dataclass
class Level:
    """The columns of the alert or of an array's items.

    widths: bytes a row of each value column. bits: number of bit columns.
    data, truth, valid: which op writes to which value column, boolean column, validity column: (op, column).
    """

    widths: list[int] = field(default_factory=list)
    bits: int = 0
    data: list[tuple[int, int]] = field(default_factory=list)
    truth: list[tuple[int, int]] = field(default_factory=list)
    valid: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each value column starts in memory for one row of each: int64, then their sum."""
        return np.cumsum([0, *self.widths])

    def ops(self, which: str) -> tuple[np.ndarray, np.ndarray]:
        """(ops, columns), int64, of "data", "truth" or "valid"."""
        pairs = np.array(getattr(self, which), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


class Compiler:
    """Writes the program of a schema. Paths of array items end in "[]": "prv_candidates[].jd"."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.paths: list[str] = []
        self.levels = 1

    def emit(self, kind: int, level: int, path: str, **words: int) -> int:
        row = [0] * op.WORDS
        row[op.KIND], row[op.LEVEL], row[op.NULL] = kind, level, NO_NULL
        row[op.JUMP] = len(self.rows) + 1
        for word, value in words.items():
            row[getattr(op, word)] = value
        self.rows.append(row)
        self.paths.append(path.replace("[]", ""))
        return len(self.rows) - 1

    def node(self, tree: Any, level: int, path: str, maybe: bool) -> Node:
        prefix: dict[str, int] = {}
        if isinstance(tree, list):
            values = [place for place, branch in enumerate(tree) if branch["type"] != "null"]
            if len(values) != 1 or len(tree) > 2:
                return self._branches(tree, level, path)
            prefix = {"UNION": 1, "VALUE": 2 * values[0]}
            if len(tree) == 2:
                prefix["NULL"] = 2 - prefix["VALUE"]
                maybe = True
            tree = tree[values[0]]
        kind = tree["type"]
        if kind == "record":
            return self._record(tree, level, path, maybe, prefix)
        if kind in ("array", "map"):
            return self._array(tree, level, path, maybe, prefix)
        size = tree.get("size", len(tree.get("symbols", ())))
        return Node(kind, level, self.emit(_LEAVES[kind], level, path, SIZE=size, **prefix), maybe)

    def _record(self, tree: Any, level: int, path: str, maybe: bool, prefix: dict[str, int]) -> Node:
        at = self.emit(op.RECORD, level, path, **prefix) if prefix else -1
        node = Node("record", level, at, maybe)
        for inner in tree["fields"]:
            inner_path = f"{path}.{inner['name']}" if path else inner["name"]
            node.fields[inner["name"]] = self.node(inner["type"], level, inner_path, maybe)
        if prefix:
            self.rows[at][op.JUMP] = len(self.rows)
        return node

    def _array(self, tree: Any, level: int, path: str, maybe: bool, prefix: dict[str, int]) -> Node:
        child, self.levels = self.levels, self.levels + 1
        items = tree["items"] if tree["type"] == "array" else tree["values"]
        least = smallest(items) + (tree["type"] == "map")
        at = self.emit(op.ARRAY, level, path, CHILD=child, SIZE=least, **prefix)
        if tree["type"] == "map":
            self.emit(op.STRING, child, path)
        inner = self.node(items, child, f"{path}[]", False)
        ends = self.emit(op.ARRAY_END, level, path, CHILD=child, SIZE=least, JUMP=at + 1)
        self.rows[at][op.JUMP] = ends + 1
        return Node(tree["type"], level, at, maybe, items=inner, child=child, ends=ends)

    def _branches(self, tree: Any, level: int, path: str) -> Node:
        at = self.emit(op.BRANCHES, level, path, SIZE=len(tree))
        starts = [self.emit(op.GOTO, level, path) for _ in tree]
        ends = []
        for start, branch in zip(starts, tree, strict=True):
            self.rows[start][op.JUMP] = len(self.rows)
            if branch["type"] != "null":
                self.node(branch, level, path, True)
            ends.append(self.emit(op.GOTO, level, path))
        for end in ends:
            self.rows[end][op.JUMP] = len(self.rows)
        return Node("union", level, at, True)


class Program:
    """The program of a writer schema, and which of its values are kept.

    program: (ops, words) uint64 without addresses. root: the schema's nodes. levels: what columns each has.
    """

    def __init__(self, writer: WriterSchema, compiler: Compiler | None = None) -> None:
        compiler = compiler or Compiler()
        self.writer = writer
        self.least = smallest(writer.tree)
        self.root = compiler.node(writer.tree, 0, "", False)
        compiler.emit(op.END, 0, "the end of the record")
        self.program = np.array(compiler.rows, np.uint64)
        self.paths = compiler.paths
        self.levels = [Level() for _ in range(compiler.levels)]
        # Of each level, the most rows seen for each record: how much memory to take at first.
        self.items = [0.0] * compiler.levels

    def want(self, node: Node) -> None:
        """Give the node its columns, once, and set its strides in the program."""
        level, ops = self.levels[node.level], [node.op] if node.ends < 0 else [node.op, node.ends]
        if node.data < 0 and node.kind in WIDTHS:
            node.data = len(level.widths)
            level.widths.append(WIDTHS[node.kind])
            level.data += [(at, node.data) for at in ops]
            self.program[ops, op.STRIDE] = WIDTHS[node.kind]
        if node.truth < 0 and node.kind == "boolean":
            node.truth, level.bits = level.bits, level.bits + 1
            level.truth.append((node.op, node.truth))
            self.program[ops, op.STRIDE] = 1
        if node.valid < 0 and node.maybe:
            node.valid, level.bits = level.bits, level.bits + 1
            level.valid.append((node.op, node.valid))
            self.program[node.op, op.VALID_STRIDE] = 1


class Plan(Program):
    """How to get some columns out of packets of one writer schema. Raises UnsupportedSchema.

    builders: for each column what makes it, or None where fastavro must (see `slow`).
    """

    def __init__(self, writer: WriterSchema, columns: Sequence[Column]) -> None:
        super().__init__(writer)
        self.builders: list[Builder | None] = [self._column(column) for column in columns]
        self.slow = [column for column, made in zip(columns, self.builders, strict=True) if made is None]

    def _column(self, column: Column) -> "Builder | None":
        for place in column.places:
            path = [] if place == EVERYTHING else place.split(".")
            if not path or path[0] in self.root.fields:
                try:
                    return self._build(self.root, path, column.type, column.name)
                except _Slow:
                    return None
        return Absent(column.type, 0)

    def _build(
        self, node: Node | None, path: Sequence[str], kind: pa.DataType, name: str, level: int = 0
    ) -> "Builder":
        """What makes the value at `path` below the node, as the Arrow type `kind`."""
        if node is None:
            return Absent(kind, level)
        if node.kind in ("map", "union", "enum", "fixed"):
            raise _Slow
        if node.kind == "array":
            if not pa.types.is_large_list(kind) or node.items is None:
                raise _mismatch(name, "array", kind)
            items = self._build(node.items, path, kind.value_type, name, node.child)
            self.want(node)
            return List(kind, node, items)
        if path:
            if node.kind != "record":
                raise _mismatch(name, node.kind, kind)
            return self._build(node.fields.get(path[0]), path[1:], kind, name, node.level)
        if node.kind == "record":
            return self._struct(node, kind, name)
        self.want(node)
        return _leaf(node, kind, name)

    def _struct(self, node: Node, kind: pa.DataType, name: str) -> "Builder":
        if not pa.types.is_struct(kind):
            raise _mismatch(name, "record", kind)
        parts = [
            self._build(node.fields.get(f.name), [], f.type, f"{name}.{f.name}", node.level) for f in kind
        ]
        if node.op >= 0:
            self.want(node)
        return Struct(kind, node, parts)

    def _want(self, node: Node) -> None:
        """Give the node its columns, once, and set its strides in the program."""
        level, ops = self.levels[node.level], [node.op] if node.ends < 0 else [node.op, node.ends]
        if node.data < 0 and node.kind in WIDTHS:
            node.data = len(level.widths)
            level.widths.append(WIDTHS[node.kind])
            level.data += [(at, node.data) for at in ops]
            self.program[ops, op.STRIDE] = WIDTHS[node.kind]
        if node.truth < 0 and node.kind == "boolean":
            node.truth, level.bits = level.bits, level.bits + 1
            level.truth.append((node.op, node.truth))
            self.program[ops, op.STRIDE] = 1
        if node.valid < 0 and node.maybe:
            node.valid, level.bits = level.bits, level.bits + 1
            level.valid.append((node.op, node.valid))
            self.program[node.op, op.VALID_STRIDE] = 1


class _Slow(Exception):
    """The column needs a node that the walk only checks."""


class Builder:
    """Makes one Arrow array of a type from what the walk left."""

    def __init__(self, kind: pa.DataType) -> None:
        self.type = kind


class Absent(Builder):
    """Null for each row of a level: the writer schema has no such field."""

    def __init__(self, kind: pa.DataType, level: int) -> None:
        super().__init__(kind)
        self.level = level


class Leaf(Builder):
    """Values without parts. stored: the Arrow type of the memory that the walk filled."""

    def __init__(self, kind: pa.DataType, node: Node, stored: pa.DataType) -> None:
        super().__init__(kind)
        self.node, self.stored = node, stored


class List(Builder):
    """Arrays. A list for each row of the node's level, of the items of its child level."""

    def __init__(self, kind: pa.DataType, node: Node, items: Builder) -> None:
        super().__init__(kind)
        self.node, self.items = node, items


class Struct(Builder):
    """Whole records."""

    def __init__(self, kind: pa.DataType, node: Node, parts: Sequence[Builder]) -> None:
        super().__init__(kind)
        self.node, self.parts = node, parts


def _leaf(node: Node, kind: pa.DataType, name: str) -> Leaf:
    if kind == _TYPES[node.kind] or (node.kind == "long" and pa.types.is_timestamp(kind)):
        return Leaf(kind, node, kind)
    if kind in _CASTS.get(node.kind, ()):
        return Leaf(kind, node, _TYPES[node.kind])
    raise _mismatch(name, node.kind, kind)


def _mismatch(name: str, found: str, wanted: pa.DataType) -> UnsupportedSchema:
    return UnsupportedSchema(f"{name} is {found} in the writer schema, which cannot be read as {wanted}")
