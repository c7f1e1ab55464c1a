"""The writer schemas of an archive's bodies, once each. Table PATH/schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from archive.layout import SCHEMAS, SCHEMAS_SCHEMA, table_of
from archive.tables.store import commit, plain_table, read_table, write_file
from schemas.avro.writer import WriterSchema


class SchemaKeeper:
    """Adds the writer schemas of an archive's bodies. Each writer has one; it remembers them."""

    def __init__(self, archive: str, survey: str) -> None:
        self._archive, self._survey = archive, survey
        self._kept: set[str] = set()

    def keep(self, schemas: Mapping[str, WriterSchema], versions: Mapping[str, str | None]) -> None:
        """Add those that are not there. Before the rows, so that no body is without its schema.

        schemas, versions: writer schema, and what packets call it, by fingerprint.
        """
        new = {name: writer for name, writer in schemas.items() if name not in self._kept}
        if not new:
            return
        there = schemas_of(self._archive)
        rows = [
            {
                "fingerprint": name,
                "survey": self._survey,
                "version": versions.get(name) or str(writer.schema.get("version", "")),
                "schema": json.dumps(writer.schema),
            }
            for name, writer in new.items()
            if name not in there
        ]
        if rows:
            address = table_of(self._archive, SCHEMAS)
            table = plain_table(address, SCHEMAS_SCHEMA)
            commit(table, [write_file(address, pa.Table.from_pylist(rows, SCHEMAS_SCHEMA))])
        self._kept.update(new)


def schemas_of(archive: str) -> dict[str, Any]:
    """Every writer schema of the archive, parsed JSON, by fingerprint.

    Two writers at the same time may write a schema twice; both are equal.
    """
    return {row["fingerprint"]: json.loads(row["schema"]) for row in _rows(archive)}


def versions_of(archive: str) -> dict[str, list[str]]:
    """The fingerprints of each version of a survey's schemas: "ztf 4.01"."""
    found: dict[str, set[str]] = {}
    for row in _rows(archive):
        found.setdefault(f"{row['survey']} {row['version'] or '?'}", set()).add(row["fingerprint"])
    return {version: sorted(found[version]) for version in sorted(found)}


def _rows(archive: str) -> list[dict[str, Any]]:
    return read_table(table_of(archive, SCHEMAS), SCHEMAS_SCHEMA).to_pylist()
