"""Which packets are in the archive already: by candid and digest, night by night."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from archive.layout import NIGHT
from archive.tables.files import data_files
from archive.tables.store import open_table, read_file
from archive.write.rows import Identity

_COLUMNS = ["candid", "_digest"]


class KnownPackets:
    """The packets of a survey's table, each night read when it is first asked for. Safe between threads."""

    def __init__(self, address: str) -> None:
        self.table = open_table(address)
        self._address = address
        self._nights: dict[str | None, _Night] = {}
        self._lock = threading.Lock()

    def __call__(self, packets: Identity, nights: Sequence[str | None]) -> np.ndarray:
        """For each of the packets, of these nights (UT dates), whether it is there: (n,) bool."""
        there = np.zeros(len(packets.digest), bool)
        where = np.array([night or "" for night in nights])
        for night in set(nights):
            rows = where == (night or "")
            there[rows] = self.among(Identity(*(values[rows] for values in packets)), night)
        return there

    def among(self, packets: Identity, night: str | None) -> np.ndarray:
        """The same for packets of one night."""
        with self._lock:
            if night not in self._nights:
                self._nights[night] = known = _Night()
                self._read(night, known)
            return self._nights[night].has(packets)

    def refresh(self) -> None:
        """Read what others have added since."""
        with self._lock:
            self.table.update_incremental()
            for night, known in self._nights.items():
                self._read(night, known)

    def add(self, night: str | None, path: str, packets: Identity) -> None:
        """Note a file that this process has added.

        Parameters
        ----------
        night
            UT date of its partition; None for alerts without a date.
        path
            Path of the file within the table.
        packets
            Its packets.
        """
        with self._lock:
            if night in self._nights:
                self._nights[night].add(path, packets)

    def _read(self, night: str | None, known: _Night) -> None:
        for file in data_files(self.table, self._address):
            if file.partition[NIGHT] == night and file.path not in known.files:
                rows = read_file(self._address, file.path, _COLUMNS)
                known.add(file.path, Identity(*(rows[name].to_numpy() for name in _COLUMNS)))


class _Night:
    """The packets of one night: runs sorted by digest, each at least twice as long as the next."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._runs: list[Identity] = []

    def add(self, path: str, packets: Identity) -> None:
        self.files.add(path)
        self._runs.append(_sorted([packets]))
        while len(self._runs) > 1 and len(self._runs[-2].digest) < 2 * len(self._runs[-1].digest):
            self._runs[-2:] = [_sorted(self._runs[-2:])]

    def has(self, packets: Identity) -> np.ndarray:
        there = np.zeros(len(packets.digest), bool)
        for run in self._runs:
            if len(run.digest):
                place = np.searchsorted(run.digest, packets.digest).clip(max=len(run.digest) - 1)
                there |= (run.digest[place] == packets.digest) & (run.candid[place] == packets.candid)
        return there


def _sorted(runs: Sequence[Identity]) -> Identity:
    candid, digest = (np.concatenate(column) for column in zip(*runs, strict=True))
    order = np.argsort(digest, kind="stable")
    return Identity(candid[order], digest[order])
