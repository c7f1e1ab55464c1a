"""Packets from Kafka kept as files, one each."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.broker.listen import Alert


class Folder:
    """A folder of `<candid>.avro` files.

    A candid that comes twice is two files, as both are kept: the later one is told apart by where it
    was, `<candid>_<topic>_<partition>_<offset>.avro`. Keeping the same alert again in another run
    writes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine: set[str] = set()
        path.mkdir(parents=True, exist_ok=True)

    def keep(self, alert: Alert, candid: int | None) -> Path:
        """Write the alert's bytes as they were sent; returns the file. Raises OSError."""
        place = f"{alert.topic}_{alert.partition}_{alert.offset}"
        name = place if candid is None else str(candid)
        if name in self._mine or not self._free_for(name, alert.raw):
            name = f"{candid}_{place}"
        self._mine.add(name)
        file = self._path / f"{name}.avro"
        # So a process that watches the folder never sees an incomplete packet.
        unfinished = file.with_suffix(".part")
        unfinished.write_bytes(alert.raw)
        os.replace(unfinished, file)
        return file

    def _free_for(self, name: str, raw: bytes) -> bool:
        file = self._path / f"{name}.avro"
        return not file.exists() or file.read_bytes() == raw
