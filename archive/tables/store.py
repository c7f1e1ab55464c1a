"""The tables of an archive: made when first needed, files written with pyarrow and committed to Delta.

Each of these may raise StoreAway and StoreRefused, where the archive is in an object store.

A data file is written whole under a name of its own, and is part of the table only once a commit of the Delta
log names it: a reader never sees half a file, and what a killed writer leaves is removed by `vacuum`.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from archive.layout import (
    BODY,
    ROW_GROUP_BYTES,
    ROW_GROUP_ROWS,
    limited,
    partitions,
    statistics,
    table_schema,
)
from archive.tables.faults import store_faults
from schemas.avro.framing import Buffer
from schemas.errors import ZadsError
from schemas.surveys.registry import SURVEYS

# What Hive's convention and Delta writers name the folder of a null.
_NULL = "__HIVE_DEFAULT_PARTITION__"
_PACKED = ("raw",)  # packets that nothing could read: what they hold may be compressed already


class NoSuchArchive(ZadsError):
    """There is no table at the address."""


class BadAddress(ZadsError):
    """An archive cannot be at the address."""


def open_table(address: str) -> DeltaTable:
    """The table as it is now. Raises NoSuchArchive, BadAddress."""
    try:
        with store_faults(address):
            return DeltaTable(checked(address))
    except TableNotFoundError:
        raise NoSuchArchive(
            f"no archive table at {address}", hint="`zads archive ingest PATH` makes one"
        ) from None


def survey_table(address: str, survey: str = "ztf") -> DeltaTable:
    """A survey's table, made if it is not there."""
    schema, limited = table_schema(survey), ",".join(statistics(survey))
    return _made(address, schema, list(partitions(survey)), f"alerts of {survey}", limited)


def surveys_in(archive: str) -> list[str]:
    """The surveys that the archive has a table of. Raises NoSuchArchive when there is none."""
    there = _surveys_in(archive)
    if not there:
        raise NoSuchArchive(f"no archive table in {archive}", hint="`zads archive ingest PATH` makes one")
    return there


def is_archive(archive: str) -> bool:
    """Whether there is a table of any survey."""
    return bool(_surveys_in(archive))


def _surveys_in(archive: str) -> list[str]:
    return [name for name in SURVEYS if is_table(f"{archive.rstrip('/')}/{name}")]


def plain_table(address: str, schema: pa.Schema) -> DeltaTable:
    """A table without partitions, made if it is not there."""
    columns = ",".join(name for name in schema.names if name in ("reason", "fingerprint", "_ingested"))
    return _made(address, schema, [], "", columns)


def _made(
    address: str, schema: pa.Schema, partition_by: list[str], description: str, columns: str
) -> DeltaTable:
    with store_faults(address):
        if not is_table(address):
            DeltaTable.create(
                address,
                Schema.from_arrow(schema),
                mode="ignore",
                partition_by=partition_by,
                description=description,
                configuration={"delta.dataSkippingStatsColumns": columns},
            )
        return DeltaTable(address)


def is_table(address: str) -> bool:
    """Whether there is a table at the address. Raises BadAddress."""
    with store_faults(address):
        return DeltaTable.is_deltatable(checked(address))


def checked(address: str) -> str:
    """The address. Raises BadAddress for a folder that deltalake would take for another one.

    It reads percent signs and backslashes in a path as a URL has them: "a%20b" would be the folder "a b".
    """
    path = filesystem_of(address)[1] if _is_local(address) else ""
    if unquote(path) != path or "\\" in path or any(ord(letter) < 32 for letter in path):
        raise BadAddress(
            f"an archive cannot be in {path!r}: its table format reads % and \\ in a path as URLs have them",
            hint="choose a folder whose path has no %20, no backslash and no line break",
        )
    return address


def write_file(
    address: str,
    rows: pa.Table,
    partition: Mapping[str, str | None] | None = None,
    bodies: Sequence[Buffer] | None = None,
    packed: bool = False,
) -> AddAction:
    """Write one data file and return the action that commits it.

    Parameters
    ----------
    address
        Address of the table.
    rows
        Its rows, without the column `_body`.
    partition
        Value of each partition column, None for null.
    bodies
        The column `_body`, one for each row; None for a table without it.
    packed
        Whether most of a body is compressed already (see `Stamps`), so that it is stored as it is.
    """
    values = dict(partition or {})
    folder = "".join(f"{key}={_NULL if value is None else value}/" for key, value in values.items())
    name = f"{folder}{uuid.uuid4()}.parquet"
    filesystem, root = filesystem_of(address)
    with store_faults(address):
        filesystem.create_dir(f"{root}/{folder}".rstrip("/"), recursive=True)
        with filesystem.open_output_stream(f"{root}/{name}") as stream:
            write_parquet(stream, rows, bodies, packed)
            size = stream.tell()
    return AddAction(name, size, values, int(time.time() * 1000), True, _statistics(rows))


def write_parquet(
    stream: Any, rows: pa.Table, bodies: Sequence[Buffer] | None = None, packed: bool = False
) -> None:
    """Write rows as Parquet, compressed where it helps.

    Parameters
    ----------
    stream
        An open file.
    rows
        The rows, without the column `_body`.
    bodies
        The column `_body`, one for each row; None for a table without it.
    packed
        Whether bodies are stored as they are.
    """
    plain = (*_PACKED, BODY) if packed else _PACKED
    schema = rows.schema if bodies is None else rows.schema.append(pa.field(BODY, pa.binary()))
    with pq.ParquetWriter(
        stream,
        schema,
        compression={leaf: "NONE" if f.name in plain else "ZSTD" for f in schema for leaf in _leaves(f)},
        use_dictionary=[leaf for f in schema if _repeats(f) for leaf in _leaves(f)],
        write_statistics=[leaf for f in schema if f.name in limited() for leaf in _leaves(f)],
        store_schema=False,
    ) as writer:
        if bodies is None:
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
            return
        memory = _BodyMemory()
        for start, end in _row_groups(bodies):
            group = rows.slice(start, end - start)
            writer.write_table(group.append_column(BODY, memory.column(bodies[start:end])), end - start)


def _row_groups(bodies: Sequence[Buffer]) -> Iterator[tuple[int, int]]:
    """First row and end of each row group."""
    start, size = 0, 0
    for row, body in enumerate(bodies):
        size += len(body)
        if size >= ROW_GROUP_BYTES or row + 1 - start >= ROW_GROUP_ROWS:
            yield start, row + 1
            start, size = row + 1, 0
    if start < len(bodies):
        yield start, len(bodies)


class _BodyMemory:
    """Memory for the bodies of one row group after the other: touching new memory costs more than copying."""

    _local = threading.local()

    def column(self, bodies: Sequence[Buffer]) -> pa.Array:
        """The bodies as one array, which is good until the next call in this thread."""
        offsets = np.zeros(len(bodies) + 1, np.int32)
        np.cumsum([len(body) for body in bodies], out=offsets[1:])
        memory = self._of_size(int(offsets[-1]))
        for start, end, body in zip(offsets[:-1].tolist(), offsets[1:].tolist(), bodies, strict=True):
            memory[start:end] = body
        return pa.Array.from_buffers(
            pa.binary(), len(bodies), [None, pa.py_buffer(offsets), pa.py_buffer(memory)]
        )

    def _of_size(self, size: int) -> memoryview:
        memory = getattr(self._local, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._local.memory = memoryview(bytearray(max(size, 1) * 5 // 4))
        return memory


def _leaves(field: pa.Field) -> list[str]:
    """The paths by which Parquet knows a column's values."""
    if not pa.types.is_list(field.type):
        return [field.name]
    items = field.type.value_type
    inner = [f".{part.name}" for part in items] if pa.types.is_struct(items) else [""]
    return [f"{field.name}.list.element{part}" for part in inner]


def _repeats(field: pa.Field) -> bool:
    """Words and whole numbers repeat; measured values and identities do not."""
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    return (pa.types.is_string(kind) or pa.types.is_integer(kind)) and field.name not in (
        "candid",
        "objectId",
        "_healpix_29",
        "_digest",
        "_offset",
    )


def _statistics(rows: pa.Table) -> str:
    """A file's statistics as the Delta log holds them: no limits of a column with an infinite one, for which
    JSON has no word."""
    least, greatest, nulls = {}, {}, {}
    for name in limited():
        if name in rows.schema.names and rows.num_rows and not pa.types.is_nested(rows[name].type):
            bounds = pc.min_max(rows[name])
            nulls[name] = rows[name].null_count
            low, high = _json_value(bounds["min"]), _json_value(bounds["max"])
            if low is not None and high is not None:
                least[name], greatest[name] = low, high
    told = {"numRecords": rows.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}
    return json.dumps(told, allow_nan=False)


def _json_value(value: pa.Scalar) -> Any:
    plain = value.as_py()
    if hasattr(plain, "isoformat"):
        return plain.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def commit(
    table: DeltaTable,
    files: Sequence[AddAction | RemoveAction],
    marks: Mapping[str, int] | None = None,
    why: Mapping[str, str] | None = None,
) -> None:
    """Add and remove files of a table in one commit.

    Parameters
    ----------
    table
        The table, as it was loaded.
    files
        The actions, as `write_file` returns them.
    marks
        Application id -> new version: how far a source has been written.
    why
        Notes for the table's log.

    Raises
    ------
    CommitFailedError
        When another writer has moved one of the marks since `table` was loaded; nothing is added.
    """
    transactions = [Transaction(app, version) for app, version in (marks or {}).items()]
    properties = CommitProperties(custom_metadata=dict(why or {}), app_transactions=transactions)
    columns = table.metadata().partition_columns
    with store_faults(table.table_uri):
        table.create_write_transaction(
            list(files), "append", table.schema(), columns, commit_properties=properties
        )


def read_file(address: str, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A data file of a table, or some of its columns.

    Parameters
    ----------
    address
        Address of the table.
    path
        Path of the file within the table, as in the Delta log.
    columns
        Names of columns; None: all.
    """
    filesystem, root = filesystem_of(address)
    with store_faults(address), filesystem.open_input_file(f"{root}/{path}") as stream:
        return pq.ParquetFile(stream).read(columns=None if columns is None else list(columns))


def read_table(address: str, schema: pa.Schema) -> pa.Table:
    """All of a table without partitions, the columns of `schema`; no rows where there is no table."""
    if not is_table(address):
        return schema.empty_table()
    paths = pa.table(open_table(address).get_add_actions())["path"].to_pylist()
    parts = [read_file(address, path, schema.names) for path in paths]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def delete_files(address: str, files: Sequence[AddAction]) -> None:
    """Remove files that were written and will not be committed."""
    filesystem, root = filesystem_of(address)
    with store_faults(address):
        for file in files:
            filesystem.delete_file(f"{root}/{file.path}")


def filesystem_of(address: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of an address and the path in it."""
    if _is_local(address):
        path = unquote(address.removeprefix("file://")) if address.startswith("file://") else address
        return pa.fs.LocalFileSystem(), os.path.abspath(path)
    return pa.fs.FileSystem.from_uri(address)


def _is_local(address: str) -> bool:
    return address.startswith("file://") or "://" not in address
