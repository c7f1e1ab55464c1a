"""What can still be read of a packet that cannot be read: its schema, and the fields before the damage."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import cramjam
import fastavro
from fastavro.schema import parse_schema

from pipeline.records import HEADER, parsed_schema, writer_schema
from schemas.errors import PacketError
from schemas.framing import SchemaSource

_LONG: Any = parse_schema({"type": "long"})
_CONFLUENT_HEAD = 5
# A count or a size beyond this is damage, not data: the largest real packets are 0.2 MB.
_ABSURD = 100_000_000
# What fastavro, zlib and cramjam raise on damaged bytes.
_DAMAGE = (
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    cramjam.DecompressionError,
)


class _Stopped(Exception):
    """Decoding came no further; says where and why."""


@dataclass
class Anatomy:
    """What could be read of a packet.

    framing: "Avro container file", "Confluent" or "none that is known"; schema: the writer schema's name,
    None when even that cannot be read; fields: how many it has at the top; leading: dotted name ->
    value, in the packet's order, up to the damage; stopped: where and why reading ended, None when the
    whole packet was read.
    """

    framing: str
    schema: str | None = None
    fields: int = 0
    leading: dict[str, Any] = field(default_factory=dict)
    stopped: str | None = None


def dissect(raw: bytes, schemas: SchemaSource | None = None) -> Anatomy:
    """Read of `raw` what can be read. Raises nothing: what is wrong is in the result."""
    container = raw.startswith(b"Obj")
    known = container or raw[:1] == b"\0"
    result = Anatomy(
        "none that is known" if not known else "Avro container file" if container else "Confluent"
    )
    try:
        schema = writer_schema(raw, schemas)
        named: dict[str, Any] = {}
        parsed = parsed_schema(schema, named)
    except PacketError as error:
        result.stopped = str(error)
        return result
    except (*_DAMAGE, fastavro.schema.SchemaParseException) as error:
        result.stopped = f"the schema is not valid: {error}"
        return result
    result.schema = parsed.get("name") if isinstance(parsed, dict) else str(parsed)
    if not isinstance(parsed, dict) or "fields" not in parsed:
        result.stopped = "the schema is not that of a record"
        return result
    result.fields = len(parsed["fields"])
    try:
        body, complaint = _body(raw) if container else (raw[_CONFLUENT_HEAD:], None)
        _walk(io.BytesIO(body), parsed, named, "", result.leading)
        result.stopped = complaint
    except _Stopped as error:
        result.stopped = str(error)
    except _DAMAGE as error:
        result.stopped = f"the first block cannot be read: {error}"
    return result


def _body(raw: bytes) -> tuple[bytes, str | None]:
    """The first block's content, as much as there is of it, and what is wrong with the block itself."""
    stream = io.BytesIO(raw)
    header: Any = fastavro.schemaless_reader(stream, HEADER, None)
    records: Any = fastavro.schemaless_reader(stream, _LONG, None)
    size: Any = fastavro.schemaless_reader(stream, _LONG, None)
    if not 0 <= size < _ABSURD or not 0 < records < _ABSURD:
        raise _Stopped(f"the first block claims {records:,} records in {size:,} bytes")
    content = stream.read(size)
    mark = stream.read(len(header["sync"]))
    complaint = None
    if len(content) < size:
        complaint = f"the file ends {size - len(content):,} bytes before its first block does"
    elif mark != header["sync"]:
        complaint = "the mark at the end of the first block is wrong: bytes were lost, added or changed"
    return _unpacked(content, header["meta"].get("avro.codec", b"null")), complaint


def _unpacked(content: bytes, codec: bytes) -> bytes:
    if codec == b"deflate":
        # Gives what there is of a stream that ends early.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content)
    if codec == b"snappy":
        return bytes(cramjam.snappy.decompress_raw(content[:-4]))
    if codec != b"null":
        raise _Stopped(f"the codec {codec.decode(errors='replace')!r} is not one that zads reads")
    return content


def _walk(body: io.BytesIO, record: Any, named: dict[str, Any], above: str, leading: dict[str, Any]) -> None:
    """Decode a record field by field into `leading`; records within it likewise. Raises _Stopped."""
    for member in record["fields"]:
        name, start = above + member["name"], body.tell()
        try:
            kind = _branch(body, member["type"], named)
        except _DAMAGE as error:
            raise _stopped(name, start, error) from None
        if isinstance(kind, dict) and kind.get("type") == "record":
            _walk(body, kind, named, f"{name}.", leading)
            continue
        try:
            leading[name] = _value(body, kind, named)
        except _DAMAGE as error:
            raise _stopped(name, start, error) from None


def _branch(body: io.BytesIO, kind: Any, named: dict[str, Any]) -> Any:
    """The type of the value that follows: of a union the branch that was written, of a name its type."""
    if isinstance(kind, list):
        number: Any = fastavro.schemaless_reader(body, _LONG, None)
        if not 0 <= number < len(kind):
            raise ValueError(f"branch {number} of a union of {len(kind)}")
        kind = kind[number]
    return named.get(kind, kind) if isinstance(kind, str) else kind


def _value(body: io.BytesIO, kind: Any, named: dict[str, Any]) -> Any:
    """One value. A record of one field has the same bytes as the field, and can be given the named types."""
    single: dict[str, Any] = {
        "type": "record",
        "name": "zads.single",
        "fields": [{"name": "it", "type": kind}],
    }
    single |= {"__fastavro_parsed": True, "__named_schemas": named}
    value: Any = fastavro.schemaless_reader(body, single, None)
    return value["it"]


def _stopped(name: str, start: int, error: BaseException) -> _Stopped:
    why = f"{error}" or type(error).__name__
    return _Stopped(f"the field {name!r}, at byte {start:,} of the record, cannot be read: {why}")
