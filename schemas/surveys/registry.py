"""What zads knows of each survey: where its values are, what they are called, and the Arrow type of each.

The types come from a reference schema (the newest version, schemas/<survey>/), never from the data, so that
packets of any version and batches of any content give the same columns.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.errors import NoSuchColumn

_HERE = Path(__file__).parent

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


@dataclass(frozen=True, eq=False)
class Survey:
    """One survey's packets.

    name: "ztf". candidate: the record that describes this detection; its fields go by their bare names.
    histories: the arrays of earlier epochs, rows named "prv_candidates.jd". stamps: the image cut-outs.
    aliases: name -> where it is, the first place that the writer schema has.
    public: the records, arrays and bytes that a public channel passes on; all others are cut out.
    """

    name: str
    candidate: str
    histories: tuple[str, ...]
    stamps: tuple[str, ...]
    reference: Mapping[str, Any] = field(repr=False)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    public: frozenset[str] = field(default=frozenset(), repr=False)

    @cached_property
    def type(self) -> pa.StructType:
        """The whole record."""
        return arrow_type(self.reference)

    @cached_property
    def _columns(self) -> dict[str, tuple[str, pa.DataType]]:
        """Name -> path and type: scalars, `candidate`'s fields, histories' fields; the most direct wins."""
        found: dict[str, tuple[str, pa.DataType]] = {}
        for top in self.type:
            if top.name in self.histories:
                fields = top.type.value_type
                found |= {
                    f"{top.name}.{f.name}": (f"{top.name}.{f.name}", pa.large_list(f.type)) for f in fields
                }
            elif not pa.types.is_nested(top.type):
                found[top.name] = (top.name, top.type)
        for inner in self.type.field(self.candidate).type:
            found.setdefault(inner.name, (f"{self.candidate}.{inner.name}", inner.type))
        for name, places in self.aliases.items():
            found[name] = (places[0], walk_type(self.type, places[0]))
        return found

    def names(self) -> list[str]:
        """Every column of values: scalars and the fields of histories. Stamps and whole records are not among
        them, yet `path` knows them too ("cutoutScience.stampData", "prv_candidates", "candidate", "*")."""
        return list(self._columns)

    def path(self, name: str) -> str:
        """Where the column is in a packet: "candidate.jd" for "jd". Raises NoSuchColumn."""
        return self._find(name)[0]

    def places(self, name: str) -> tuple[str, ...]:
        """Every path where the column may be, best first. Raises NoSuchColumn."""
        return tuple(self.aliases.get(name, ())) or (self.path(name),)

    def arrow_type(self, name: str) -> pa.DataType:
        """The column's Arrow type; a list for what is in a history. Raises NoSuchColumn."""
        return self._find(name)[1]

    def column(self, name: str) -> Column:
        """Name, places and type in one. Raises NoSuchColumn."""
        return Column(name, self.places(name), self.arrow_type(name))

    def _find(self, name: str) -> tuple[str, pa.DataType]:
        if name in self._columns:
            return self._columns[name]
        if name == EVERYTHING:
            return name, self.type
        try:
            return name, walk_type(self.type, name)
        except KeyError:
            known = [*self._columns, *(top.name for top in self.type)]
            if name.startswith(f"{self.candidate}."):
                known = [f"{self.candidate}.{inner.name}" for inner in self.type.field(self.candidate).type]
            raise NoSuchColumn(name, known) from None


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


def _reference(survey: str, version: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((_HERE / survey / f"{version}.avsc").read_text())
    return loaded


def _known() -> Iterator[Survey]:
    yield Survey(
        "ztf",
        "candidate",
        ("prv_candidates", "fp_hists"),
        ("cutoutScience", "cutoutTemplate", "cutoutDifference"),
        _reference("ztf", "4.01"),
        # Packets that a broker wrote again may lack the first (the snappy ones do).
        {"candid": ("candid", "candidate.candid")},
        frozenset(
            {
                "candidate",
                "prv_candidates",
                "fp_hists",
                "cutoutScience",
                "cutoutScience.stampData",
                "cutoutTemplate",
                "cutoutTemplate.stampData",
                "cutoutDifference",
                "cutoutDifference.stampData",
            }
        ),
    )
    yield Survey(
        "lsst",
        "diaSource",
        ("prvDiaSources", "prvDiaForcedSources"),
        ("cutoutScience", "cutoutTemplate", "cutoutDifference"),
        _reference("lsst", "9.0"),
        {"candid": ("diaSourceId", "diaSource.diaSourceId"), "objectId": ("diaSource.diaObjectId",)},
    )


SURVEYS = {survey.name: survey for survey in _known()}

_ZTF_CANDIDATE = {"jd", "fid", "programid", "isdiffpos", "magpsf"}


def survey_of(schema: Any) -> str:
    """Whose packets have this writer schema: "ztf", "lsst", "pgir", "winter", "turbo", ... or "unknown".

    By name, as surveys give it; records that a broker wrote again have lost theirs (Spark calls each
    "topLevelRecord"), and are known by their structure.
    """
    if not isinstance(schema, Mapping):
        return "unknown"
    kinds = {f.get("name"): f.get("type") for f in schema.get("fields") or () if isinstance(f, Mapping)}
    if {"diaSourceId", "diaSource"} <= kinds.keys():
        return "lsst"
    namespace = str(schema.get("namespace") or "")
    root = f"{namespace}.{schema.get('name', '')}".strip(".").partition(".")[0]
    if root in ("ztf", "pgir", "winter", "turbo"):
        return root
    if "objectId" in kinds and _field_names(kinds.get("candidate")) >= _ZTF_CANDIDATE:
        return "ztf" if root in ("topLevelRecord", "alert", "") else "unknown"
    return "unknown"


def _field_names(kind: Any) -> set[str]:
    """The fields of a record, or of the record in a union."""
    if isinstance(kind, list):
        return set().union(*map(_field_names, kind))
    if not isinstance(kind, Mapping):
        return set()
    return {str(f.get("name")) for f in kind.get("fields") or () if isinstance(f, Mapping)}
