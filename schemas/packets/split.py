"""Splits an Avro container file of several packets into one file for each."""

from __future__ import annotations

import io
from typing import Any

import fastavro
from fastavro.schema import parse_schema

from schemas.avro.framing import frame

# Avro specification, "Object Container Files".
_HEADER: Any = parse_schema(
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
_LONG: Any = parse_schema({"type": "long"})


def split_records(raw: bytes) -> list[bytes]:
    """A container file of its own for each record of the container file `raw`: same schema, uncompressed.

    The records' bytes are cut out, not decoded and encoded again. Raises PacketError when the framing is
    damaged; the records themselves have been read before.
    """
    framed = frame(raw)
    header: Any = fastavro.schemaless_reader(io.BytesIO(raw), _HEADER, None)
    header["meta"]["avro.codec"] = b"null"
    head, schema = _encoded(_HEADER, header), framed.writer.parsed
    single = []
    for block in framed.blocks:
        stream = io.BytesIO(block.body)
        for _ in range(block.records):
            start = stream.tell()
            fastavro.schemaless_reader(stream, schema, None)
            body = bytes(block.body[start : stream.tell()])
            counts = _encoded(_LONG, 1) + _encoded(_LONG, len(body))
            single.append(b"".join((head, counts, body, header["sync"])))
    return single


def _encoded(schema: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()
