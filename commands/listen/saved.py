"""Packets from Kafka kept as files, one each."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.broker.listen import Alert


class Folder:
    """A folder of `CANDID_TOPIC_PARTITION_OFFSET.avro` files: one for each message, whenever it is read.

    A candid that comes twice is two messages, perhaps of the same bytes. A message that is read once more, by
    another run or after a kill, is the same file again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def keep(self, alert: Alert, candid: int | None) -> Path:
        """Write the alert's bytes as they were sent; returns the file. Raises OSError."""
        name = "unknown" if candid is None else str(candid)
        file = self._path / f"{name}_{alert.topic}_{alert.partition}_{alert.offset}.avro"
        # So a process that watches the folder never sees an incomplete packet.
        unfinished = file.with_suffix(".part")
        unfinished.write_bytes(alert.raw)
        os.replace(unfinished, file)
        return file
