"""The truth table: what each simulated alert really was."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.simulated.sky import SimulatedAlert

_ALERT = [
    ("candid", pa.int64()),
    ("objectId", pa.string()),
    ("jd", pa.float64()),
    ("night", pa.int64()),
    ("programid", pa.int32()),
    ("pid", pa.int64()),
]
# Class and parameters: days, magnitudes, arcsec; null where a class has no such parameter.
_TRUTH = [
    ("class", pa.string()),
    ("artefact", pa.string()),
    ("designation", pa.string()),
    ("t0", pa.float64()),
    ("period", pa.float64()),
    ("amplitude", pa.float64()),
    ("r", pa.float64()),
    ("peak_r", pa.float64()),
    ("peak_g", pa.float64()),
    ("mag", pa.float64()),
    ("rate", pa.float64()),
    ("host_offset", pa.float64()),
]
TRUTH_SCHEMA = pa.schema(_ALERT + _TRUTH)


def truth_table(alerts: Iterable[SimulatedAlert]) -> pa.Table:
    """One row an alert, in the order given: identity, class, and the parameters of its object.

    Units: jd and t0 in days (jd), period in days, magnitudes AB, rate in arcsec/h, host_offset in arcsec.
    """
    rows = [
        {name: getattr(a, name) for name, _ in _ALERT} | {name: a.truth.get(name) for name, _ in _TRUTH}
        for a in alerts
    ]
    return pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA)


def write_truth(alerts: Iterable[SimulatedAlert], path: Path) -> pa.Table:
    """Write the truth table as Parquet and return it."""
    table = truth_table(alerts)
    pq.write_table(table, path)
    return table
