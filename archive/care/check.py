"""Does the archive hold what it says? Bodies against columns, duplicates, gaps, files.

Every body is decoded again and compared with its row, so a check reads all that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.layout import BODY, HEALPIX, NIGHT, SCHEMA, healpix29, kept_computed, night_dates, table_of
from archive.tables.files import DataFile, data_files
from archive.tables.fingerprints import schemas_of
from archive.tables.store import open_table, read_file
from archive.write.quarantine import Quarantine
from archive.write.rows import digest
from schemas.frame import computed_column
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import survey_named

_SOURCE = ["candid", "_topic", "_partition", "_offset", "_file", "_digest"]


class Finding(NamedTuple):
    """What is wrong: kind in kebab-case ("body", "digest", "duplicate", "missing-file" ...), and where."""

    kind: str
    detail: str


class Gap(NamedTuple):
    """Offsets from low to before high, between records of a partition, that are in neither table.

    Markers of transactions and aborted records take offsets too. Only Kafka can tell whether a record was
    there.
    """

    topic: str
    partition: int
    low: int
    high: int


@dataclass
class Checked:
    """What a check found. rows, files: looked at. superseded: rows that a newer one of their candid takes the
    place of; the other rows are the alerts. findings are errors, gaps may be none."""

    rows: int = 0
    superseded: int = 0
    files: int = 0
    findings: list[Finding] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def alerts(self) -> int:
        """Rows that are shown by default: one a candid."""
        return self.rows - self.superseded

    @property
    def sound(self) -> bool:
        return not self.findings


def check(
    archive: str,
    survey: str = "ztf",
    nights: Sequence[str] | None = None,
    progress: Callable[[Checked, int], None] = lambda checked, files: None,
) -> Checked:
    """Check every row of an archive, or of some nights.

    Parameters
    ----------
    archive
        Address of the archive.
    survey
        Whose table.
    nights
        UT dates, "2023-10-12"; None: all nights. Gaps in Kafka's offsets are looked for only with all nights.
    progress
        Called after each file with what was checked so far and the number of files.

    Raises
    ------
    NoSuchArchive
        When there is no such table.
    """
    address = table_of(str(archive), survey)
    files = [
        f for f in data_files(open_table(address), address) if nights is None or f.partition[NIGHT] in nights
    ]
    checked, sources = Checked(), []
    inspector = _Inspector(survey, schemas_of(str(archive)), checked)
    for file in files:
        rows = _read(address, file, checked)
        if rows is not None:
            inspector.inspect(file, rows)
            sources.append(rows.select(_SOURCE))
        checked.files += 1
        progress(checked, len(files))
    if sources:
        every = pa.concat_tables(sources)
        checked.superseded = every.num_rows - pc.count_distinct(every["candid"]).as_py()
        _find_duplicates(every, checked)
    if nights is None:
        kept = [_offsets(table) for table in [*sources, Quarantine(str(archive)).rows(_SOURCE[1:4])]]
        checked.gaps = list(_gaps(pa.concat_tables(kept)))
    return checked


def _read(address: str, file: DataFile, checked: Checked) -> pa.Table | None:
    try:
        rows = read_file(address, file.path)
    except FileNotFoundError:
        checked.findings.append(Finding("missing-file", f"{file.path} with {file.rows:,} rows is not there"))
        return None
    except (pa.ArrowException, OSError) as error:
        checked.findings.append(Finding("damaged-file", f"{file.path}: {error}"))
        return None
    if rows.num_rows != file.rows:
        checked.findings.append(
            Finding("row-count", f"{file.path} has {rows.num_rows:,} rows, the log says {file.rows:,}")
        )
    return rows


class _Inspector:
    """Compares rows with their bodies."""

    def __init__(self, survey: str, schemas: dict[str, Any], checked: Checked) -> None:
        self._survey, self._schemas, self._checked = survey, schemas, checked
        self._names, self._field = survey_named(survey).stored_names(), survey_named(survey).public.field
        self._readers: dict[str, PacketReader] = {}

    def inspect(self, file: DataFile, rows: pa.Table) -> None:
        self._checked.rows += rows.num_rows
        names = rows[SCHEMA].to_pylist()
        for name in set(names):
            if name not in self._schemas:
                self._tell("no-schema", f"{file.path}: the schema {name} is not among the archive's")
                continue
            chosen = rows.filter(pc.equal(rows[SCHEMA], name))
            self._inspect(file, chosen, self._reader(name))

    def _inspect(self, file: DataFile, rows: pa.Table, reader: PacketReader) -> None:
        bodies = rows[BODY].to_pylist()
        for candid, body, name, told in zip(
            rows["candid"].to_pylist(),
            bodies,
            rows[SCHEMA].to_pylist(),
            rows["_digest"].to_pylist(),
            strict=True,
        ):
            if digest(body, name) != told:
                self._tell("digest", f"{file.path}: the body of candid {candid} has been changed")
        batch = reader.read(bodies)
        for refused in batch.refused:
            candid = rows["candid"][refused.index]
            self._tell("body", f"{file.path}: the body of candid {candid} cannot be read: {refused.error}")
        rows = rows.take(pa.array(batch.packet))
        self._compare(file, rows, pa.table(batch.table))

    def _compare(self, file: DataFile, rows: pa.Table, bodies: pa.Table) -> None:
        expected = {name: bodies[name] for name in self._names}
        expected[HEALPIX] = pa.chunked_array([healpix29(bodies["ra"], bodies["dec"])])
        stored = {name: rows[name] for name in expected if name in rows.schema.names}
        count = rows.num_rows
        if self._field is not None:
            stored[self._field] = _constant(file.program, count, bodies[self._field].type)
        for name in kept_computed(self._survey):
            made = computed_column(bodies, name, self._survey)
            expected[name] = pa.chunked_array([pa.array(made, pa.string())])
            stored[name] = rows[name]
        nights = night_dates(computed_column(bodies, NIGHT, self._survey))
        expected[NIGHT] = pa.chunked_array([nights.cast(pa.string())])
        stored[NIGHT] = _constant(file.partition[NIGHT], count, pa.string())
        for name, values in expected.items():
            if name not in stored:
                continue
            for row in _differing(stored[name], values):
                where = f"{file.path}: {name} of candid {rows['candid'][row]}"
                self._tell("column", f"{where} is {stored[name][row]}, in its body {values[row]}")

    def _reader(self, name: str) -> PacketReader:
        if name not in self._readers:
            self._readers[name] = PacketReader(self._names, self._survey, bare=self._schemas[name])
        return self._readers[name]

    def _tell(self, kind: str, detail: str) -> None:
        self._checked.findings.append(Finding(kind, detail))


def _constant(value: Any, rows: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([value] * rows, kind)])


def _differing(stored: pa.ChunkedArray, body: pa.ChunkedArray) -> list[int]:
    """Rows in which two columns are not the same; NaN is the same as NaN."""
    body = body.cast(stored.type)
    if stored.equals(body):
        return []
    pairs = zip(stored.to_pylist(), body.to_pylist(), strict=True)
    return [row for row, (one, other) in enumerate(pairs) if repr(one) != repr(other)]


def _find_duplicates(sources: pa.Table, checked: Checked) -> None:
    """A record of Kafka, or an equal packet of files, that is there twice."""
    kafka = sources.filter(sources["_topic"].is_valid())
    files = sources.filter(sources["_topic"].is_null())
    for rows, keys in (
        (kafka, ["_topic", "_partition", "_offset", "_digest"]),
        (files, ["candid", "_digest"]),
    ):
        counts = rows.group_by(keys).aggregate([([], "count_all")])
        for row in counts.filter(pc.greater(counts["count_all"], 1)).to_pylist():
            times = row.pop("count_all")
            checked.findings.append(Finding("duplicate", f"{row} is there {times} times"))


def _offsets(table: pa.Table) -> pa.Table:
    rows = table.select(["_topic", "_partition", "_offset"])
    return rows.filter(rows["_topic"].is_valid())


def _gaps(rows: pa.Table) -> Iterator[Gap]:
    for group in rows.group_by(["_topic", "_partition"]).aggregate([("_offset", "list")]).to_pylist():
        offsets = np.unique(np.array(group["_offset_list"], np.int64))
        for place in np.flatnonzero(np.diff(offsets) > 1).tolist():
            yield Gap(group["_topic"], group["_partition"], int(offsets[place]) + 1, int(offsets[place + 1]))
