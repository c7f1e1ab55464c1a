"""Wanted columns -> what the walk must keep, and the builders of the Arrow columns.

Maps, enums, fixed and unions of many types are walked (so that everything behind them is found, and nothing
corrupt passes) but have no columns of their own: `Plan.slow` lists the columns that need them, which fastavro
then decodes from the checked bodies.
"""

from collections.abc import Sequence

import pyarrow as pa

from schemas.avro.program import Node, Program
from schemas.avro.writer import WriterSchema
from schemas.errors import UnsupportedSchema
from schemas.surveys.arrow import EVERYTHING, Column

_TYPES = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.large_binary(),
}

_CASTS = {
    "int": {pa.int64(), pa.float32(), pa.float64()},
    "long": {pa.int32(), pa.float32(), pa.float64()},
    "float": {pa.float64()},
    "double": {pa.float32()},
    "string": {pa.large_binary()},
    "bytes": {pa.string()},
}
"""Arrow types that a writer's type may become: Avro's promotions (specification, Schema Resolution) and back,
for a rewriter may have widened a type."""

_NARROWER = {("long", pa.int32()), ("double", pa.float32()), ("bytes", pa.string())}
"""Of these, those where some values do not fit: only the packets with such values are refused."""


class Plan(Program):
    """How to get some columns out of packets of one writer schema. Raises UnsupportedSchema.

    builders: for each column what makes it, or None where fastavro must (see `slow`). narrower: some of them
    may meet values that do not fit.
    """

    def __init__(self, writer: WriterSchema, columns: Sequence[Column]) -> None:
        super().__init__(writer)
        self.builders: list[Builder | None] = [self._column(column) for column in columns]
        self.narrower = any(map(_narrows, self.builders))
        self.slow = [column for column, made in zip(columns, self.builders, strict=True) if made is None]
        self.finish()

    def _column(self, column: Column) -> "Builder | None":
        paths = [[] if place == EVERYTHING else place.split(".") for place in column.places]
        whole = (path for path in paths if _is_there(self.root, path))
        begun = (path for path in paths if path and path[0] in self.root.fields)
        path = next(whole, None) or next(begun, None)
        if path is None and EVERYTHING not in column.places:
            return Absent(column.type, 0)
        try:
            return self._build(self.root, path or [], column.type, column.name)
        except _Slow:
            return None

    def _build(
        self, node: Node | None, path: Sequence[str], kind: pa.DataType, name: str, level: int = 0
    ) -> "Builder":
        """What makes the value at `path` below the node, as the Arrow type `kind`."""
        if node is None or _is_nothing(node, kind):
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


def _is_there(node: Node | None, path: Sequence[str]) -> bool:
    """Whether the writer schema has something at the path; what is in arrays goes by the array's path."""
    for name in path:
        while node is not None and node.kind == "array":
            node = node.items
        if node is None:
            return False
        if node.kind in ("map", "union"):  # only fastavro can read what is inside
            return True
        node = node.fields.get(name)
    return node is not None


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
    """Values without parts.

    Parameters
    ----------
    kind
        Arrow type of the column.
    node
        Where the walk leaves the values.
    stored
        Arrow type of the memory that the walk filled; some of its values may not fit `kind` (`narrower`).
    name
        Name of the column, for error messages.
    """

    def __init__(self, kind: pa.DataType, node: Node, stored: pa.DataType, name: str) -> None:
        super().__init__(kind)
        self.node, self.stored, self.name = node, stored, name
        self.narrower = (node.kind, kind) in _NARROWER


class List(Builder):
    """Arrays: a list for each row of the node's level, of the items of its child level.

    Parameters
    ----------
    kind
        Arrow type of the column.
    node
        Where the walk leaves the lengths.
    items
        Builds the items.
    """

    def __init__(self, kind: pa.DataType, node: Node, items: Builder) -> None:
        super().__init__(kind)
        self.node, self.items = node, items


class Struct(Builder):
    """Whole records.

    Parameters
    ----------
    kind
        Arrow type of the column.
    node
        Where the walk leaves which records are null.
    parts
        Builds each field.
    """

    def __init__(self, kind: pa.DataType, node: Node, parts: Sequence[Builder]) -> None:
        super().__init__(kind)
        self.node, self.parts = node, parts


def _narrows(builder: Builder | None) -> bool:
    if isinstance(builder, Leaf):
        return builder.narrower
    if isinstance(builder, List):
        return _narrows(builder.items)
    return isinstance(builder, Struct) and any(map(_narrows, builder.parts))


def _is_nothing(node: Node, kind: pa.DataType) -> bool:
    """Whether the node holds no value: a plain null, or an empty record where a value is wanted."""
    return node.kind == "null" or (node.kind == "record" and not node.fields and not pa.types.is_struct(kind))


def _leaf(node: Node, kind: pa.DataType, name: str) -> Leaf:
    if kind == _TYPES[node.kind] or (node.kind == "long" and pa.types.is_timestamp(kind)):
        return Leaf(kind, node, kind, name)
    if kind in _CASTS.get(node.kind, ()):
        return Leaf(kind, node, _TYPES[node.kind], name)
    raise _mismatch(name, node.kind, kind)


def _mismatch(name: str, found: str, wanted: pa.DataType) -> UnsupportedSchema:
    return UnsupportedSchema(f"{name} is {found} in the writer schema, which cannot be read as {wanted}")
