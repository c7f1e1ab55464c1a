"""What can still be read of a damaged packet: its schema, and the fields before the damage."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, field
from typing import Any

import cramjam
import fastavro

from schemas.avro.framing import MAGIC, MAX_BODY_BYTES, SYNC, Framer, SchemaSource, frame, read_long
from schemas.avro.writer import WriterSchema, writer_schema
from schemas.errors import PacketError, ZadsError

# What fastavro raises on damaged bytes.
_DAMAGE = (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, PacketError)


class _Stopped(Exception):
    """Reading ended here; says where and why."""


@dataclass
class Anatomy:
    """What could be read of a packet.

    framing: "Avro container file", "Confluent" or "none that is known"; schema: the writer schema's name,
    None when even that cannot be read; fields: how many it has at the top; leading: dotted name -> value
    of the first record, in the packet's order, up to the damage; stopped: where and why reading ended,
    None when all of the first record was read and its block is whole.
    """

    framing: str
    schema: str | None = None
    fields: int = 0
    leading: dict[str, Any] = field(default_factory=dict)
    stopped: str | None = None


def dissect(raw: bytes, schemas: SchemaSource | None = None) -> Anatomy:
    """Read what can be read. Never raises: the result says what is wrong."""
    container = raw.startswith(MAGIC)
    confluent = not container and raw[:1] == b"\0"
    result = Anatomy(
        "Avro container file" if container else "Confluent" if confluent else "none that is known"
    )
    try:
        if container:
            _read_container(raw, result)
        else:
            framed = frame(raw, schemas)
            _read_record(framed.writer, bytes(framed.blocks[0].body), result)
    except (_Stopped, ZadsError) as error:
        result.stopped = str(error)
    return result


def _read_container(raw: bytes, result: Anatomy) -> None:
    """The first record of the first block, as much as there is of it. Raises PacketError, _Stopped."""
    header = Framer().header(raw)
    _name(header.writer, result)
    at = len(header.raw) + SYNC
    records, at = read_long(raw, at)
    size, at = read_long(raw, at)
    if records < 1 or not 0 <= size <= MAX_BODY_BYTES:
        raise _Stopped(f"the first block claims {records:,} records in {size:,} bytes")
    left = len(raw) - at - SYNC
    _read_record(header.writer, _unpacked(raw[at : at + size], header.codec), result)
    if left < size:
        raise _Stopped(f"the first block claims {size:,} bytes, {max(left, 0):,} are left for it")
    if raw[at + size : at + size + SYNC] != raw[len(header.raw) : len(header.raw) + SYNC]:
        raise _Stopped("the first block does not end in the file's sync marker: bytes were lost or added")


def _unpacked(content: bytes, codec: str) -> bytes:
    try:
        if codec == "deflate":
            # Gives what there is of a stream that ends early.
            return zlib.decompressobj(wbits=-15).decompress(content, MAX_BODY_BYTES)
        if codec == "snappy":
            return bytes(cramjam.snappy.decompress_raw(content[:-4]))
    except (zlib.error, cramjam.DecompressionError, ValueError) as error:
        raise _Stopped(f"the first block cannot be decompressed: {error}") from None
    return content


def _name(writer: WriterSchema, result: Anatomy) -> None:
    result.schema = writer.tree.get("name")
    result.fields = len(writer.tree["fields"])


def _read_record(writer: WriterSchema, body: bytes, result: Anatomy) -> None:
    _name(writer, result)
    _walk(io.BytesIO(body), writer.tree, "", result.leading)


def _walk(body: io.BytesIO, record: Any, above: str, leading: dict[str, Any]) -> None:
    """Decode a record field by field into `leading`; records within it likewise. Raises _Stopped."""
    for member in record["fields"]:
        name, start = above + member["name"], body.tell()
        try:
            kind = _branch(body, member["type"])
            nested = kind["type"] == "record"
            if not nested:
                leading[name] = _value(body, kind)
        except _DAMAGE as error:
            why = str(error) or type(error).__name__
            raise _Stopped(f"{name!r}, at byte {start:,} of the record, cannot be read: {why}") from None
        if nested:
            _walk(body, kind, f"{name}.", leading)


def _branch(body: io.BytesIO, kind: Any) -> Any:
    """The type of the value that follows: of a union the branch that was written."""
    if not isinstance(kind, list):
        return kind
    number, at = read_long(body.getbuffer(), body.tell())
    if not 0 <= number < len(kind):
        raise ValueError(f"branch {number} of a union of {len(kind)}")
    body.seek(at)
    return kind[number]


def _value(body: io.BytesIO, kind: Any) -> Any:
    """One value; a record of one field has the same bytes as the field."""
    if kind["type"] == "null":
        return None
    single = writer_schema({"type": "record", "name": "single", "fields": [{"name": "it", "type": kind}]})
    value: Any = fastavro.schemaless_reader(body, single.parsed, None)
    return value["it"]
