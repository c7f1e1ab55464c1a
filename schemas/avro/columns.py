"""The memory that the walk fills, and what it becomes: Arrow arrays without copying numbers.

Each level has one arena: its value columns one after the other, `capacity` rows each. Validity is written a
byte a row, all of a level together, and packed to bits once.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.avro import walk as op
from schemas.avro.memory import ARENAS
from schemas.avro.plan import Absent, Builder, Leaf, List, Struct
from schemas.avro.program import WIDTHS, Node, Program
from schemas.errors import TooLarge

_ALIGN = 64  # Arrow's recommended alignment, bytes
_BOUNDLESS = 1 << 62  # rows of a level that has no columns
_MOST_BYTES = (1 << 31) - 1  # what Arrow's 32-bit string offsets can address


class Memory:
    """Memory for one run of a plan. capacities: rows of each level."""

    def __init__(self, plan: Program, capacities: list[int]) -> None:
        self.plan = plan
        self.program = plan.program.copy()
        self._scratch = np.zeros(2 * _ALIGN, np.uint8)  # values of unwanted columns are written here
        self.program[:, op.DATA] = self._scratch.ctypes.data
        self.program[:, op.VALID] = self._scratch.ctypes.data + _ALIGN
        self.capacity = np.full(len(capacities), _BOUNDLESS, np.uint64)
        self._arenas = [np.zeros(0, np.uint8)] * len(capacities)
        self._taken: list[np.ndarray] = []
        self._bits = [np.zeros((0, 0), np.uint8)] * len(capacities)
        for level, rows in enumerate(capacities):
            if plan.levels[level].widths or plan.levels[level].bits:
                self._allocate(level, rows)

    def _allocate(self, number: int, rows: int) -> None:
        """Zeroed memory for a level, and its columns' addresses in the program."""
        level, rows = self.plan.levels[number], -(-max(rows, 1) // _ALIGN) * _ALIGN
        self._arenas[number] = arena = ARENAS.take(int(level.starts[-1]) * rows)
        self._taken.append(bytes_of_bits := ARENAS.take(level.bits * rows))
        self._bits[number] = bits = bytes_of_bits.reshape(level.bits, rows)
        self.capacity[number] = rows
        for which, word, base, starts in (
            ("data", op.DATA, arena, level.starts),
            ("truth", op.DATA, bits, np.arange(level.bits)),
            ("valid", op.VALID, bits, np.arange(level.bits)),
        ):
            ops, columns = level.ops(which)
            self.program[ops, word] = base.ctypes.data + starts[columns] * rows
        runs, first = level.ops("runs")
        self.program[runs, op.DATA], self.program[runs, op.VALID] = self.program[
            first, [[op.DATA], [op.VALID]]
        ]
        self.program[runs, op.CHILD] = WIDTHS["float"] * rows  # to the next column

    def grow(self, level: int, need: int, filled: int) -> None:
        """Give a level memory for more rows and copy the rows that it has.

        Parameters
        ----------
        level
            Number of the level.
        need
            Rows needed. At least twice the present number is allocated.
        filled
            Rows that are filled now; they are kept.
        """
        arena, bits, rows = self._arenas[level], self._bits[level], int(self.capacity[level])
        self._allocate(level, max(need, 2 * rows))
        now = int(self.capacity[level])
        for place, width in enumerate(self.plan.levels[level].widths):
            start = int(self.plan.levels[level].starts[place])
            kept = arena[start * rows : start * rows + filled * width]
            self._arenas[level][start * now : start * now + len(kept)] = kept
        self._bits[level][:, :filled] = bits[:, :filled]

    def columns(self, rows: np.ndarray) -> "Columns":
        """What the walk left, with `rows` of each level filled."""
        return Columns(self, [int(n) for n in rows])

    def data(self, level: int, place: int, rows: int) -> tuple[int, int]:
        """Where a value column lies in the arena of its level: (offset, length), in bytes.

        Parameters
        ----------
        level
            Number of the level.
        place
            Number of the value column in the level.
        rows
            Rows that are filled.
        """
        start = int(self.plan.levels[level].starts[place]) * int(self.capacity[level])
        return start, rows * self.plan.levels[level].widths[place]

    def buffer(self, level: int) -> pa.Buffer:
        return pa.py_buffer(self._arenas[level])

    def packed(self, level: int, rows: int) -> tuple[pa.Buffer, int]:
        """The level's bit columns, and bytes from one to the next."""
        padded = -(-rows // _ALIGN) * _ALIGN
        packed = np.packbits(self._bits[level][:, :padded], axis=1, bitorder="little")
        return pa.py_buffer(packed), padded // 8


class Columns:
    """Arrow arrays from one run. Columns of one array share their offsets."""

    def __init__(self, memory: Memory, rows: list[int]) -> None:
        self._memory, self._rows = memory, rows
        self._made: dict[int, Any] = {}
        self._data = [memory.buffer(level) for level in range(len(rows))]
        self._bits = [memory.packed(level, n) for level, n in enumerate(rows)]

    def array(self, builder: Builder) -> pa.Array:
        """The column that the builder describes."""
        if isinstance(builder, Leaf):
            return self._leaf(builder)
        if isinstance(builder, List):
            node, rows = builder.node, self._rows[builder.node.level]
            buffers = [self._bit(node.level, node.valid), self._offsets(node)]
            return pa.Array.from_buffers(builder.type, rows, buffers, children=[self.array(builder.items)])
        if isinstance(builder, Struct):
            node, rows = builder.node, self._rows[builder.node.level]
            parts = [self.array(part) for part in builder.parts]
            return pa.Array.from_buffers(
                builder.type, rows, [self._bit(node.level, node.valid)], children=parts
            )
        assert isinstance(builder, Absent)
        return pa.nulls(self._rows[builder.level], builder.type)

    def unfit(self, builder: Builder) -> tuple[np.ndarray, str]:
        """Which rows of the builder's level have a value that does not fit its type, and words for it.

        A null fits everywhere, its memory being zero.
        """
        if isinstance(builder, Leaf):
            return self._unfit_leaf(builder)
        if isinstance(builder, List):
            bad, words = self.unfit(builder.items)
            if not words:
                return self._none_of(builder.node.level), ""
            before = np.concatenate([[0], np.cumsum(bad)])
            offsets = np.frombuffer(self._offsets(builder.node), np.int64)
            return np.diff(before[offsets]) > 0, words
        found = self._none_of(0 if isinstance(builder, Absent) else builder.node.level)  # type: ignore[attr-defined]
        words = ""
        for part in builder.parts if isinstance(builder, Struct) else ():
            bad, told = self.unfit(part)
            if told:
                found, words = found | bad, words or told
        return found, words

    def _unfit_leaf(self, builder: Leaf) -> tuple[np.ndarray, str]:
        if not builder.narrower:
            return self._none_of(builder.node.level), ""
        bad = ~fits(self._values(builder), builder.type)
        return bad, f"{builder.name} has a value that does not fit {builder.type}" if bad.any() else ""

    def _none_of(self, level: int) -> np.ndarray:
        return np.zeros(self._rows[level], bool)

    def numbers(self, node: Node) -> np.ndarray:
        """The values of an int (int32), or of a long, mark or length (int64), one a row."""
        start, size = self._memory.data(node.level, node.data, self._rows[node.level])
        kind = np.int32 if node.kind == "int" else np.int64
        return np.frombuffer(self._data[node.level].slice(start, size), kind)

    def _leaf(self, builder: Leaf) -> pa.Array:
        key = builder.node.op
        if key not in self._made:
            self._made[key] = self._values(builder)
        made = self._made[key]
        if made.type == builder.type:
            return made
        if pa.types.is_string(builder.type):  # with what is no text left out: its packet is refused
            made = pc.if_else(pa.array(fits(made, builder.type)), made, pa.scalar(None, made.type))
        return made.cast(builder.type, safe=False)

    def _values(self, builder: Leaf) -> pa.Array:
        node, rows = builder.node, self._rows[builder.node.level]
        valid = self._bit(node.level, node.valid)
        if node.kind == "boolean":
            return pa.Array.from_buffers(builder.stored, rows, [valid, self._bit(node.level, node.truth)])
        start, size = self._memory.data(node.level, node.data, rows)
        data = self._data[node.level].slice(start, size)
        if node.kind in ("string", "bytes"):
            return pa.Array.from_buffers(builder.stored, rows, [valid, *_gathered(data, rows, node.kind)])
        return pa.Array.from_buffers(builder.stored, rows, [valid, data])

    def _bit(self, level: int, place: int) -> pa.Buffer | None:
        if place < 0:
            return None
        buffer, size = self._bits[level]
        return buffer.slice(place * size, size)

    def _offsets(self, node: Node) -> pa.Buffer:
        """Where each row's items begin."""
        if node.op not in self._made:
            offsets = np.zeros(self._rows[node.level] + 1, np.int64)
            np.cumsum(self.numbers(node), out=offsets[1:])
            self._made[node.op] = pa.py_buffer(offsets)
        return self._made[node.op]


def fits(values: pa.Array, kind: pa.DataType) -> np.ndarray:
    """Which values have a place in a narrower type: (n,) bool. Nulls and what is not finite have."""
    if pa.types.is_integer(kind):
        low, high = (np.iinfo(kind.to_pandas_dtype()).min, np.iinfo(kind.to_pandas_dtype()).max)
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    elif pa.types.is_floating(kind):
        most = pa.scalar(float(np.finfo(np.float32).max), pa.float64())
        inside = pc.or_(pc.invert(pc.is_finite(values)), pc.less_equal(pc.abs(values), most))
    else:
        return np.array([_is_text(value) for value in values.to_pylist()], bool)
    return np.asarray(pc.fill_null(inside, True).to_numpy(zero_copy_only=False), bool)


def _is_text(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _gathered(notes: pa.Buffer, rows: int, kind: str) -> tuple[pa.Buffer, pa.Buffer]:
    """Offsets and bytes of strings noted as (address, length)."""
    width = 4 if kind == "string" else 8
    offsets = ARENAS.take((rows + 1) * width, zeroed=False)
    total = int(op.string_offsets(np.uint64(notes.address), np.uint64(rows), offsets, np.uint64(width)))
    if width == 4 and total > _MOST_BYTES:
        raise TooLarge(f"a column of strings has {total:,} bytes", hint="read fewer packets at once")
    data = ARENAS.take(total, zeroed=False)
    op.gather(np.uint64(notes.address), np.uint64(rows), data)
    return pa.py_buffer(offsets), pa.py_buffer(data)
