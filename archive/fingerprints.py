"""The writer schemas of an archive's bodies, once each. Table PATH/schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from archive.layout import SCHEMAS, SCHEMAS_SCHEMA, table_of
from archive.store import commit, filesystem_of, plain_table, write_file
from schemas.writer import WriterSchema

_kept: set[tuple[str, str]] = set()  # by this process: archive, fingerprint


def keep_schemas(archive: str, survey: str, schemas: Mapping[str, WriterSchema]) -> None:
    """Add those that are not there. Before the rows, so that no body is without its schema."""
    new = {name: writer for name, writer in schemas.items() if (archive, name) not in _kept}
    if not new:
        return
    there = schemas_of(archive)
    rows = [
        {
            "fingerprint": name,
            "survey": survey,
            "version": str(writer.schema.get("version", "")),
            "schema": json.dumps(writer.schema),
        }
        for name, writer in new.items()
        if name not in there
    ]
    if rows:
        address = table_of(archive, SCHEMAS)
        table = plain_table(address, SCHEMAS_SCHEMA)
        commit(table, [write_file(address, pa.Table.from_pylist(rows, SCHEMAS_SCHEMA))])
    _kept.update((archive, name) for name in new)


def schemas_of(archive: str) -> dict[str, Any]:
    """Every writer schema of the archive, parsed JSON, by fingerprint.

    Written by two at once, a schema may be there twice: the same.
    """
    address = table_of(archive, SCHEMAS)
    if not DeltaTable.is_deltatable(address):
        return {}
    filesystem, root = filesystem_of(address)
    found = {}
    for path in pa.table(DeltaTable(address).get_add_actions())["path"].to_pylist():
        with filesystem.open_input_file(f"{root}/{path}") as stream:
            for row in pq.ParquetFile(stream).read().to_pylist():
                found[row["fingerprint"]] = json.loads(row["schema"])
    return found
