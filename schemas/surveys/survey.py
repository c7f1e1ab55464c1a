"""Everything that differs between surveys: one `Survey` in each folder, `schemas/surveys/<name>/`, found by
the registry.

To add a survey make a folder here with an `__init__.py` that has a `SURVEY`; nothing else needs to change.
Every survey shows the columns of `COMMON`, stored or computed, so that code (and filters) can be written for
all of them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.errors import NoSuchColumn
from schemas.surveys.arrow import EVERYTHING, Column, arrow_type, walk_type

COMMON = {
    "candid": "int64; names the alert",
    "objectId": "text; names the object, in one namespace for the survey",
    "jd": "days, UTC; when it was observed",
    "night": "days since 2017-01-01; the observing night",
    "ra": "degrees, ICRS; right ascension",
    "dec": "degrees, ICRS; declination",
    "band": 'text; the filter of the telescope: "u", "g", "r", "i", "z" or "y"',
    "exposure": "int64; the exposure and the detector: rows with the same one are one epoch",
    "positive": "true or false, missing is false; whether the source is brighter than in the reference image",
    "mag": "mag, AB; of the difference flux's absolute value",
    "magerr": "mag; its error",
    "flux": "signed difference flux, in the survey's `flux_unit`",
}
"""Columns of an alert that every survey has, and what they mean."""

Stored = Mapping[str, pa.Array]
Make = Callable[[Stored, str], Any]


@dataclass(frozen=True)
class Computed:
    """A column made from stored ones.

    needs: the stored columns, without the history's name. make: gets them as Arrow arrays by name, and the
    prefix that they have in a history ("prv_candidates." or ""); answers a NumPy array (float64 or bool) or
    an Arrow array (text, int64), one value a row.
    """

    needs: tuple[str, ...]
    make: Make


@dataclass(frozen=True)
class History:
    """An array of earlier epochs in a packet. Its rows always have a column `jd`, stored or computed.

    computed: name in a row -> how it is made. missing: a number that means "missing" in all its numbers.
    """

    computed: Mapping[str, Computed] = field(default_factory=dict)
    missing: float | None = None


@dataclass(frozen=True)
class Public:
    """Which parts of a survey's packets are public. Parts that are not named here are not public.

    field: in a record, the whole number that says whose data it is; None where all of it is public.
    value: the one value that means public; null, another value or a missing field does not.
    rows: arrays of records with that field: the rows that are not public are cut out.
    allowed: the other records and bytes that may be passed on, by dotted path. Single values (numbers, words)
    of a record that is passed on may always be.
    """

    field: str | None = None
    value: int = 1
    rows: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    @cached_property
    def listed(self) -> frozenset[str]:
        """All records, arrays and bytes that may be passed on."""
        return frozenset([*self.rows, *self.allowed])

    @property
    def everything(self) -> bool:
        """True when all that the survey sends is public."""
        return self.field is None

    def holds(self, program: int | None) -> bool:
        """Whether a record with this value of `field` is public."""
        return self.everything or (program is not None and program == self.value)


@dataclass(frozen=True)
class LightCurve:
    """What a light curve is made of.

    detections: the history of detections (and limits). forced: that of forced photometry; "" for none.
    epoch, measured: the columns of each that a table of it has. exposure: their column that tells epochs
    apart. value, error: columns of `detections` and of the alert that pictures show; label: of their axis;
    inverted: whether small values are bright. limit: the column of upper limits, None where there are none.
    Of `forced` pictures show its columns `point` and `pointerr`, in the same unit.
    radius: degrees around one alert within which all alerts of its object lie.
    """

    detections: str
    forced: str
    epoch: tuple[str, ...]
    measured: tuple[str, ...] = ()
    exposure: str = "exposure"
    value: str = "mag"
    error: str = "magerr"
    label: str = "difference magnitude"
    inverted: bool = True
    limit: str | None = None
    radius: float = 10 / 3600


@dataclass(frozen=True)
class Topics:
    """The Kafka topics of a survey.

    pattern: a regular expression for all of them. name: the topic that an alert is published to, from its
    columns `needs`, the date of its night (None unless `nightly`) and a function that gives its writer
    schema. program: a regular expression that finds in a topic's name the value of `Public.field` that it is
    named for, as its first group; "" where topics are not named so.
    """

    pattern: str
    name: Callable[[Mapping[str, Any], date | None, Callable[[], Any]], str]
    needs: tuple[str, ...] = ()
    nightly: bool = False
    program: str = ""

    def program_of(self, topic: str) -> int | None:
        """The program that a topic is named for; None for any other topic."""
        match = re.search(self.program, topic) if self.program else None
        return None if match is None else int(match[1])


@dataclass(frozen=True)
class Stamps:
    """The image cut-outs of a packet: which -> field, in the order "Science", "Template", "Difference".

    data: the field within that holds the FITS file, None where the cut-out itself is bytes. matrix: arcsec a
    pixel, ((east a column, east a row), (north a column, north a row)), None where the FITS header says it.
    packed: whether the files are compressed in the packet (then the archive does not compress them again).
    turned: whether the difference image of a negative source is template minus science.
    """

    fields: Mapping[str, str]
    data: str | None = None
    matrix: tuple[tuple[float, float], tuple[float, float]] | None = None
    turned: bool = False
    packed: bool = False


@dataclass(frozen=True, eq=False)
class Survey:
    """One survey's packets.

    name: "ztf". title: for people. reference: the newest schema; columns have its names and types.
    recognises: whether a writer schema is one of this survey's. candidate: the record that describes this
    detection; its fields go by their bare names. histories, stamps: see there. aliases: column -> where it
    is, best first, where names have changed. computed: columns made from others. missing: column -> the
    value that means "missing" and that a filter sees as NaN (or null). night_shift: days taken from UTC
    before the date of a night is read. key: the column whose value keys a Kafka message. rank: the column
    that says how sure it is that the source is real. flux_unit: of `flux`. statistics: columns whose least
    and greatest values the archive keeps for each file. digest: the columns that `zads listen` shows.
    facts: what a person wants to know of an alert beside what all surveys have.
    numbered: the schema with this id in the survey's schema registry, of those that lie here, or None.
    """

    name: str
    title: str
    candidate: str
    reference: Mapping[str, Any] = field(repr=False)
    recognises: Callable[[Any], bool] = field(repr=False)
    public: Public = field(repr=False)
    topics: Topics = field(repr=False)
    light_curve: LightCurve = field(repr=False)
    stamps: Stamps = field(repr=False)
    histories: Mapping[str, History] = field(default_factory=dict, repr=False)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    computed: Mapping[str, Computed] = field(default_factory=dict, repr=False)
    missing: Mapping[str, float | str] = field(default_factory=dict, repr=False)
    night_shift: float = 0.0
    key: str = "exposure"
    rank: str = ""
    flux_unit: str = ""
    statistics: tuple[str, ...] = ()
    digest: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    numbered: Callable[[int], Mapping[str, Any] | None] = field(default=lambda _: None, repr=False)

    @cached_property
    def type(self) -> pa.StructType:
        """The whole record."""
        return arrow_type(self.reference)

    @cached_property
    def _stored(self) -> dict[str, tuple[str, pa.DataType]]:
        """Name -> path and type: scalars, the fields of histories and records; the most direct wins."""
        columns: dict[str, tuple[str, pa.DataType]] = {}
        for top in self.type:
            if top.name in self.histories:
                for f in top.type.value_type:
                    name = f"{top.name}.{f.name}"
                    columns[name] = name, pa.large_list(f.type)
            elif pa.types.is_struct(top.type):
                columns |= self._of_record(top)
            elif not pa.types.is_nested(top.type) and top.name not in self.stamps.fields.values():
                columns[top.name] = top.name, top.type
        for inner in self.type.field(self.candidate).type:
            columns.setdefault(inner.name, (f"{self.candidate}.{inner.name}", inner.type))
        for name, places in self.aliases.items():
            columns[name] = (places[0], walk_type(self.type, places[0]))
        return columns

    def _of_record(self, top: pa.Field) -> dict[str, tuple[str, pa.DataType]]:
        """The fields of a record beside the candidate, by their dotted names."""
        if top.name == self.candidate or top.name in self.stamps.fields.values():
            return {}
        return {
            f"{top.name}.{f.name}": (f"{top.name}.{f.name}", f.type)
            for f in top.type
            if not pa.types.is_nested(f.type)
        }

    def stored_names(self) -> list[str]:
        """Every column of values in a packet: scalars and the fields of records and histories.

        Stamps and whole records are not among them, yet `path` knows them too ("cutoutScience.stampData",
        "prv_candidates", "candidate", "*").
        """
        return list(self._stored)

    def names(self) -> list[str]:
        """Every column that a filter may read: those stored, and those computed."""
        rows = (f"{name}.{column}" for name, h in self.histories.items() for column in h.computed)
        return list(dict.fromkeys([*self._stored, *self.computed, *rows]))

    def has(self, name: str) -> bool:
        """Whether a filter may read a column of this name, or it is a record of a packet, or in one."""
        return name in self._names or name.partition(".")[0] in self.records

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.names())

    @cached_property
    def records(self) -> frozenset[str]:
        """The histories and records of a packet: what stands before the dot in names of columns."""
        dotted = (name.partition(".") for name in self.names())
        records = {head for head, dot, _ in dotted if dot}
        return frozenset({*records, self.candidate, *self.histories, *self.stamps.fields.values()})

    def scalars(self) -> list[str]:
        """Those of `names` with one value an alert."""
        return [name for name in self.names() if self.split(name)[0] is None]

    def path(self, name: str) -> str:
        """Where the column is in a packet: "candidate.jd" for "jd". Raises NoSuchColumn."""
        return self._find(name)[0]

    def places(self, name: str) -> tuple[str, ...]:
        """Every path where the column may be, best first. Raises NoSuchColumn."""
        return tuple(self.aliases.get(name, ())) or (self.path(name),)

    def arrow_type(self, name: str) -> pa.DataType:
        """A stored column's Arrow type; a list for what is in a history. Raises NoSuchColumn."""
        return self._find(name)[1]

    def column(self, name: str) -> Column:
        """Name, places and type of a stored column in one. Raises NoSuchColumn."""
        return Column(name, self.places(name), self.arrow_type(name))

    def _find(self, name: str) -> tuple[str, pa.DataType]:
        if name in self._stored:
            return self._stored[name]
        if name == EVERYTHING:
            return name, self.type
        if is_annotation(name):
            return name, pa.float64()
        try:
            return name, walk_type(self.type, name)
        except KeyError:
            known = [*self.stored_names(), *(top.name for top in self.type)]
            if name.startswith(f"{self.candidate}."):
                known = [f"{self.candidate}.{inner.name}" for inner in self.type.field(self.candidate).type]
            raise NoSuchColumn(name, known) from None

    def split(self, name: str) -> tuple[str | None, str]:
        """("prv_candidates", "jd") of "prv_candidates.jd"; (None, "jd") of "jd"."""
        history, dot, column = name.partition(".")
        if dot and history in self.histories:
            return history, column
        return None, name

    def how(self, name: str) -> Computed | None:
        """How a column is computed; None for a stored one."""
        history, column = self.split(name)
        table = self.histories[history].computed if history else self.computed
        return table.get(column)

    def inputs(self, name: str) -> list[str]:
        """The stored columns that the column `name` is made from; a stored one is its own."""
        history, column = self.split(name)
        how = self.how(name)
        needs = how.needs if how else (column,)
        return [f"{history}.{need}" if history else need for need in needs]

    def sentinel(self, name: str) -> float | str | None:
        """The value that means "missing" in the column `name`; None where the column has none."""
        history, _ = self.split(name)
        if history and self.histories[history].missing is not None:
            return self.histories[history].missing
        return self.missing.get(name)


def is_annotation(name: str) -> bool:
    """Whether a column is a number that a channel has noted in the packet: "annotations.CHANNEL.VALUE"."""
    head, *parts = name.split(".")
    return head == "annotations" and len(parts) == 2 and all(parts)


def floats(column: pa.Array) -> np.ndarray:
    """float64 with NaN for null; exact for float32 and 32-bit integers."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values.astype(np.float64, copy=False)
