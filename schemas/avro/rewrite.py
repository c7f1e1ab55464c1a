"""Packets without some fields, or without what is not public: cut out of the bytes.

The compiled walk notes where the pieces to cut begin and end (`MARK`), so all that is kept has the same bytes
as before; only the counts of the histories are encoded again.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.avro import walk as op
from schemas.avro.batches import Group, Walked
from schemas.avro.columns import Columns
from schemas.avro.framing import (
    MAGIC,
    SYNC,
    Block,
    Buffer,
    SchemaSource,
    container,
    container_head,
    frame,
    write_long,
)
from schemas.avro.program import Compiler, Node, Program
from schemas.avro.public import check_reduced, unlisted
from schemas.avro.reduce import only, reduced
from schemas.avro.writer import WriterSchema
from schemas.errors import NoSuchColumn, NotPublic, UnsupportedSchema
from schemas.surveys.registry import SURVEYS, survey_named
from schemas.surveys.survey import Public

Cut = tuple[int, int, bytes]
"""First byte, byte after the last, what comes instead."""


def rewrite(
    raw: bytes,
    *,
    drop: Sequence[str] = (),
    keep: Sequence[str] | None = None,
    public_only: bool = False,
    schemas: SchemaSource | None = None,
    bare: Mapping[str, Any] | None = None,
) -> bytes:
    """Cut fields out of a packet, or what is not public; the rest keeps its bytes.

    With fields dropped, the packet becomes a container file (null codec) with a reduced schema. Otherwise it
    keeps its framing, but a compressed container becomes an uncompressed one. A packet from which nothing is
    cut is returned unchanged, so the operation is idempotent.

    Parameters
    ----------
    raw
        The packet.
    drop
        Fields to drop: "cutoutScience", "candidate.rb" or "rb", "prv_candidates.magpsf". A name that this
        packet's schema does not have is ignored, because versions differ; `check_names` finds misspelt names.
    keep
        Drop all fields but these; None keeps all.
    public_only
        Also drop the fields that the survey does not list as public, and the history rows that it does not
        call public (ZTF: whose programid is not 1).
    schemas
        Where the schema of a packet with Confluent framing is looked up.
    bare
        The schema of packets without any framing.

    Raises
    ------
    NotPublic
        With `public_only`, when the alert itself is not public.
    UnsupportedSchema
        When nothing would be left, or a field cannot be cut because other fields share its type.
    PacketError
        When the packet cannot be read.
    """
    framed = frame(raw, schemas, bare)
    cutter = _cutter(framed.writer, tuple(drop), None if keep is None else tuple(keep), public_only)
    if not cutter.drop and not cutter.public:
        return raw
    blocks = [cutter.block(block) for block in framed.blocks]
    if not cutter.drop and all(new is old for new, old in zip(blocks, framed.blocks, strict=True)):
        return raw
    if not cutter.drop and not raw.startswith(MAGIC):  # the schema is the same, so the Confluent id holds
        return raw[: len(raw) - len(framed.blocks[0].body)] + bytes(blocks[0].body)
    if raw.startswith(MAGIC):
        return container(cutter.head, blocks, raw[-SYNC:])
    kept = b"".join(bytes(block.body) for block in blocks)  # not the stamps that were cut: they are long
    return container(cutter.head, blocks, hashlib.blake2b(kept, digest_size=SYNC).digest())


def check_names(names: Sequence[str], survey: str = "ztf") -> None:
    """Raises NoSuchColumn for a name that the newest version of the survey's packets does not have."""
    of = survey_named(survey)
    for name in names:
        of.path(name)


@lru_cache(maxsize=64)
def _cutter(
    writer: WriterSchema, drop: tuple[str, ...], keep: tuple[str, ...] | None, public: bool
) -> "_Cutter":
    paths = {path for name in drop if (path := _path(writer, name)) is not None}
    if keep is not None:
        paths |= only(writer.tree, {path for name in keep if (path := _path(writer, name)) is not None})
    if public:
        paths |= unlisted(writer)
    outermost = {path for path in paths if not any(path.startswith(f"{other}.") for other in paths)}
    return _Cutter(writer, frozenset(outermost), public)


def _path(writer: WriterSchema, name: str) -> str | None:
    """Where the field is in packets of this schema, or None if they have none."""
    root = Program(writer).root
    if _at(root, name):
        return name
    try:
        path = SURVEYS[writer.survey].path(name)
    except (KeyError, NoSuchColumn):
        return None
    return path if _at(root, path) else None


def _at(node: Node | None, path: str) -> Node | None:
    """The node at a dotted path; what is in arrays goes by the array's path."""
    for name in path.split("."):
        while node is not None and node.kind == "array":
            node = node.items
        node = node.fields.get(name) if node is not None else None
    return node


class _Marker(Compiler):
    """Adds an op that notes the position before and after what may be cut: fields, arrays, their items."""

    def __init__(self, fields: frozenset[str], arrays: frozenset[str]) -> None:
        super().__init__()
        self.fields, self.arrays = fields, arrays
        self.spans: dict[str, tuple[Node, Node]] = {}

    def node(self, tree: Any, level: int, path: str, maybe: bool) -> Node:
        if path.endswith("[]"):
            marked = path[:-2] in self.arrays
        else:
            path_of_field = path.replace("[]", "")
            marked = path_of_field in self.fields or path in self.arrays
        if not marked:
            return super().node(tree, level, path, maybe)
        begin = self._mark(level, path)
        node = super().node(tree, level, path, maybe)
        self.spans[path if path.endswith("[]") else path_of_field] = begin, self._mark(level, path)
        return node

    def _mark(self, level: int, path: str) -> Node:
        return Node("mark", level, self.emit(op.MARK, level, path), False)


class _Cutter:
    """Cuts the packets of one writer schema.

    drop: paths of the fields to cut. public: whether rows must go. head: with what is left of the schema.
    """

    def __init__(self, writer: WriterSchema, drop: frozenset[str], public: bool) -> None:
        self.rule = _rule(writer) if public else Public()
        self.drop, self.public = drop, not self.rule.everything
        schema = reduced(writer.schema, drop) if drop else writer.schema
        if drop:
            check_reduced(writer, schema, drop)
        self.head = container_head(schema)
        self._survey = SURVEYS.get(writer.survey)
        self._histories = self.rule.rows
        holders = {array for path in drop for array in _arrays_around(Program(writer).root, path)}
        arrays = frozenset(name for name in {*self._histories, *holders} if name not in drop)
        marker = _Marker(drop, arrays)
        self.program = Program(writer, marker)
        self._spans = marker.spans
        self._arrays = {path: self._array_node(path) for path in sorted(arrays)}
        for mark in [mark for span in self._spans.values() for mark in span]:
            self.program.want(mark)
        self._programs = {path: self._program_node(_at(self.program.root, path)) for path in self._histories}
        candidate = self._survey.candidate if self._survey else ""
        self._own = self._program_node(self.program.root.fields.get(candidate)) if self.public else None
        self.program.finish()

    def _array_node(self, path: str) -> Node | None:
        node = _at(self.program.root, path)
        if node is not None and (node.kind != "array" or node.level != 0):
            raise UnsupportedSchema(
                f"{path} is no plain array of the writer schema, so nothing can be cut from it"
            )
        if node is not None:
            self.program.want(node)
        return node

    def _program_node(self, node: Node | None) -> Node | None:
        """The field that says whose data it is, of a record or an array's items, if it is a number there."""
        node = node.items if node is not None and node.kind == "array" else node
        found = node.fields.get(self.rule.field or "") if node is not None else None
        if found is None or found.kind not in ("int", "long"):
            return None
        self.program.want(found)
        return found

    def block(self, block: Block) -> Block:
        """The block with everything cut; the same object when there is nothing to cut. Raises PacketError."""
        group = Group()
        group.add(0, [block])
        messages = group.messages()
        walked = Walked(self.program, messages)
        if walked.refused:
            raise walked.refused[0][1]
        if self.public:
            self._check_public(walked.columns, block.records)
        begin = int(messages[0, 0])
        cuts = sorted(self._cuts(walked.columns, begin, block.body))
        return Block(block.records, _without(block.body, 0, len(block.body), cuts)) if cuts else block

    def _check_public(self, columns: Columns, records: int) -> None:
        of_the_alert = self._own if self._own and self._own.level == 0 else None
        own = columns.numbers(of_the_alert) if of_the_alert else np.zeros(records)
        wanted = self.rule.value
        if (own != wanted).any():
            raise NotPublic(f"the alert's {self.rule.field} is {own[own != wanted][0]}, not {wanted}")

    def _cuts(self, columns: Columns, begin: int, body: Buffer) -> Iterator[Cut]:
        for path in self.drop:
            if not any(path.startswith(f"{array}.") for array in self._arrays):
                yield from _spans(columns, self._spans[path], begin)
        for path, node in self._arrays.items():
            if node is not None:
                yield from self._array_cuts(columns, path, node, begin, body)

    def _array_cuts(self, columns: Columns, path: str, node: Node, begin: int, body: Buffer) -> Iterator[Cut]:
        """Arrays that lose rows, or fields of their rows, written as one block of what is left."""
        inner = [self._spans[field] for field in self.drop if field.startswith(f"{path}.")]
        fields = sorted(cut for span in inner for cut in _spans(columns, span, begin))
        items = [cut[:2] for cut in _spans(columns, self._spans[f"{path}[]"], begin)]
        public = self._public_rows(columns, path, len(items))
        starts, ends = (columns.numbers(mark) - begin for mark in self._spans[path])
        first = 0
        for row, count in enumerate(columns.numbers(node).tolist()):
            kept = [items[i] for i in range(first, first + count) if public[i]]
            first += count
            if len(kept) < count or (fields and count):
                start, end = int(starts[row]), int(ends[row])
                head = bytes(body[start : start + 1]) if self.program.program[node.op, op.UNION] else b""
                rows = [_without(body, *item, fields) for item in kept]
                yield start, end, b"".join([head, *([write_long(len(rows)), *rows] if rows else []), b"\0"])

    def _public_rows(self, columns: Columns, path: str, rows: int) -> np.ndarray:
        if path not in self._histories:
            return np.ones(rows, bool)
        program = self._programs[path]
        return columns.numbers(program) == self.rule.value if program else np.zeros(rows, bool)


def _rule(writer: WriterSchema) -> Public:
    """What is public in packets of this schema. Raises UnsupportedSchema for a survey not known."""
    if writer.survey not in SURVEYS:
        raise UnsupportedSchema(f"what is public in packets of survey {writer.survey!r} is not known")
    return SURVEYS[writer.survey].public


def _arrays_around(root: Node, path: str) -> Iterator[str]:
    """The paths of the arrays that a field is in."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        around = ".".join(parts[:count])
        node = _at(root, around)
        if node is not None and node.kind == "array":
            yield around


def _spans(columns: Columns, span: tuple[Node, Node], begin: int) -> Iterator[Cut]:
    """From mark to mark, on each row that the walk has visited (not inside a null record)."""
    starts, ends = (columns.numbers(mark) for mark in span)
    there = np.flatnonzero(starts)
    for start, end in zip((starts[there] - begin).tolist(), (ends[there] - begin).tolist(), strict=True):
        yield start, end, b""


def _without(body: Buffer, start: int, end: int, cuts: Sequence[Cut]) -> bytes:
    """body[start:end] with the cuts that lie in it made; they are sorted and do not overlap."""
    view, at = memoryview(body), start
    parts: list[Buffer] = []
    for first, last, instead in cuts:
        if first >= start and last <= end:
            parts += [view[at:first], instead]
            at = last
    return b"".join([*parts, view[at:end]])
