"""Where everything lies in an archive: tables, columns, partitions, order. Knows no file and no packet.

    PATH/ztf         one Delta table a survey; partitions night=YYYY-MM-DD, and where a survey says whose data
                     an alert is (ZTF) programid=N
    PATH/schemas     the writer schemas, once each, by fingerprint
    PATH/quarantine  what could not be kept in a survey's table, with the reason

A row of a survey's table is one packet as it was received once: the survey's scalars under the names that
its room gives them, objectId among them, each history field as a list column under its dotted name
("prv_candidates.magpsf"), raw values all; the Avro body with the fingerprint of its writer schema; and where
the packet came from. Rows of a file are sorted by `_healpix_29` (the HATS convention: order 29, nested).
"""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import lonlat_to_healpix

from schemas.frame import IDENTITY
from schemas.surveys.registry import SURVEYS, survey_named
from schemas.time import FIRST_NIGHT

NIGHT = "night"

HEALPIX = "_healpix_29"
HEALPIX_ORDER = 29

BODY, SCHEMA = "_body", "_schema"

QUARANTINE, SCHEMAS = "quarantine", "schemas"

ROW_GROUP_ROWS = 16_384
ROW_GROUP_BYTES = 32_000_000
"""A row group ends at whichever comes first: for scalars alone large ones are good, but to bring one body
its row group's bodies are read."""

_TIME = pa.timestamp("us", "UTC")

_SOURCE = (
    ("_topic", pa.string()),
    ("_partition", pa.int32()),
    ("_offset", pa.int64()),
    ("_timestamp", _TIME),
    ("_key", pa.binary()),
    ("_headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
    ("_file", pa.string()),
    ("_ingested", _TIME),
    ("_digest", pa.int64()),
)

SCHEMAS_SCHEMA = pa.schema(
    [("fingerprint", pa.string()), ("survey", pa.string()), ("version", pa.string()), ("schema", pa.string())]
)
"""The table PATH/schemas. schema: the writer schema as JSON."""

QUARANTINE_SCHEMA = pa.schema(
    [
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("survey", pa.string()),
        ("raw", pa.binary()),
        *_SOURCE,
    ]
)
"""The table PATH/quarantine. reason: kebab-case; raw: the whole packet as it came; `_digest`: of `raw`."""


def statistics(survey: str) -> tuple[str, ...]:
    """Columns whose least and greatest values stand in the Delta log for each file."""
    return (HEALPIX, *survey_named(survey).statistics, "_offset", "_ingested")


@cache
def limited() -> frozenset[str]:
    """Columns of which row groups say the least and greatest value: the statistics of all surveys, and what
    tells which rows of histories are public, as a reader need not look at each where all of them are."""
    surveys = SURVEYS.values()
    rows = (f"{rows}.{s.public.field}" for s in surveys if s.public.field for rows in s.public.rows)
    return frozenset([*rows, *(name for s in surveys for name in statistics(s.name))])


def partitions(survey: str) -> tuple[str, ...]:
    """The columns whose values stand in the Delta log (and the folders' names), not in the data files."""
    field = survey_named(survey).public.field
    return (NIGHT,) if field is None else (NIGHT, field)


def partition_of(survey: str, night: str | None, program: str | None) -> dict[str, str | None]:
    """A partition's values by name of the partition column.

    Parameters
    ----------
    survey
        Whose table.
    night
        UT date, "2023-10-12"; None for alerts without a date.
    program
        Whose data, for a survey whose table is partitioned by it (ZTF: programid); ignored for others.
    """
    return dict(zip(partitions(survey), (night, program), strict=False))


def table_of(path: str, name: str) -> str:
    """The address of one of an archive's tables."""
    return f"{str(path).rstrip('/')}/{name}"


def table_schema(survey: str = "ztf") -> pa.Schema:
    """Every column of a survey's table, the partitions among them. Raises NoSuchColumn for no survey."""
    of = survey_named(survey)
    columns = [(name, _stored_type(of.arrow_type(name))) for name in of.stored_names()]
    return pa.schema(
        [
            (NIGHT, pa.date32()),
            (HEALPIX, pa.int64()),
            *((name, pa.string()) for name in kept_computed(survey)),
            *columns,
            *_SOURCE,
            (SCHEMA, pa.string()),
            (BODY, pa.binary()),
        ]
    )


def kept_computed(survey: str) -> list[str]:
    """The computed columns that are stored too, since alerts are looked up by them: objectId, where it is."""
    return [name for name in IDENTITY if survey_named(survey).how(name) is not None]


def file_schema(survey: str = "ztf") -> pa.Schema:
    """The columns of a data file: all but the partitions'."""
    return pa.schema([field for field in table_schema(survey) if field.name not in partitions(survey)])


def _stored_type(kind: pa.DataType) -> pa.DataType:
    """What Delta Lake can name: its lists and binaries have no large kind, its times are microseconds."""
    if pa.types.is_large_list(kind):
        return pa.list_(_stored_type(kind.value_type))
    if pa.types.is_large_binary(kind):
        return pa.binary()
    return _TIME if pa.types.is_timestamp(kind) else kind


def healpix29(ra: Any, dec: Any) -> pa.Int64Array:
    """`_healpix_29` of positions in degrees; null where a position is missing or not on the sky."""
    lon, lat = _degrees(ra), _degrees(dec)
    there = np.isfinite(lon) & (np.abs(lat) <= 90)
    places = lonlat_to_healpix(
        Longitude(np.where(there, lon, 0.0), u.deg), Latitude(np.where(there, lat, 0.0), u.deg), HEALPIX_ORDER
    )
    return pa.array(places.astype(np.int64), mask=~there)


def night_dates(nights: Any) -> pa.Date32Array:
    """The date of each night, from its number; null where there is none."""
    days = np.asarray(nights, float) + (FIRST_NIGHT - date(1970, 1, 1)).days
    there = np.isfinite(days) & (np.abs(days) < 500_000)
    return pa.array(np.where(there, days, 0).astype(np.int32), mask=~there).cast(pa.date32())


def _degrees(values: Any) -> np.ndarray:
    """float64, NaN where missing."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        values = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    return np.asarray(values, float)


VERSION_COLUMNS = ("candid", "_timestamp", "_offset", "_ingested")
"""What `newest` looks at."""


def newest(table: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Of several rows with one candid the one to show by default, as row numbers in the table's order.

    The larger Kafka timestamp, then offset; for files the later `_ingested` (no two are equal). A record of
    Kafka goes before a file's.
    """
    if table.num_rows == 0:
        return np.zeros(0, np.int64)
    keys = [_whole(table.column(name)) for name in reversed(VERSION_COLUMNS)]
    order = np.lexsort(keys)
    candid = keys[-1][order]
    last = np.append(candid[1:] != candid[:-1], True)
    return np.sort(order[last])


def _whole(column: Any) -> np.ndarray:
    """int64, missing as the least."""
    least = np.iinfo(np.int64).min
    return pc.fill_null(column.cast(pa.int64()), least).to_numpy(zero_copy_only=False)
