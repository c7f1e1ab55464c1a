"""The schema that a packet was written with, made safe to use.

Packets bring their own schemas, so they are input like any other: depth and size are bounded, recursion (no
alert needs it, and decoders recurse with it) is refused, and so are items without bytes (null, or an empty
record), of which an array could announce 2^60. What is merely illegal in real packets is repaired: defaults
are left out (a survey gives a plain int the default null), and a field name used twice gets a suffix.
"""

import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException

from schemas.errors import UnsupportedSchema
from schemas.surveys.registry import survey_of

MAX_SCHEMA_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_NODES = 20_000

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")

SMALLEST = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
"""Bytes that a value takes at least (Avro specification, Binary encoding)."""

TIMES = ("timestamp-millis", "timestamp-micros")
"""Logical types that keep their meaning; values of all others stay as they are stored."""


class WriterSchema:
    """A writer schema, resolved: each use of a named type is replaced by its full definition.

    schema: as received. tree: resolved and repaired. survey: whose packets these are, or "unknown".
    """

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.tree = _Resolver().resolve(schema, "", 0)
        if isinstance(self.tree, list) or self.tree["type"] != "record":
            raise UnsupportedSchema("the writer schema is no record")
        self.survey = survey_of(schema)

    @cached_property
    def parsed(self) -> Any:
        """For fastavro. Raises UnsupportedSchema."""
        try:
            return fastavro.parse_schema(_renamed(self.tree, [0]))
        except (SchemaParseException, ValueError, TypeError, KeyError) as error:
            raise UnsupportedSchema(f"the writer schema is not Avro: {error}") from error


@lru_cache(maxsize=64)
def _interned(canonical: str) -> WriterSchema:
    return WriterSchema(json.loads(canonical))


def writer_schema(schema: str | bytes | Mapping[str, Any]) -> WriterSchema:
    """The writer schema of this JSON text (or parsed JSON); equal schemas give the same object.

    Raises UnsupportedSchema when it is not JSON, not Avro, or too deep, too large or recursive.
    """
    if isinstance(schema, str | bytes):
        if len(schema) > MAX_SCHEMA_BYTES:
            raise UnsupportedSchema(
                f"the writer schema has {len(schema):,} bytes, more than {MAX_SCHEMA_BYTES:,}"
            )
        return _of_text(schema)
    return _of_json(schema)


@lru_cache(maxsize=64)
def _of_text(text: str | bytes) -> WriterSchema:
    try:
        return _of_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise UnsupportedSchema(f"the writer schema is not JSON: {error}") from error


def _of_json(schema: Any) -> WriterSchema:
    if not isinstance(schema, dict):
        raise UnsupportedSchema(f"the writer schema is no record but {str(schema)[:40]!r}")
    try:
        return _interned(json.dumps(schema))
    except RecursionError as error:
        raise UnsupportedSchema("the writer schema is nested too deep") from error


def smallest(tree: Any) -> int:
    """Bytes that a value of a resolved schema takes at least."""
    if isinstance(tree, list):
        return 1 + min(map(smallest, tree), default=0)
    kind = tree["type"]
    if kind == "record":
        return sum(smallest(field["type"]) for field in tree["fields"])
    return int(tree["size"]) if kind == "fixed" else SMALLEST.get(kind, 1)


class _Resolver:
    """Replaces named types by their definitions, checks them, and drops what decoding does not need."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self.open: set[str] = set()
        self.nodes = 0

    def resolve(self, schema: Any, namespace: str, depth: int) -> Any:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise UnsupportedSchema("the writer schema is larger or deeper than any alert's")
        if isinstance(schema, list):
            branches = [self.resolve(branch, namespace, depth + 1) for branch in schema]
            if not branches or any(isinstance(branch, list) for branch in branches):
                raise UnsupportedSchema("the writer schema has a union that is empty or holds a union")
            return branches
        if isinstance(schema, str):
            return {"type": schema} if schema in PRIMITIVES else self._known(schema, namespace, depth)
        if not isinstance(schema, dict) or "type" not in schema:
            raise UnsupportedSchema(f"the writer schema has a type that is none: {str(schema)[:60]!r}")
        return self._resolve_object(schema, namespace, depth)

    def _resolve_object(self, schema: dict[str, Any], namespace: str, depth: int) -> Any:
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return self.resolve(kind, namespace, depth + 1)
        if kind in ("record", "error"):
            return self._record(schema, namespace, depth)
        if kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            return {"type": kind, inner: self._with_bytes(schema.get(inner), namespace, depth)}
        if kind in ("fixed", "enum"):
            return self._leaf(schema, namespace)
        if kind not in PRIMITIVES:
            return self._known(kind, namespace, depth)
        logical = schema.get("logicalType")
        return (
            {"type": kind, "logicalType": logical} if kind == "long" and logical in TIMES else {"type": kind}
        )

    def _record(self, schema: dict[str, Any], namespace: str, depth: int) -> Any:
        name, inner = _full_name(schema, namespace)
        fields = schema.get("fields")
        if not isinstance(fields, list) or not all(
            isinstance(f, dict) and isinstance(f.get("name"), str) for f in fields
        ):
            raise UnsupportedSchema(f"the record {name!r} of the writer schema has no fields")
        self.open.add(name)
        seen: dict[str, int] = {}
        resolved = []
        for field in fields:
            count = seen[field["name"]] = seen.get(field["name"], 0) + 1
            suffix = f"_{count}" if count > 1 else ""
            kind = self.resolve(field.get("type"), inner, depth + 1)
            resolved.append({"name": field["name"] + suffix, "type": kind})
        self.open.discard(name)
        self.named[name] = record = {"type": "record", "name": name, "fields": resolved}
        return record

    def _with_bytes(self, schema: Any, namespace: str, depth: int) -> Any:
        """Resolve the items of an array or map, which must take at least a byte each: else a few bytes could
        stand for any number of them."""
        tree = self.resolve(schema, namespace, depth + 1)
        if smallest(tree) == 0:
            raise UnsupportedSchema("the writer schema has items without bytes (null, or an empty record)")
        return tree

    def _leaf(self, schema: dict[str, Any], namespace: str) -> Any:
        name, _ = _full_name(schema, namespace)
        size, symbols = schema.get("size"), schema.get("symbols")
        if schema["type"] == "fixed" and not (isinstance(size, int) and 0 <= size <= MAX_SCHEMA_BYTES):
            raise UnsupportedSchema(f"the fixed {name!r} of the writer schema has no size")
        if schema["type"] == "enum" and not (
            isinstance(symbols, list) and all(isinstance(s, str) for s in symbols)
        ):
            raise UnsupportedSchema(f"the enum {name!r} of the writer schema has no symbols")
        kept = {"size": size} if schema["type"] == "fixed" else {"symbols": symbols}
        self.named[name] = leaf = {"type": schema["type"], "name": name, **kept}
        return leaf

    def _known(self, name: Any, namespace: str, depth: int) -> Any:
        for full in (name, f"{namespace}.{name}"):
            if full in self.open:
                raise UnsupportedSchema(f"the writer schema is recursive: {full!r} holds itself")
            if full in self.named:
                self.nodes += _size(self.named[full])
                if self.nodes > MAX_NODES or depth > MAX_DEPTH:
                    raise UnsupportedSchema("the writer schema is larger than any alert's")
                return self.named[full]
        raise UnsupportedSchema(f"the writer schema does not say what {str(name)[:60]!r} is")


def _full_name(schema: dict[str, Any], namespace: str) -> tuple[str, str]:
    """Full name and the namespace for what is inside (Avro specification, Names)."""
    name = schema.get("name")
    if not isinstance(name, str) or not name:
        raise UnsupportedSchema(f"the writer schema has a {schema['type']} without a name")
    if "." in name:
        return name, name.rpartition(".")[0]
    own = schema.get("namespace", namespace)
    return (f"{own}.{name}" if own else name), str(own or "")


def _size(tree: Any) -> int:
    """How many nodes a resolved schema has."""
    if isinstance(tree, list):
        return 1 + sum(map(_size, tree))
    inner = [f["type"] for f in tree.get("fields", ())] + [tree[k] for k in ("items", "values") if k in tree]
    return 1 + sum(map(_size, inner))


def _renamed(tree: Any, count: list[int]) -> Any:
    """A resolved schema with a new name for each named type, so that none is defined twice."""
    if isinstance(tree, list):
        return [_renamed(branch, count) for branch in tree]
    kind = tree["type"]
    if kind in ("record", "fixed", "enum"):
        count[0] += 1
        tree = {**tree, "name": f"type{count[0]}"}
    if kind == "record":
        fields = [{"name": f["name"], "type": _renamed(f["type"], count)} for f in tree["fields"]]
        return {**tree, "fields": fields}
    if kind == "array":
        return {"type": "array", "items": _renamed(tree["items"], count)}
    if kind == "map":
        return {"type": "map", "values": _renamed(tree["values"], count)}
    return {k: v for k, v in tree.items() if k != "logicalType"}
