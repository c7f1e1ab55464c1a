"""What could not be kept as a row: the whole packet, why, and where it came from. Table PATH/quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from archive.layout import QUARANTINE, QUARANTINE_SCHEMA, table_of
from archive.tables.store import commit, delete_files, plain_table, read_table, write_file
from archive.write.rows import Unkept, digest, quarantine_table


class Quarantine:
    """The quarantine of one archive; its table is made when the first packet comes."""

    def __init__(self, archive: str) -> None:
        self._address = table_of(archive, QUARANTINE)
        self._digests: set[int] | None = None

    def add_new(self, unkept: Sequence[Unkept], ingested: int) -> list[Unkept]:
        """Keep those packets that are not there yet, byte for byte; answers which."""
        new = []
        for one in unkept:
            if (made := digest(one.record.raw)) not in self._known():
                self._known().add(made)
                new.append(one)
        if new:
            self.add(new, ingested)
        return new

    def add(
        self,
        unkept: Sequence[Unkept],
        ingested: int,
        marks: Mapping[str, int] | None = None,
        table: DeltaTable | None = None,
    ) -> None:
        """Keep records in the quarantine, and move the marks in the same commit.

        Parameters
        ----------
        unkept
            The records, with the reason of each.
        ingested
            Unix time of the first, microseconds.
        marks
            Application id -> new version.
        table
            The quarantine's table as it was loaded when the marks were read; loaded now where left out.

        Raises
        ------
        CommitFailedError
            When a mark has been moved since the table was loaded; nothing is kept then.
        """
        files = [write_file(self._address, quarantine_table(unkept, ingested))]
        try:
            commit(table or self.table(), files, marks)
        except CommitFailedError:
            delete_files(self._address, files)
            raise

    def table(self) -> DeltaTable:
        """The Delta table, made if it is not there."""
        return plain_table(self._address, QUARANTINE_SCHEMA)

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows: reason, detail, survey, raw, and the source's columns."""
        wanted = QUARANTINE_SCHEMA.names if columns is None else columns
        return read_table(self._address, pa.schema([QUARANTINE_SCHEMA.field(name) for name in wanted]))

    def _known(self) -> set[int]:
        if self._digests is None:
            self._digests = set(np.asarray(self.rows(["_digest"])["_digest"]).tolist())
        return self._digests
