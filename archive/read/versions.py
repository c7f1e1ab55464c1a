"""One row a candid: which rows are replaced by another row with the same candid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from os import cpu_count

import numpy as np
import pyarrow as pa

from archive.layout import VERSION_COLUMNS, newest
from archive.read.columns import PieceReader, Tally
from archive.read.counting import distinct
from archive.read.fragments import NO_ROWS, Piece
from archive.tables.files import DataFile


def superseded(root: str, files: Sequence[DataFile], tally: Tally | None = None) -> dict[str, np.ndarray]:
    """For each path, the numbers of its rows that are not the newest of their candid among these files.

    Files never change, so the result for a set of files is cached.

    Parameters
    ----------
    root
        Address of the table.
    files
        Its files.
    tally
        Counts what was read.
    """
    found: dict[str, np.ndarray] = {}
    for group in _may_share(files):
        rows, read = _of_group(root, tuple((f.path, f.rows) for f in group))
        found |= rows
        if tally is not None:
            tally.add(read)
    return found


def forget() -> None:
    """Clear the cache, for benchmarks."""
    _of_group.cache_clear()


def _may_share(files: Iterable[DataFile]) -> list[list[DataFile]]:
    """The files in groups whose ranges of candids do not overlap: nights, as candids begin with the night."""
    groups: list[list[DataFile]] = []
    highest = None
    known: list[DataFile] = []
    unknown: list[DataFile] = []
    for f in files:
        (known if f.limits.get("candid", (None, None))[0] is not None else unknown).append(f)
    for f in sorted(known, key=lambda f: f.limits["candid"]):
        low, high = f.limits["candid"]
        if highest is None or low > highest:
            groups.append([])
        groups[-1].append(f)
        highest = high if highest is None else max(high, highest)
    return [[*known, *unknown]] if unknown else groups


@lru_cache(maxsize=64)
def _of_group(root: str, files: tuple[tuple[str, int], ...]) -> tuple[dict[str, np.ndarray], Tally]:
    readers = [PieceReader(Piece(root, path, None, None, rows)) for path, rows in files]
    with ThreadPoolExecutor(cpu_count()) as pool:
        candids = list(pool.map(_candids, readers))
    every = np.concatenate(candids) if candids else NO_ROWS
    slots, count = distinct(every)
    found = {} if count == len(every) else _repeats(readers, candids, slots, count)
    tally = Tally()
    for reader in readers:
        tally.add(reader.tally)
    return found, tally


def _candids(reader: PieceReader) -> np.ndarray:
    table, _ = reader.read(["candid"])
    return np.asarray(table["candid"].to_numpy())


def _repeats(
    readers: Sequence[PieceReader], candids: Sequence[np.ndarray], slots: np.ndarray, count: int
) -> dict[str, np.ndarray]:
    """Of the candids that occur more than once, all rows but the newest."""
    repeated = np.bincount(slots, minlength=count)[slots] > 1
    ends = np.cumsum([len(c) for c in candids])
    own = [np.flatnonzero(mine) for mine in np.split(repeated, ends[:-1])]
    places = [(r, rows) for r, rows in zip(readers, own, strict=True) if len(rows)]
    tables = [reader.read(VERSION_COLUMNS)[0].take(pa.array(rows)) for reader, rows in places]
    keep = newest(pa.concat_tables(tables))
    old = np.ones(sum(len(rows) for _, rows in places), bool)
    old[keep] = False
    cuts = np.cumsum([len(rows) for _, rows in places])[:-1]
    return {
        reader.piece.path: rows[mask]
        for (reader, rows), mask in zip(places, np.split(old, cuts), strict=True)
        if mask.any()
    }
