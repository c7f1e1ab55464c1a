"""Avro container files taken apart: the writer schema, and one file for each packet of several."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import fastavro
from fastavro.schema import parse_schema

from schemas.errors import NotAvro, Truncated, UnknownSchema
from schemas.framing import SchemaSource

# Avro 1.11 specification, "Object Container Files".
HEADER: Any = parse_schema(
    {
        "type": "record",
        "name": "org.apache.avro.file.Header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
        ],
    }
)
# Confluent's wire format: byte 0, then the number of the schema in the registry.
_CONFLUENT = struct.Struct(">bI")
_LONG: Any = parse_schema({"type": "long"})


def split_records(raw: bytes) -> list[bytes]:
    """A container file of its own for each record of the container file `raw`, same schema, uncompressed.

    The records' bytes are cut out, not decoded and encoded again. Raises what fastavro raises on a file
    that is no container file or is corrupt: callers split only what has been read before.
    """
    header: Any = fastavro.schemaless_reader(io.BytesIO(raw), HEADER, None)
    schema = parsed_schema(json.loads(header["meta"]["avro.schema"]), {})
    header["meta"]["avro.codec"] = b"null"
    head = _encoded(HEADER, header)
    single = []
    for block in fastavro.block_reader(io.BytesIO(raw)):
        content = block.bytes_.getvalue()
        stream = io.BytesIO(content)
        for _ in range(block.num_records):
            start = stream.tell()
            fastavro.schemaless_reader(stream, schema, None)
            body = content[start : stream.tell()]
            counts = _encoded(_LONG, 1) + _encoded(_LONG, len(body))
            single.append(b"".join((head, counts, body, header["sync"])))
    return single


def parsed_schema(schema: Any, named: dict[str, Any]) -> Any:
    """`schema` made ready for fastavro, its named types added to `named`.

    Defaults are not looked at: they mean nothing to a reader, and some surveys' are not valid.
    """
    return parse_schema(schema, named, _force=True, _ignore_default_error=True)


def writer_schema(raw: bytes, schemas: SchemaSource | None = None) -> dict[str, Any]:
    """The schema that a container file carries, or that a Confluent-framed packet names in `schemas`.

    Raises NotAvro or Truncated, UnknownSchema without `schemas`.
    """
    if raw[:1] == b"\0" and len(raw) > _CONFLUENT.size:
        number = _CONFLUENT.unpack_from(raw)[1]
        if schemas is None:
            raise UnknownSchema(f"the packet names schema {number}; say with --schemas where it is")
        return schemas.schema(number)
    if not raw.startswith(b"Obj\x01"):
        raise NotAvro(f"neither an Avro container file nor Confluent-framed: it begins with {raw[:8]!r}")
    try:
        header: Any = fastavro.schemaless_reader(io.BytesIO(raw), HEADER, None)
        schema: dict[str, Any] = json.loads(header["meta"]["avro.schema"])
    except (EOFError, IndexError, ValueError, KeyError) as error:
        raise Truncated(f"the container file's header cannot be read: {error}") from None
    return schema


def _encoded(schema: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()
