"""The truth tables: what each simulated alert really was, and each object."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from simulator.packets.cell import SimulatedAlert

_ALERT = [
    *(("candid", pa.int64()), ("objectId", pa.string()), ("jd", pa.float64()), ("night", pa.int64())),
    *(("programid", pa.int32()), ("pid", pa.int64()), ("schemavsn", pa.string()), ("damage", pa.string())),
]
_EPOCH = [
    ("fid", pa.int32()),
    ("true_flux", pa.float64()),
    ("true_mag", pa.float64()),
    ("magpsf", pa.float64()),
]
# Class and parameters; null where a class has no such parameter.
_OBJECT = [
    *(("class", pa.string()), ("artefact", pa.string()), ("designation", pa.string())),
    *(("ra", pa.float64()), ("dec", pa.float64())),
    *((name, pa.float64()) for name in ("t0", "peak_jd", "redshift", "x1", "c", "dust")),
    *((name, pa.float64()) for name in ("peak_b", "peak_g", "peak_r", "t2", "period", "amplitude")),
    *((name, pa.float64()) for name in ("r", "mag", "rate", "host_offset")),
]
TRUTH_SCHEMA = pa.schema(_ALERT + _EPOCH + _OBJECT)
OBJECTS = "_objects"
"""Suffix of the table by object's file name."""


def truth_table(alerts: Iterable[SimulatedAlert]) -> pa.Table:
    """One row an alert, in the order given: identity, what was damaged, class, parameters of its object.

    damage: null, "corrupt", "truncated", "repeated" or "delayed". true_flux: of the difference, in DN, with
    its sign; true_mag: without noise; magpsf: as sent. jd, t0 (begin) and peak_jd in days (jd), period and t2
    in days, magnitudes AB, rate in arcsec/h, host_offset in arcsec, ra and dec of the true place in deg.
    """
    rows = [
        {name: getattr(a, name) for name, _ in _ALERT}
        | {name: a.truth.get(name) for name, _ in (*_EPOCH, *_OBJECT)}
        for a in alerts
    ]
    return pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA)


def object_table(truth: pa.Table) -> pa.Table:
    """One row an object, from the table by alert: name, first and last jd, alerts, class, parameters.

    A moving body is a new object at each sighting; its sightings have one `designation`.
    """
    first = [(name, "first") for name, _ in _OBJECT]
    groups = truth.group_by("objectId", use_threads=False)
    found = groups.aggregate([("candid", "count_distinct"), ("jd", "min"), ("jd", "max"), *first])
    names = {"candid_count_distinct": "alerts", "jd_min": "first_jd", "jd_max": "last_jd"}
    return found.rename_columns([names.get(n, n.removesuffix("_first")) for n in found.column_names])


def write_truth(alerts: Iterable[SimulatedAlert], path: Path) -> pa.Table:
    """Write the table by alert as Parquet, the one by object beside it, and return the first."""
    table = truth_table(alerts)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    pq.write_table(object_table(table), objects_path(path))
    return table


def objects_path(path: Path) -> Path:
    """Where the table by object is, beside the one by alert."""
    return path.with_name(path.stem + OBJECTS + path.suffix)
