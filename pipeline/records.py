"""One Avro container file with several packets, taken apart into one file for each."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
from fastavro.schema import parse_schema

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
_LONG: Any = parse_schema({"type": "long"})


def split_records(raw: bytes) -> list[bytes]:
    """A container file of its own for each record of the container file `raw`, same schema, uncompressed.

    The records' bytes are cut out, not decoded and encoded again. Raises what fastavro raises on a file
    that is no container file or is corrupt: callers split only what has been read before.
    """
    header: Any = fastavro.schemaless_reader(io.BytesIO(raw), HEADER, None)
    schema = parse_schema(json.loads(header["meta"]["avro.schema"]))
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
            single.append(b"".join((head, _encoded(_LONG, 1), _encoded(_LONG, len(body)), body, header["sync"])))
    return single


def _encoded(schema: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, value)
    return stream.getvalue()
