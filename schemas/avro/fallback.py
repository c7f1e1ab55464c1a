"""Records as fastavro gives them -> Arrow columns: any schema, slowly.

The fast walk (schemas/avro/walk.py) reads all that real surveys send; what it cannot read, such as unions of
several types or maps, is read here. Same columns, same refusals.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import fastavro
import pyarrow as pa

from schemas.avro.framing import Block, Framed
from schemas.avro.writer import smallest
from schemas.errors import CorruptValue, TooLarge, Truncated
from schemas.surveys.arrow import EVERYTHING, Column

MAX_RECORDS = 1_000_000
_MOST_FLOAT32 = 3.4028234663852886e38

_CORRUPT = (ValueError, IndexError, KeyError, TypeError, OverflowError, AssertionError, RecursionError)


def records_of(framed: Framed) -> list[dict[str, Any]]:
    """Every record of a packet through fastavro. Raises PacketError."""
    return [record for block in framed.blocks for record in _records(framed, block)]


def _records(framed: Framed, block: Block) -> list[dict[str, Any]]:
    check_count(block, smallest(framed.writer.tree))
    stream = io.BytesIO(block.body)
    parsed = framed.writer.parsed
    try:
        records: Any = [fastavro.schemaless_reader(stream, parsed, None) for _ in range(block.records)]
    except EOFError as error:
        raise Truncated(f"the body ends within a value, after {len(block.body):,} bytes") from error
    except MemoryError as error:
        raise TooLarge("a value announces more bytes than there is memory") from error
    except _CORRUPT as error:
        raise CorruptValue(f"before byte {stream.tell()} of the body: {error}") from error
    if stream.tell() != len(block.body):
        raise CorruptValue(f"{len(block.body) - stream.tell():,} bytes follow the last record")
    return records


def check_count(block: Block, each: int) -> None:
    """Refuse counts of records that cannot be in the bytes. Raises CorruptValue, TooLarge."""
    if block.records * each > len(block.body):
        raise Truncated(f"{block.records:,} records cannot be in {len(block.body):,} bytes")
    if block.records > MAX_RECORDS:
        raise TooLarge(f"a block has {block.records:,} records, more than {MAX_RECORDS:,}")


def arrow_columns(records: Sequence[Any], columns: Sequence[Column]) -> list[pa.Array]:
    """One Arrow array for each column. Raises CorruptValue when a value has no place in its type."""
    arrays = []
    for column in columns:
        values = [_value(record, column.places) for record in records]
        try:
            arrays.append(fitted(values, column.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise CorruptValue(f"{column.name} is no {column.type}: {error}") from error
    return arrays


def fitted(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Python values as an Arrow array of the type, promoted as Avro has it.

    Raises ValueError, TypeError or an Arrow error for a value that does not fit: it is refused, never
    changed.
    """
    return pa.array([_fitted(value, kind) for value in values], kind)


def _fitted(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_floating(kind) and isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
        if kind == pa.float32() and math.isfinite(number) and abs(number) > _MOST_FLOAT32:
            raise ValueError(f"{value} does not fit {kind}")
        return number
    if pa.types.is_integer(kind) and isinstance(value, bool):
        raise TypeError(f"{value} is no {kind}")
    if pa.types.is_string(kind) and isinstance(value, bytes):
        return value.decode()
    if pa.types.is_large_binary(kind) and isinstance(value, str):
        return value.encode()
    if pa.types.is_large_list(kind) and isinstance(value, list):
        return [_fitted(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {part.name: _fitted(value.get(part.name), part.type) for part in kind}
    return value


def _value(record: Any, places: Sequence[str]) -> Any:
    """The value at the first of the places that the record has."""
    for place in places:
        if place == EVERYTHING:
            return record
        path = place.split(".")
        if _is_there(record, path):
            return _at(record, path)
    begun = (path for place in places if (path := place.split("."))[0] in record)
    return _at(record, next(begun, []) or ["?"])


def _is_there(value: Any, path: Sequence[str]) -> bool:
    """Whether a record has a field at the path; of what is in arrays some item must have it."""
    if not path or value is None:
        return True
    if isinstance(value, list):
        return not value or any(_is_there(item, path) for item in value)
    return isinstance(value, dict) and path[0] in value and _is_there(value[path[0]], path[1:])


def _at(value: Any, path: Sequence[str]) -> Any:
    if not path or value is None:
        return value
    if isinstance(value, list):
        return [_at(item, path) for item in value]
    return _at(value.get(path[0]), path[1:]) if isinstance(value, dict) else None
