"""Packets on disk into the archive: files, folders and nightly tarballs, each packet once.

Twice the same gives the same rows, also when the first time was broken off anywhere: a packet is known by
candid and content, and what is there already is skipped. Batches are read here, one stream however many
tarballs, and made into files by Dask workers (or by threads); the files become part of the table in order.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from archive.fingerprints import keep_schemas
from archive.known import KnownPackets, found, sorted_identity
from archive.layout import table_of
from archive.quarantine import Quarantine
from archive.rows import Identity, Record, RowMaker, Unkept, no_identity
from archive.store import commit, delete_files, survey_table, write_file
from schemas.framing import SchemaSource
from schemas.packet_files import PacketFile, PacketFiles

BATCH_PACKETS = 8_192
BATCH_BYTES = 128_000_000
_THREADS = 2
_INGEST = "zads-ingest"  # the mark that two ingests at once are told apart by


@dataclass
class Summary:
    """What became of the packets; while it goes on, so far.

    kept: new rows; skipped: equal packets that were there already; quarantined: by reason, of which
    `quarantined_before` were there already; nights: new rows by UT date; damaged: a sentence for each tarball
    that ended early; raw_bytes: of all packets read; stored_bytes: of the files written; done: 0 to 1.
    """

    kept: int = 0
    skipped: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    quarantined_before: int = 0
    nights: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    files: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    done: float = 0.0

    @property
    def packets(self) -> int:
        """All that were read."""
        return self.kept + self.skipped + self.quarantined.total() + self.quarantined_before


Progress = Callable[[Summary], None]


def ingest(
    paths: str | Path | Sequence[str | Path],
    archive: str | Path,
    survey: str = "ztf",
    client: Any = None,
    schemas: SchemaSource | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Keep the survey's packets of files, folders (recursively) and tarballs (streamed), each once.

    What cannot be kept goes to the quarantine with its reason. client: a `distributed.Client` whose workers
    reach the archive; without one, threads of this process do the work. schemas: for Confluent framing.

    Raises NoSuchPackets for a path that is not there, NoSchemaSource when a registry does not answer.
    """
    files = PacketFiles([paths] if isinstance(paths, (str, Path)) else paths)
    run = _Run(str(archive), survey, schemas, _pool(client))
    began = time.monotonic()
    for _ in run.through(_batches(files)):
        run.summary.done = files.read_bytes / max(files.total_bytes, 1)
        run.summary.seconds = time.monotonic() - began
        if progress is not None:
            progress(run.summary)
    run.summary.damaged, run.summary.done = files.damaged, 1.0
    run.summary.seconds = time.monotonic() - began
    return run.summary


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


class _Order(NamedTuple):
    """One batch of work: everything that a worker must be told.

    version: of the table in which equal packets are looked for. ingested: microseconds of the first record.
    """

    archive: str
    survey: str
    schemas: SchemaSource | None
    version: int
    ingested: int
    records: list[Record]


class _File(NamedTuple):
    """A data file that is not committed yet."""

    night: str | None
    rows: int
    add: AddAction
    identity: Identity


class _Written(NamedTuple):
    """What a worker answers."""

    files: list[_File]
    unkept: list[Unkept]
    skipped: int


def write_batch(order: _Order) -> _Written:
    """Make rows of a batch and write them into files that are not part of the table yet."""
    address = table_of(order.archive, order.survey)
    maker = _maker(order.survey, order.schemas)
    rows = maker.make(order.records, order.ingested, _known(address, order.version))
    keep_schemas(order.archive, order.survey, rows.schemas)
    files = [
        _File(
            part.night,
            part.table.num_rows,
            write_file(address, part.table, part.night, part.programid),
            part.identity,
        )
        for part in rows.parts
    ]
    return _Written(files, rows.unkept, rows.skipped)


@lru_cache(maxsize=4)
def _maker(survey: str, schemas: Any) -> RowMaker:
    return RowMaker(survey, schemas)


@lru_cache(maxsize=2)
def _known(address: str, version: int) -> KnownPackets:
    return KnownPackets(address, version)


class _Run:
    """One ingest: hands out batches, commits what comes back, in order."""

    def __init__(self, archive: str, survey: str, schemas: SchemaSource | None, pool: _Pool) -> None:
        self._archive, self._survey, self._schemas = archive, survey, schemas
        self._address = table_of(archive, survey)
        self._table = survey_table(self._address, survey)
        self._version = self._table.version()
        self._quarantine = Quarantine(archive)
        self._seen: dict[str | None, Identity] = {}
        self._pool = pool
        self._stamp = 0
        self.summary = Summary()

    def through(self, batches: Iterable[list[Record]]) -> Iterator[None]:
        """Work through the batches, a few at once; yields after each."""
        under_way: deque[tuple[_Order, Any]] = deque()
        with self._pool as pool:
            for records in batches:
                order = self._order(records)
                under_way.append((order, pool.submit(order)))
                while len(under_way) > pool.at_once or (under_way and under_way[0][1].done()):
                    self._finish(*under_way.popleft())
                    yield
            while under_way:
                self._finish(*under_way.popleft())
                yield

    def _order(self, records: list[Record]) -> _Order:
        # No two rows have one time, and files' rows have their order, whichever worker is the quicker.
        first = max(int(time.time() * 1e6), self._stamp)
        self._stamp = first + 1_000_000
        return _Order(self._archive, self._survey, self._schemas, self._version, first, records)

    def _finish(self, order: _Order, future: Any) -> None:
        written: _Written = future.result()
        while not self._commit(written):
            delete_files(self._address, [file.add for file in written.files])
            self._table = survey_table(self._address, self._survey)
            order = order._replace(version=self._table.version())
            written = self._pool.submit(order).result()
        self._count(order, written)

    def _commit(self, written: _Written) -> bool:
        """Make the files part of the table, unless one of their packets has become part of it by now."""
        for file in written.files:
            if found(file.identity, self._seen.get(file.night, no_identity())).any():
                return False
        if written.files:
            mark = (self._table.transaction_version(_INGEST) or 0) + 1
            try:
                commit(self._table, [file.add for file in written.files], {_INGEST: mark})
            except CommitFailedError:  # another ingest was there in between
                return False
            self._table.update_incremental()
        for file in written.files:
            before = self._seen.get(file.night, no_identity())
            both = [np.concatenate(pair) for pair in zip(before, file.identity, strict=True)]
            self._seen[file.night] = sorted_identity(*both)
        return True

    def _count(self, order: _Order, written: _Written) -> None:
        counted = self.summary
        added = self._quarantine.add_new(written.unkept, order.ingested)
        counted.quarantined.update(one.reason for one in added)
        counted.quarantined_before += len(written.unkept) - len(added)
        counted.skipped += written.skipped
        for file in written.files:
            counted.kept += file.rows
            counted.files += 1
            counted.nights[file.night or "no night"] += file.rows
            counted.stored_bytes += file.add.size
        counted.raw_bytes += sum(len(record.raw) for record in order.records)


class _Pool:
    """Where batches are worked on: threads of this process."""

    at_once = 2 * _THREADS

    def __enter__(self) -> _Pool:
        self._threads = ThreadPoolExecutor(_THREADS)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, order: _Order) -> Any:
        """A future of what `write_batch` answers."""
        return self._threads.submit(write_batch, order)


class _DaskPool(_Pool):
    """Workers of a Dask cluster; one batch is on its way to each while it works on another."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.at_once = 2 * max(1, len(client.scheduler_info()["workers"]))

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, order: _Order) -> Any:
        there = self._client.scatter(order, hash=False, direct=True)
        return self._client.submit(write_batch, there, pure=False)


def _pool(client: Any) -> _Pool:
    return _Pool() if client is None else _DaskPool(client)
