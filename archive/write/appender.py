"""Records as they arrive -> the archive, each exactly once, even if processes are killed.

Each source (for Kafka: one partition) has a mark, the position of the next record to come. It moves in the
same commit that adds the rows, as a Delta application transaction; whoever starts again goes on from there.
Application transactions are not idempotent by themselves: a writer whose handle of the table is older than
the mark is refused, one whose handle is fresh could move it anywhere. So before each commit the marks are
read with the handle that commits, and must be where this appender left them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from archive.layout import partition_of, table_of
from archive.tables.faults import store_faults
from archive.tables.fingerprints import SchemaKeeper
from archive.tables.store import commit, delete_files, survey_table, write_file
from archive.write.quarantine import Quarantine
from archive.write.rows import Record, RowMaker, Rows, Unkept
from schemas.avro.framing import SchemaSource
from schemas.surveys.registry import survey_named


class Arrived(Protocol):
    """A record as a stream gave it; timestamp: Unix time in milliseconds; position: grows along a source."""

    @property
    def raw(self) -> bytes: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]: ...
    @property
    def position(self) -> int: ...


@dataclass(frozen=True)
class Limits:
    """When what is gathered is written: at so many packets, bytes, or seconds after the first."""

    packets: int = 8_192
    bytes: int = 256_000_000
    seconds: float = 20.0


@dataclass
class Appended:
    """What an appender has written so far."""

    kept: int = 0
    quarantined: int = 0
    commits: int = 0
    bytes: int = 0


@dataclass
class _Gathered:
    """Records of one source that are not written yet: low is where they begin, next where they end."""

    low: int | None
    next: int
    records: list[Record] = field(default_factory=list)


class Appender:
    """Appends to one survey's table. For one thread.

    A source is named by its application id. It must change when positions start again (for Kafka: when
    cluster, topic or group change); otherwise new records would be taken for known ones.

    Parameters
    ----------
    archive
        Address of the archive.
    survey
        Whose table.
    schemas
        Where the schemas of packets with Confluent framing are looked up.
    limits
        When to write; None: the defaults.
    """

    def __init__(
        self,
        archive: str,
        survey: str = "ztf",
        schemas: SchemaSource | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.archive, self.limits = str(archive), limits or Limits()
        self._address = table_of(self.archive, survey)
        self._survey = survey
        self._table = survey_table(self._address, survey)
        self._maker = RowMaker(survey, schemas)
        self._schemas = SchemaKeeper(self.archive, survey)
        self._quarantine = Quarantine(self.archive)
        self._gathered: dict[str, _Gathered] = {}
        self._marks: dict[str, int | None] = {}
        self._size = self._count = self._stamp = 0
        self._since: float | None = None
        self.appended = Appended()

    def marks(self, apps: Iterable[str]) -> dict[str, int]:
        """Where each source is to go on; a source that is new is left out. Forgets what was gathered."""
        self._forget()
        self._table = survey_table(self._address, self._survey)
        self._marks = {app: self._table.transaction_version(app) for app in apps}
        return {app: mark for app, mark in self._marks.items() if mark is not None}

    def append(self, app: str, records: Sequence[Arrived], next_position: int) -> None:
        """Collect records of a source, in order, beginning at its mark; `flush` writes them.

        Parameters
        ----------
        app
            Application id of the source.
        records
            The records.
        next_position
            Where the source goes on after them. It may be further than the last record, because positions
            have gaps.
        """
        gathered = self._gathered.get(app)
        if gathered is None:
            gathered = self._gathered[app] = _Gathered(self._marks.get(app), next_position)
        gathered.records += [_record(arrived) for arrived in records]
        gathered.next = next_position
        if records:
            self._since = self._since or time.monotonic()
            self._count += len(records)
            self._size += sum(len(record.raw) for record in records)

    @property
    def due(self) -> bool:
        """Whether it is time to flush."""
        if self._since is None:
            return False
        limits = self.limits
        late = time.monotonic() - self._since >= limits.seconds
        return late or self._count >= limits.packets or self._size >= limits.bytes

    def flush(self) -> dict[str, int] | None:
        """Write what was gathered; answers where the sources stand now.

        None when another archiver has gone on with one of the sources: nothing is written, what was gathered
        is dropped, and `marks` says where to go on. Raises Unreachable when a schema registry or an object
        store does not answer; what was gathered is still there then.
        """
        told = {app: gathered.next for app, gathered in self._gathered.items() if gathered.records}
        if told:
            records = [record for app in told for record in self._gathered[app].records]
            rows = self._maker.make(records, self._next_stamp(len(records)))
            self._schemas.keep(rows.schemas, rows.versions)
            self._keep_unkept(rows.unkept, told)
            if not self._keep(rows, told):
                self._forget()
                return None
            self._marks |= told
        self._forget()
        return told

    def _keep(self, rows: Rows, told: dict[str, int]) -> bool:
        """Add the rows and move the marks; False, and nothing is added, when one of them has been moved."""
        files = [
            write_file(
                self._address,
                part.table,
                partition_of(self._survey, part.night, part.program),
                part.bodies,
                survey_named(self._survey).stamps.packed,
            )
            for part in rows.parts
        ]
        if not self._commit(files, told):
            delete_files(self._address, files)
            return False
        self.appended.kept += rows.kept
        self.appended.quarantined += len(rows.unkept)
        self.appended.commits += 1
        self.appended.bytes += sum(file.size for file in files)
        return True

    def _commit(self, files: list[AddAction], told: dict[str, int]) -> bool:
        tried = False
        while True:
            with store_faults(self.archive):
                self._table.update_incremental()
            stand = {app: self._table.transaction_version(app) for app in told}
            if tried and stand == told:
                return True  # our commit; only the answer was lost
            if any(mark != self._gathered[app].low for app, mark in stand.items()):
                return False
            try:
                commit(self._table, files, told)
            except CommitFailedError:
                tried = True  # another process committed in between: try again
            else:
                return True

    def _keep_unkept(self, unkept: Sequence[Unkept], told: dict[str, int]) -> None:
        """The quarantine has marks of its own: two tables cannot be committed at once."""
        if not unkept:
            return
        table = self._quarantine.table()
        before = {app: table.transaction_version(app) for app in told}
        app_of = {id(record): app for app in told for record in self._gathered[app].records}
        new = [one for one in unkept if _is_new(one.record, before[app_of[id(one.record)]])]
        while new:
            ahead = {app: max(told[app], before[app] or 0) for app in told}
            try:
                self._quarantine.add(new, self._next_stamp(len(new)), ahead, table)
                return
            except CommitFailedError:
                table = self._quarantine.table()
                before = {app: table.transaction_version(app) for app in told}
                new = [one for one in new if _is_new(one.record, before[app_of[id(one.record)]])]

    def _next_stamp(self, records: int) -> int:
        """Unix time in microseconds of the first of them; no two rows have the same."""
        first = max(int(time.time() * 1e6), self._stamp)
        self._stamp = first + records + 1_000  # a record may hold several alerts
        return first

    def _forget(self) -> None:
        self._gathered = {}
        self._size = self._count = 0
        self._since = None


def _record(of: Arrived) -> Record:
    place = (of.topic, of.partition, of.offset)
    return Record(of.raw, None, *place, of.timestamp, of.key, of.headers, of.position)


def _is_new(record: Record, mark: int | None) -> bool:
    """Whether the quarantine has not got as far as this record."""
    return mark is None or record.position is None or record.position >= mark
