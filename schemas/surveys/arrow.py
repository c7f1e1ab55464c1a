"""Avro schemas -> Arrow types, and what is at a dotted path of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

EVERYTHING = "*"
"""The column that is the whole record."""

_ARROW = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.large_binary(),  # stamps: a few batches of them pass the 2 GB that binary can hold
    "enum": pa.string(),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
}


class Column(NamedTuple):
    """A column asked for: its name, the dotted paths where its values may be (best first), its Arrow type."""

    name: str
    places: tuple[str, ...]
    type: pa.DataType


def walk_type(kind: pa.DataType, path: str) -> pa.DataType:
    """The type of what is at a dotted path of a record; a list for what is in an array. Raises KeyError."""
    if not path:
        return kind
    if pa.types.is_large_list(kind):
        return pa.large_list(walk_type(kind.value_type, path))
    head, _, rest = path.partition(".")
    if not pa.types.is_struct(kind) or kind.get_field_index(head) < 0:
        raise KeyError(path)
    return walk_type(kind.field(head).type, rest)


def arrow_type(schema: Any, named: dict[str, pa.DataType] | None = None) -> pa.DataType:
    """The Arrow type of an Avro schema whose named types come before their uses; everything may be null.

    Raises KeyError for a type that it does not know and ValueError for a union of several types.
    """
    named = {} if named is None else named
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch not in ("null", {"type": "null"})]
        if len(branches) > 1:
            raise ValueError(f"a union of several types has no Arrow type: {branches}")
        return arrow_type(branches[0], named) if branches else pa.null()
    if isinstance(schema, str):
        return named[schema] if schema in named else _ARROW[schema]
    kind = schema["type"]
    if kind == "record":
        made = pa.struct([pa.field(f["name"], arrow_type(f["type"], named)) for f in schema["fields"]])
    elif kind == "array":
        return pa.large_list(arrow_type(schema["items"], named))
    elif kind == "map":
        return pa.map_(pa.string(), arrow_type(schema["values"], named))
    elif kind == "fixed":
        made = pa.binary(schema["size"])
    elif isinstance(kind, dict | list):
        return arrow_type(kind, named)
    else:
        made = _ARROW.get(schema.get("logicalType", "")) or arrow_type(kind, named)
    if "name" in schema:
        own = schema.get("namespace")
        named |= {schema["name"]: made, f"{own}.{schema['name']}" if own else schema["name"]: made}
    return made


def field_names(kind: Any) -> set[str]:
    """The fields of an Avro record, or of the record in a union; none of anything else."""
    if isinstance(kind, list):
        return set().union(*map(field_names, kind))
    if not isinstance(kind, Mapping):
        return set()
    return {str(f.get("name")) for f in kind.get("fields") or () if isinstance(f, Mapping)}


def field_types(schema: Any) -> dict[str, Any]:
    """Name -> type of the fields of an Avro record; empty for anything else."""
    if not isinstance(schema, Mapping):
        return {}
    return {str(f.get("name")): f.get("type") for f in schema.get("fields") or () if isinstance(f, Mapping)}


def root_name(schema: Mapping[str, Any]) -> str:
    """The first part of a record's full name: "ztf" of "ztf.alert"."""
    return f"{schema.get('namespace') or ''}.{schema.get('name', '')}".strip(".").partition(".")[0]
