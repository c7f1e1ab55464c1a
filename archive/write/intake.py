"""Packet files into a survey's table, by the threads of one process: each packet once.

Batches are made into data files side by side and become part of the table in the order in which they were
read. Two processes may work on one table: a commit moves a mark for each of its nights, and is refused when
another has moved it since; then what the other has added is read before it is tried again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from archive.layout import partition_of, table_of
from archive.tables.fingerprints import SchemaKeeper
from archive.tables.store import commit, delete_files, survey_table, write_file
from archive.write.known import KnownPackets
from archive.write.quarantine import Quarantine
from archive.write.rows import Identity, Record, RowMaker, Unkept
from archive.write.summary import Summary
from schemas.avro.framing import Framer, SchemaSource
from schemas.errors import PacketError
from schemas.packets.files import PacketFile, PacketFiles
from schemas.surveys.registry import SURVEYS, survey_named

BATCH_PACKETS = 8_192
BATCH_BYTES = 128_000_000
"""What goes into one data file, if it is all of one partition."""

_THREADS = 2
_AHEAD = 3  # batches that are read and not yet committed
_MARK = "zads-ingest/"


class _Batch(NamedTuple):
    """ingested: Unix time in microseconds of the first record."""

    records: list[Record]
    ingested: int


class _File(NamedTuple):
    """A data file that is not committed yet."""

    night: str | None
    add: AddAction
    identity: Identity


class _Written(NamedTuple):
    files: list[_File]
    unkept: list[Unkept]
    skipped: int


class Intake:
    """Writes packets of one survey into its table, by threads of this process.

    Parameters
    ----------
    archive
        Address of the archive.
    survey
        Whose table.
    schemas
        Where the schemas of packets with Confluent framing are looked up.
    summary
        Counts what becomes of the packets.
    quarantine
        Keeps what cannot be a row.

    Raises
    ------
    NoSchemaSource
        When a registry does not answer.
    """

    def __init__(
        self,
        archive: str,
        survey: str,
        schemas: SchemaSource | None,
        summary: Summary,
        quarantine: Quarantine,
    ) -> None:
        self.survey, self.summary = survey, summary
        self._packed = survey_named(survey).stamps.packed
        self._address = table_of(archive, survey)
        survey_table(self._address, survey)
        self._known = KnownPackets(self._address)
        self._maker = RowMaker(survey, schemas)
        self._schemas = SchemaKeeper(archive, survey)
        self._quarantine = quarantine
        self._stamp = 0
        self._under_way: deque[tuple[_Batch, Future[_Written]]] = deque()
        self._threads = ThreadPoolExecutor(_THREADS, f"zads-intake-{survey}")

    def put(self, records: list[Record]) -> None:
        """Have records made into files, side by side; the first of them become part of the table."""
        batch = _Batch(records, self._next_stamp(len(records)))
        self._under_way.append((batch, self._threads.submit(self._write, batch)))
        if len(self._under_way) >= _AHEAD or self._under_way[0][1].done():
            self._finish(*self._under_way.popleft())

    def finish(self) -> None:
        """Make all of them part of the table."""
        while self._under_way:
            self._finish(*self._under_way.popleft())

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _next_stamp(self, packets: int) -> int:
        """No two rows have the same time, and the later packet has the later one."""
        first = max(int(time.time() * 1e6), self._stamp)
        self._stamp = first + packets + 1_000  # a file may hold several
        return first

    def _write(self, batch: _Batch) -> _Written:
        """The rows of a batch in files that are not part of the table yet."""
        rows = self._maker.make(batch.records, batch.ingested, self._known)
        self._schemas.keep(rows.schemas, rows.versions)
        files = []
        for part in rows.parts:
            partition = partition_of(self.survey, part.night, part.program)
            add = write_file(self._address, part.table, partition, part.bodies, self._packed)
            files.append(_File(part.night, add, part.identity))
        return _Written(files, rows.unkept, rows.skipped)

    def _finish(self, batch: _Batch, future: Future[_Written]) -> None:
        written = future.result()
        while not self._commit(written.files):
            delete_files(self._address, [file.add for file in written.files])
            written = self._write(batch)
        self._count(batch, written)

    def _commit(self, files: list[_File]) -> bool:
        """Make the files part of the table, unless one of their packets has become part of it by now."""
        while files:
            if any(self._known.among(file.identity, file.night).any() for file in files):
                return False
            table = self._known.table
            apps = {f"{_MARK}{file.night}" for file in files}
            marks = {app: (table.transaction_version(app) or 0) + 1 for app in apps}
            try:
                commit(table, [file.add for file in files], marks)
            except CommitFailedError:  # another process committed in between
                self._known.refresh()
                continue
            for file in files:
                self._known.add(file.night, file.add.path, file.identity)
            return True
        return True

    def _count(self, batch: _Batch, written: _Written) -> None:
        told = self.summary
        added = self._quarantine.add_new(written.unkept, batch.ingested)
        told.quarantined.update(one.reason for one in added)
        told.quarantined_before += len(written.unkept) - len(added)
        told.skipped += written.skipped
        for file in written.files:
            rows = len(file.identity.candid)
            told.kept += rows
            told.nights[file.night or "no night"] += rows
            told.files += 1
            told.stored_bytes += file.add.size
        told.raw_bytes += sum(len(record.raw) for record in batch.records)


class Intakes:
    """Writes packets into the tables of their surveys.

    Parameters
    ----------
    archive
        Address of the archive.
    survey
        The survey whose table all packets go to; None: each goes to the table of its own survey.
    schemas
        Where the schemas of packets with Confluent framing are looked up.

    Raises
    ------
    NoSchemaSource
        When a registry does not answer.
    """

    def __init__(self, archive: str, survey: str | None = None, schemas: SchemaSource | None = None) -> None:
        self._archive, self._survey, self._sources = archive, survey, schemas
        self._framer = Framer(schemas)
        self._quarantine = Quarantine(archive)
        self._intakes: dict[str, Intake] = {}
        self.summary = Summary()

    def take(self, files: PacketFiles, progress: Callable[[Summary], None]) -> Summary:
        """Keep what the files hold; `progress` is told after each batch."""
        began = time.monotonic()
        if self._survey is not None:
            self._intake(self._survey)  # its table exists even if there is no packet
        try:
            for records in _batches(files):
                for survey, its_own in self._sorted(records).items():
                    self._intake(survey).put(its_own)
                self.summary.read_bytes, self.summary.seconds = files.read_bytes, time.monotonic() - began
                progress(self.summary)
            for intake in self._intakes.values():
                intake.finish()
                progress(self.summary)
        finally:
            for intake in self._intakes.values():
                intake.close()
        self.summary.damaged, self.summary.read_bytes = files.damaged, files.total_bytes
        self.summary.seconds = time.monotonic() - began
        return self.summary

    def _intake(self, survey: str) -> Intake:
        if survey not in self._intakes:
            shared = self._sources, self.summary, self._quarantine
            self._intakes[survey] = Intake(self._archive, survey, *shared)
        return self._intakes[survey]

    def _sorted(self, records: list[Record]) -> dict[str, list[Record]]:
        """The records by survey; what is of none goes into the quarantine."""
        if self._survey is not None:
            return {self._survey: records}
        by_survey: dict[str, list[Record]] = {}
        unkept: list[Unkept] = []
        for record in records:
            try:
                survey = self._framer.frame(record.raw).writer.survey
            except PacketError as error:
                unkept.append(Unkept(record, error.reason, str(error)))
                continue
            if survey in SURVEYS:
                by_survey.setdefault(survey, []).append(record)
            else:
                why = f"a packet of {survey}, a survey that the archive has no table for"
                unkept.append(Unkept(record, "other-survey", why, survey))
        added = self._quarantine.add_new(unkept, int(time.time() * 1e6))
        self.summary.quarantined.update(one.reason for one in added)
        self.summary.quarantined_before += len(unkept) - len(added)
        self.summary.raw_bytes += sum(len(one.record.raw) for one in unkept)
        return by_survey


def _batches(files: Iterable[PacketFile]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for file in files:
        batch.append(Record(file.raw, file.name))
        size += len(file.raw)
        if len(batch) >= BATCH_PACKETS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
