"""Merges many small files of a night into few large ones, sorted by place; readers are not disturbed.

A commit swaps the files of a partition for those that hold the same rows; readers of older versions find
the old files until `vacuum` removes them. A night that is over is sorted as a whole, so that a cone reads one
file or two: its rows are divided into parts of the sky, each of which is sorted in memory. Of a night that
still grows only the small files are put together.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from archive.layout import BODY, HEALPIX, table_of
from archive.tables.files import DataFile, by_partition, data_files
from archive.tables.store import commit, delete_files, open_table, read_file, write_file
from schemas.avro.framing import Buffer
from schemas.errors import ZadsError
from schemas.surveys.registry import survey_named

TARGET_BYTES = 512_000_000
"""Size of a data file; as much is sorted in memory at once."""

_SMALL = 4  # a file of less than a fourth of the target is merged with others
_QUIET_SECONDS = 3600.0  # a night is over when nothing was added for this long
_LAST = np.iinfo(np.int64).max


class Busy(ZadsError):
    """Another process has rewritten the same files in the meantime; nothing was changed."""


@dataclass
class Optimized:
    """What was done: partitions rewritten, files and bytes before and after."""

    partitions: int = 0
    before: int = 0
    after: int = 0
    bytes: int = 0


def optimize(
    archive: str,
    survey: str = "ztf",
    nights: Sequence[str] | None = None,
    target: int = TARGET_BYTES,
    progress: Callable[[Optimized], None] = lambda _: None,
) -> Optimized:
    """Merge small files, night by night.

    Parameters
    ----------
    archive
        Address of the archive.
    survey
        Whose table.
    nights
        UT dates, "2023-10-12": these nights are sorted as a whole, whether they are over or not. None: all
        nights, and only files that are worth merging.
    target
        Size of the new files in bytes, about.
    progress
        Called after each group of files.

    Raises
    ------
    NoSuchArchive
        When there is no such table.
    Busy
        When another optimization works on the same night.
    """
    address = table_of(str(archive), survey)
    done = Optimized()
    for (night, _), files in sorted(by_partition(data_files(open_table(address), address)).items(), key=str):
        if nights is not None and night not in nights:
            continue
        for chosen in _worth_it(files, target, whole=nights is not None):
            new = _rewrite(address, survey, chosen, target)
            done.before, done.after = done.before + len(chosen), done.after + len(new)
            done.bytes += sum(file.size for file in new)
            done.partitions += 1
            progress(done)
    return done


def _worth_it(files: list[DataFile], target: int, whole: bool) -> Iterator[list[DataFile]]:
    """The groups of a partition's files to be put together."""
    if len(files) < 2 or not _overlap(files):
        return
    quiet = time.time() - max(file.modified for file in files) / 1000 > _QUIET_SECONDS
    if whole or quiet or sum(file.bytes for file in files) <= target:
        yield files
        return
    group: list[DataFile] = []
    for file in files:
        if file.bytes * _SMALL > target:
            continue
        if group and sum(f.bytes for f in group) + file.bytes > target:
            yield group
            group = []
        group.append(file)
    if len(group) > 1:
        yield group


def _overlap(files: Sequence[DataFile]) -> bool:
    """Whether two of the files share a part of the sky."""
    cells = sorted(file.cells or (0, _LAST) for file in files)
    return any(before[1] > after[0] for before, after in itertools.pairwise(cells))


def _rewrite(address: str, survey: str, files: Sequence[DataFile], target: int) -> list[AddAction]:
    """The rows of these files of one partition in new files, and the swap."""
    partition, packed = dict(files[0].partition), survey_named(survey).stamps.packed
    new: list[AddAction] = []
    try:
        for rows in _sorted_parts(address, files, target):
            order = np.argsort(_cells(rows), kind="stable")
            bodies = _bodies(rows)
            table = rows.drop_columns([BODY]).take(pa.array(order))
            new.append(write_file(address, table, partition, [bodies[i] for i in order.tolist()], packed))
        _swap(address, files, new, partition)
    except BaseException:
        delete_files(address, new)
        raise
    return new


def _swap(
    address: str,
    files: Sequence[DataFile],
    new: Sequence[AddAction],
    partition: dict[str, str | None],
) -> None:
    """Take the old files out of the table and the new ones in, in one commit."""
    table = open_table(address)
    there = {file.path for file in data_files(table, address)}
    if not {file.path for file in files} <= there:
        raise Busy(f"the files of {partition} at {address} have been rewritten by another process")
    now = int(time.time() * 1000)
    removed = [RemoveAction(file.path, False, now, file.bytes, partition) for file in files]
    added = [AddAction(f.path, f.size, f.partition_values, f.modification_time, False, f.stats) for f in new]
    try:
        commit(table, [*added, *removed])
    except CommitFailedError as error:
        raise Busy(f"another process changes the files of {partition} at {address}: {error}") from None


def _sorted_parts(address: str, files: Sequence[DataFile], target: int) -> Iterator[pa.Table]:
    """The rows, by parts of the sky in their order, each about `target` bytes."""
    parts = -(-sum(file.bytes for file in files) // target)
    tables = (read_file(address, file.path) for file in files)
    if parts == 1:
        yield pa.concat_tables(tables)
        return
    bounds = _bounds(address, files, parts)
    with tempfile.TemporaryDirectory(prefix="zads-optimize-") as folder:
        dealt = [Path(folder, f"{part}.arrow") for part in range(len(bounds) + 1)]
        _deal(tables, bounds, dealt)
        for file in dealt:
            if file.exists():
                with pa.memory_map(str(file)) as memory:
                    yield pa.ipc.open_stream(memory).read_all()
                file.unlink()


def _deal(tables: Iterable[pa.Table], bounds: np.ndarray, files: Sequence[Path]) -> None:
    """Each table's rows to the part of the sky that they are in; every table is in the order of the sky."""
    writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
    try:
        for table in tables:
            cuts = [0, *np.searchsorted(_cells(table), bounds).tolist(), table.num_rows]
            for part, (start, end) in enumerate(itertools.pairwise(cuts)):
                if end > start:
                    if part not in writers:
                        writers[part] = pa.ipc.new_stream(str(files[part]), table.schema)
                    writers[part].write_table(table.slice(start, end - start))
    finally:
        for writer in writers.values():
            writer.close()


def _bounds(address: str, files: Sequence[DataFile], parts: int) -> np.ndarray:
    """Cells that divide the rows into so many parts of about one size."""
    cells = np.sort(np.concatenate([_cells(read_file(address, file.path, [HEALPIX])) for file in files]))
    return np.unique(cells[[len(cells) * part // parts for part in range(1, parts)]])


def _cells(table: pa.Table) -> np.ndarray:
    """Rows without a position come last."""
    return np.asarray(table[HEALPIX].fill_null(_LAST).combine_chunks())


def _bodies(table: pa.Table) -> list[Buffer]:
    """The bodies, uncopied."""
    found: list[Buffer] = []
    for chunk in table[BODY].chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        content = memoryview(data).cast("B") if data is not None else memoryview(b"")
        found += [content[start:end] for start, end in itertools.pairwise(ends)]
    return found
