"""Which packets are in the archive already: by candid and digest, night by night."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from archive.layout import NIGHT
from archive.rows import Identity, no_identity
from archive.store import filesystem_of

_COLUMNS = ["candid", "_digest"]


class KnownPackets:
    """The packets of one version of a survey's table, each night read when it is first asked for."""

    def __init__(self, address: str, version: int) -> None:
        self._address, self._version = address, version
        self._nights: dict[str | None, Identity] = {}
        self._table: DeltaTable | None = None

    def __call__(self, packets: Identity, nights: Sequence[str | None]) -> np.ndarray:
        """For each of the packets, of these nights, whether it is there."""
        there = np.zeros(len(packets.digest), bool)
        where = np.array([night or "" for night in nights])
        for night in set(nights):
            rows = where == (night or "")
            there[rows] = found(Identity(*(values[rows] for values in packets)), self._night(night))
        return there

    def _night(self, night: str | None) -> Identity:
        if night not in self._nights:
            self._nights[night] = self._read(night)
        return self._nights[night]

    def _read(self, night: str | None) -> Identity:
        if self._table is None:
            self._table = DeltaTable(self._address, version=self._version)
        return digests_of(self._table, night)


def digests_of(table: DeltaTable, night: str | None) -> Identity:
    """Candid and digest of every row of a night, sorted by digest."""
    filesystem, root = filesystem_of(table.table_uri)
    parts = []
    for file in files_of(table, night):
        with filesystem.open_input_file(f"{root}/{file}") as stream:
            parts.append(pq.ParquetFile(stream).read(columns=_COLUMNS))
    if not parts:
        return no_identity()
    return sorted_identity(*(pa.concat_tables(parts)[name].to_numpy() for name in _COLUMNS))


def files_of(table: DeltaTable, night: str | None) -> list[str]:
    """The data files of a night, by their path in the table."""
    adds = pa.table(table.get_add_actions(flatten=True))
    dates = adds[f"partition.{NIGHT}"].to_pylist()
    wanted = [None if date is None else str(date) == night for date in dates]
    return [
        path
        for path, date, same in zip(adds["path"].to_pylist(), dates, wanted, strict=True)
        if same or (date is None and night is None)
    ]


def sorted_identity(candid: np.ndarray, digest: np.ndarray) -> Identity:
    order = np.argsort(digest, kind="stable")
    return Identity(candid[order], digest[order])


def found(packets: Identity, known: Identity) -> np.ndarray:
    """For each of the packets whether it is among `known`, which is sorted by digest."""
    if not len(known.digest):
        return np.zeros(len(packets.digest), bool)
    place = np.searchsorted(known.digest, packets.digest).clip(max=len(known.digest) - 1)
    return (known.digest[place] == packets.digest) & (known.candid[place] == packets.candid)
