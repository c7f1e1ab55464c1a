"""A batch of alerts in memory that a child sees and cannot change, and back: Arrow columns.

The memory is a file without a name. It is sealed, so that only the process that made it can write to it:
otherwise a filter could change what another one of the same batch sees.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.view import AlertView, OfArrays
from schemas.frame import TEXT, as_pandas

_SEAL_FUTURE_WRITE = 0x10
"""Nobody but who has mapped it before may write. Source: linux/fcntl.h."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
_SPARE, _SPARE_A_COLUMN = 4096, 1024
"""More than names, types and padding take: a batch that is larger than its place is not put there."""
_PLAIN, _FLAGS, _WHOLE, _TEXT, _ARROW = b"plain", b"flags", b"whole", b"text", b"arrow"
"""How a column is to be made again: of NumPy; booleans; "Int64"; words; as Arrow has it."""
_INDEX = b"index"


class Shelf:
    """Memory for one batch after the other.

    Parameters
    ----------
    size
        Bytes that a batch may have.

    Attributes
    ----------
    file
        To be sent to who shall read it.
    """

    def __init__(self, size: int) -> None:
        self.file, self.size = os.memfd_create("batch", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), size
        os.ftruncate(self.file, size)
        self._buffer = pa.py_buffer(mmap.mmap(self.file, size))
        fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, _SEALS)

    def put(self, batch: pa.RecordBatch) -> int:
        """Put a batch in the place of the one before; the bytes that it has."""
        sink = pa.FixedSizeBufferWriter(self._buffer)
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        return int(sink.tell())

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.file)
        del self._buffer


def size_of(batch: pa.RecordBatch) -> int:
    """Bytes that a batch needs at most on a shelf."""
    return int(batch.nbytes + _SPARE + _SPARE_A_COLUMN * batch.num_columns)


def packed(columns: Mapping[str, Any], index: pd.Index) -> pa.RecordBatch:
    """A batch as Arrow has it.

    Parameters
    ----------
    columns
        Name -> pandas or NumPy array, all of one length.
    index
        Of the batch.

    Raises
    ------
    TypeError
        For a column of a type that no frame of alerts has.
    """
    arrays, fields = [], []
    for name, column in columns.items():
        array, how = _arrow(name, column)
        arrays.append(array)
        fields.append((name, array.type, how))
    told = b""
    if isinstance(index, pd.RangeIndex):
        told = f"{index.start},{index.stop},{index.step}".encode()
    else:
        arrays.append(pa.array(index.to_numpy(np.int64)))
        fields.append(("", pa.int64(), b""))
    return pa.RecordBatch.from_arrays(arrays, schema=_schema(tuple(fields), told))


@lru_cache(maxsize=256)
def _schema(fields: tuple[tuple[str, pa.DataType, bytes], ...], index: bytes) -> pa.Schema:
    """Fields of (name, type, how), "" for the index, and what else there is to say of that."""
    made = [pa.field(name, kind, metadata={b"how": how} if how else None) for name, kind, how in fields]
    return pa.schema(made, {_INDEX: index} if index else {})


def view_of(memory: memoryview) -> AlertView:
    """The alerts of a batch, where they are: no copy, and no frame before somebody wants one."""
    with pa.ipc.open_stream(pa.py_buffer(memory)) as stream:
        batch, schema = stream.read_next_batch(), stream.schema
    columns = {}
    index: pd.Index | None = None
    for field, array in zip(schema, batch.columns, strict=True):
        if field.name == "" and not field.metadata:
            index = pd.Index(array.to_numpy())
        else:
            columns[field.name] = _pandas(array, field.metadata[b"how"])
    if index is None:
        start, stop, step = map(int, schema.metadata[_INDEX].split(b","))
        index = pd.RangeIndex(start, stop, step)
    return AlertView(OfArrays(columns, index), columns)


def _arrow(name: str, column: Any) -> tuple[pa.Array, bytes]:
    if isinstance(column, pd.arrays.NumpyExtensionArray):
        column = column.to_numpy()
    if isinstance(column, np.ndarray):
        if column.dtype == bool:
            return pa.array(np.ascontiguousarray(column).view(np.uint8)), _FLAGS
        if column.dtype.kind in "fiu":
            return pa.array(column), _PLAIN
    elif isinstance(column.dtype, pd.ArrowDtype):
        return _one(column), _ARROW
    elif column.dtype == TEXT:
        return _one(column), _TEXT
    elif column.dtype == "Int64":
        return pa.array(column), _WHOLE
    raise TypeError(f"column {name} is {column.dtype}, which the sandbox does not know")


def _one(column: Any) -> pa.Array:
    chunked = column.__arrow_array__()
    if isinstance(chunked, pa.Array):
        return chunked
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    return pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], chunked.type)


def _pandas(array: pa.Array, how: bytes) -> Any:
    if how == _PLAIN:
        return array.to_numpy(zero_copy_only=False)
    if how == _FLAGS:
        return array.to_numpy().view(bool)
    if how == _WHOLE:
        return as_pandas(pd.Int64Dtype(), array)
    return as_pandas(TEXT if how == _TEXT else pd.ArrowDtype(array.type), array)
