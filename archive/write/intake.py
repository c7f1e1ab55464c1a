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
from dataclasses import dataclass
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
from schemas.avro.framing import SchemaSource
from schemas.packets.files import PacketFile, PacketFiles

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


@dataclass
class Intake:
    """One process at work. Raises NoSchemaSource when a registry does not answer."""

    archive: str
    survey: str = "ztf"
    schemas: SchemaSource | None = None

    def __post_init__(self) -> None:
        self._address = table_of(self.archive, self.survey)
        survey_table(self._address, self.survey)
        self._known = KnownPackets(self._address)
        self._maker = RowMaker(self.survey, self.schemas)
        self._schemas = SchemaKeeper(self.archive, self.survey)
        self._quarantine = Quarantine(self.archive)
        self._stamp = 0
        self.summary = Summary()

    def take(self, files: PacketFiles, progress: Callable[[Summary], None]) -> Summary:
        """Keep what the files hold; `progress` is told after each batch."""
        began = time.monotonic()
        for _ in self._through(_batches(files)):
            self.summary.read_bytes, self.summary.seconds = files.read_bytes, time.monotonic() - began
            progress(self.summary)
        self.summary.damaged, self.summary.read_bytes = files.damaged, files.total_bytes
        self.summary.seconds = time.monotonic() - began
        return self.summary

    def _through(self, batches: Iterable[list[Record]]) -> Iterator[None]:
        under_way: deque[tuple[_Batch, Future[_Written]]] = deque()
        with ThreadPoolExecutor(_THREADS, "zads-intake") as threads:
            for records in batches:
                batch = _Batch(records, self._next_stamp(len(records)))
                under_way.append((batch, threads.submit(self._write, batch)))
                if len(under_way) >= _AHEAD or under_way[0][1].done():
                    self._finish(*under_way.popleft())
                    yield
            while under_way:
                self._finish(*under_way.popleft())
                yield

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
            add = write_file(self._address, part.table, partition, part.bodies)
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
            except CommitFailedError:  # another process was there in between
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
