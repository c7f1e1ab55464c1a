"""A writer schema without some of its fields, still a valid one.

Avro defines a named type where it is first used. When that place is dropped (ZTF defines its cut-out record
in `cutoutScience` and names it in the other two), the definition moves to the next place that is left.
"""

from collections.abc import Collection, Mapping
from typing import Any

from schemas.avro.writer import PRIMITIVES
from schemas.errors import UnsupportedSchema

_NAMED = ("record", "error", "fixed", "enum")


def reduced(schema: Mapping[str, Any], drop: Collection[str]) -> dict[str, Any]:
    """The schema without the fields at these dotted paths; what is in arrays goes by the array's path.

    Raises UnsupportedSchema when nothing would be left of a record.
    """
    reducer = _Reducer(frozenset(drop))
    reducer.collect(schema, "", "")
    made: dict[str, Any] = reducer.reduce(schema, "", "")
    return made


def only(tree: Any, keep: Collection[str], path: str = "") -> set[str]:
    """The fields of a resolved record to drop, so that only those in `keep` are left.

    Parameters
    ----------
    tree
        The resolved record.
    keep
        Dotted paths of fields to keep; fields inside arrays use the array's path.
    path
        Dotted path of the record itself; "" for the packet.
    """
    drop: set[str] = set()
    for field in tree["fields"]:
        where = _below(path, field["name"])
        inner = _record_in(field["type"])
        if where in keep:
            continue
        if inner is not None and any(kept.startswith(f"{where}.") for kept in keep):
            drop |= only(inner, keep, where)
        else:
            drop.add(where)
    return drop


def _record_in(tree: Any) -> Any:
    """The record that a field holds: plainly, in an array, or unless null."""
    if isinstance(tree, list):
        branches = [branch for branch in tree if branch["type"] != "null"]
        return _record_in(branches[0]) if len(branches) == 1 else None
    if tree["type"] == "array":
        return _record_in(tree["items"])
    return tree if tree["type"] == "record" else None


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _names(schema: Mapping[str, Any], namespace: str) -> tuple[str, str]:
    """Full name of a named type, and the namespace for what is inside (Avro specification, Names)."""
    full = _full(schema["name"], schema.get("namespace", namespace) or "")
    return full, full.rpartition(".")[0]


class _Reducer:
    def __init__(self, drop: frozenset[str]) -> None:
        self.drop = drop
        self.definitions: dict[str, Any] = {}
        self.uses: dict[str, int] = {}  # how often a named type stands in what is left
        self.done: set[str] = set()

    def collect(self, schema: Any, namespace: str, path: str) -> None:
        """Find every named type, by its full name."""
        if isinstance(schema, list):
            for branch in schema:
                self.collect(branch, namespace, path)
        elif isinstance(schema, str) and schema not in PRIMITIVES:
            full = schema if schema in self.definitions else _full(schema, namespace)
            self.uses[full] = self.uses.get(full, 0) + (path not in self.drop)
        elif isinstance(schema, Mapping):
            if schema["type"] in _NAMED:
                full, namespace = _names(schema, namespace)
                self.definitions[full] = schema
                self.uses[full] = self.uses.get(full, 0) + (path not in self.drop)
            elif isinstance(schema["type"], list | dict):
                self.collect(schema["type"], namespace, path)
            for field in schema.get("fields", ()):
                self.collect(field["type"], namespace, _below(path, field["name"]))
            for key in ("items", "values"):
                self.collect(schema.get(key, "null"), namespace, path)

    def reduce(self, schema: Any, namespace: str, path: str) -> Any:
        if isinstance(schema, list):
            return [self.reduce(branch, namespace, path) for branch in schema]
        if isinstance(schema, str):
            return self._reference(schema, namespace, path)
        kind = schema["type"]
        if kind in _NAMED:
            return self._definition(schema, namespace, path)
        if isinstance(kind, list | dict) or kind not in (*PRIMITIVES, "array", "map"):
            return {**schema, "type": self.reduce(kind, namespace, path)}
        return {
            key: self.reduce(value, namespace, path) if key in ("items", "values") else value
            for key, value in schema.items()
        }

    def _reference(self, name: str, namespace: str, path: str) -> Any:
        if name in PRIMITIVES:
            return name
        full = name if name in self.definitions else _full(name, namespace)
        if full in self.done:
            return full
        space, _, short = full.rpartition(".")
        return self._definition(
            {**self.definitions[full], "name": short, "namespace": space}, namespace, path
        )

    def _definition(self, schema: Mapping[str, Any], namespace: str, path: str) -> dict[str, Any]:
        full, inner = _names(schema, namespace)
        if path and self.uses[full] > 1 and any(dropped.startswith(f"{path}.") for dropped in self.drop):
            raise UnsupportedSchema(
                f"{path} shares its type {full} with other fields: drop all of it or nothing"
            )
        self.done.add(full)
        if "fields" not in schema:
            return dict(schema)
        fields = []
        for field in schema["fields"]:
            where = _below(path, field["name"])
            if where not in self.drop:
                fields.append({**field, "type": self.reduce(field["type"], inner, where)})
        if schema["fields"] and not fields:
            raise UnsupportedSchema(f"nothing would be left of {path or 'the packet'}")
        return {**schema, "fields": fields}
