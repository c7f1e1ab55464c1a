"""A writer schema -> the program that `walk` runs, and the columns that its values go to.

A nullable union is a prefix of the op of its value, whatever that is. Most of an alert is nullable floats one
after the other: those whose columns are evenly spaced in memory are joined to a RUN, which costs half.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from schemas.avro import walk as op
from schemas.avro.writer import WriterSchema, smallest

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

WIDTHS = {"int": 4, "float": 4, "long": 8, "double": 8, "string": 16, "bytes": 16, "array": 8, "mark": 8}
"""Bytes a row in the value column; strings are noted as (address, length), arrays as their length."""

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
    runs: (RUN, first op of the run).
    """

    widths: list[int] = field(default_factory=list)
    bits: int = 0
    data: list[tuple[int, int]] = field(default_factory=list)
    truth: list[tuple[int, int]] = field(default_factory=list)
    valid: list[tuple[int, int]] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each value column starts in memory for one row of each: int64, then their sum."""
        return np.cumsum([0, *self.widths])

    def ops(self, which: str) -> tuple[np.ndarray, np.ndarray]:
        """(ops, columns), int64, of "data", "truth" or "valid"; of "runs" (RUNs, first ops)."""
        pairs = np.array(getattr(self, which), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


class Compiler:
    """Writes the program of a schema. Paths of array items end in "[]": "prv_candidates[].jd"."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.paths: list[str] = []
        self.levels = 1

    def emit(self, kind: int, level: int, path: str, **words: int) -> int:
        """Append one op to the program and return its row.

        Parameters
        ----------
        kind
            What the op reads: BOOLEAN, RECORD, ARRAY, … of `walk`.
        level
            Number of the level whose row counter it uses.
        path
            Dotted path of the field, for error messages.
        words
            Other words of the op by name (`SIZE=3`); 0 where not given, but `NULL` (no null) and `JUMP` (the
            next op).
        """
        row = [0] * op.WORDS
        row[op.KIND], row[op.LEVEL], row[op.NULL] = kind, level, NO_NULL
        row[op.JUMP] = len(self.rows) + 1
        for word, value in words.items():
            row[getattr(op, word)] = value
        self.rows.append(row)
        self.paths.append(path.replace("[]", ""))
        return len(self.rows) - 1

    def node(self, tree: Any, level: int, path: str, maybe: bool) -> Node:
        """Append the ops of a schema and return its node.

        Parameters
        ----------
        tree
            The resolved schema of a field: a dictionary, or a list for a union.
        level
            Number of the level that the field is in.
        path
            Dotted path of the field, with "[]" after arrays.
        maybe
            Whether a record around it may be null.
        """
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
        if kind == "null":  # takes no bytes
            return Node(kind, level, -1, True)
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
        self._wanted: dict[int, Node] = {}
        # Of each level, the most rows seen for each record: how much memory to take at first.
        self.items = [0.0] * compiler.levels

    def want(self, node: Node) -> None:
        """Have the walk keep the node's values; then `finish`."""
        self._wanted[node.op] = node

    def finish(self) -> None:
        """Give the wanted nodes their columns, in the program's order, and join nullable floats to runs."""
        for node in [self._wanted[at] for at in sorted(self._wanted)]:
            self._assign(node, self.levels[node.level])
        places = self._join_runs()
        for node in self._wanted.values():
            node.op, node.ends = int(places[node.op]), int(places[node.ends]) if node.ends >= 0 else -1
        for level in self.levels:
            for ops in (level.data, level.truth, level.valid):
                ops[:] = [(int(places[at]), column) for at, column in ops]

    def _assign(self, node: Node, level: Level) -> None:
        """Number the node's columns and set its strides in the program."""
        ops = [node.op] if node.ends < 0 else [node.op, node.ends]
        if node.kind in WIDTHS:
            node.data = len(level.widths)
            level.widths.append(WIDTHS[node.kind])
            level.data += [(at, node.data) for at in ops]
            self.program[ops, op.STRIDE] = WIDTHS[node.kind]
        if node.kind == "boolean":
            node.truth, level.bits = level.bits, level.bits + 1
            level.truth.append((node.op, node.truth))
            self.program[ops, op.STRIDE] = 1
        if node.maybe:
            node.valid, level.bits = level.bits, level.bits + 1
            level.valid.append((node.op, node.valid))
            self.program[node.op, op.VALID_STRIDE] = 1

    def _join_runs(self) -> np.ndarray:
        """Put a RUN before each run of nullable floats; returns the new place of each op."""
        runs = _runs(self.program)
        added = np.zeros(len(self.program) + 1, np.int64)
        added[[first for first, _ in runs]] = 1
        places = np.arange(len(added)) + np.cumsum(added)
        jumps = places - added  # what jumps to the first of a run is sent to its RUN
        program = np.zeros((len(self.program) + len(runs), op.WORDS), np.uint64)
        program[places[:-1]] = self.program
        program[places[:-1], op.JUMP] = jumps[self.program[:, op.JUMP].astype(np.int64)]
        paths = [""] * len(program)
        for at, path in enumerate(self.paths):
            paths[places[at]] = path
        for first, last in runs:
            at = jumps[first]
            program[at] = self.program[first]
            program[at, [op.KIND, op.UNION, op.SIZE, op.JUMP]] = op.RUN, 0, last - first, jumps[last]
            if self.program[first, op.STRIDE]:
                self.levels[int(self.program[first, op.LEVEL])].runs.append((int(at), int(places[first])))
        self.program, self.paths = program, paths
        return places


_SHORTEST_RUN = 3
_LIKE = [op.KIND, op.UNION, op.VALUE, op.NULL, op.LEVEL, op.STRIDE, op.VALID_STRIDE]


def _runs(program: np.ndarray) -> list[tuple[int, int]]:
    """(first op, op after the last) of nullable floats in a row that all are wanted, or none of them."""
    joins = (program[:, op.KIND] == op.FLOAT) & (program[:, op.UNION] == 1)
    runs: list[tuple[int, int]] = []
    first = 0
    while first < len(program):
        last = first + 1
        while joins[first] and last < len(program) and (program[last, _LIKE] == program[first, _LIKE]).all():
            last += 1
        if joins[first] and last - first >= _SHORTEST_RUN:
            runs.append((first, last))
        first = last
    return runs
