"""A packet with what a channel found in it: a typed record at the end of its schema.

Avro writes a record as its fields one after another. So a field that is added at the end of the writer schema
adds its bytes at the end of the body, and all that was there keeps its bytes. Every Avro reader sees

    annotations: { CHANNEL: { VALUE: number or text, null where it is missing } }

A channel that reads an annotating channel and annotates too adds its own record beside the one before.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from schemas.avro.framing import (
    MAGIC,
    SYNC,
    Block,
    SchemaSource,
    container,
    container_head,
    frame,
    write_long,
)
from schemas.avro.public import ANNOTATIONS, NAMESPACE
from schemas.avro.writer import WriterSchema
from schemas.errors import UnsupportedSchema, ZadsError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
"""What Avro allows as a name (specification, Names)."""

_NULL, _VALUE = write_long(0), write_long(1)  # branches of the union


class BadAnnotation(ZadsError):
    """A name that no Avro field can have."""


def check_annotation(channel: str, values: Mapping[str, str]) -> None:
    """Raise BadAnnotation for a channel, or a value of it, that cannot be a field.

    values: name -> unit, "text" for words.
    """
    fields = [field_of(value) for value in values]
    if not fields or len(set(fields)) < len(fields):
        raise BadAnnotation(
            f"channel {channel} has no values to annotate, or two of one name: {', '.join(fields) or 'none'}",
            hint="a filter gives values (gives={...}), and `values` names columns that travel",
        )
    for what, name in (("the channel's name", channel), *(("the value", field_of(v)) for v in values)):
        if not NAME.fullmatch(name):
            raise BadAnnotation(
                f"{what} {name!r} cannot be the name of an Avro field",
                hint="letters, digits and _, and no digit first",
            )


def field_of(value: str) -> str:
    """What a value is called in the record: a dot becomes an underscore."""
    return value.replace(".", "_")


def annotated(
    raw: bytes,
    channel: str,
    values: Mapping[str, Any],
    units: Mapping[str, str],
    schemas: SchemaSource | None = None,
) -> bytes:
    """The packet, as a container file (null codec), with a record of these values.

    Parameters
    ----------
    raw
        The packet.
    channel
        Name of the record.
    values
        Name -> a number, a text, or None; those that are missing here are null.
    units
        Name -> unit, of every value, in their order; "text" for words.
    schemas
        Where the schema of a packet with Confluent framing is looked up.

    Raises
    ------
    UnsupportedSchema
        For a packet that is no single record, or that has a record of this name already.
    PacketError
        When the packet cannot be read.

    Source
    ------
    Avro specification, "Data Serialization and Deserialization": records and unions.
    """
    framed = frame(raw, schemas)
    if len(framed.blocks) != 1 or framed.blocks[0].records != 1:
        raise UnsupportedSchema("a packet of several records has no place for the annotations of one")
    (block,) = framed.blocks
    body = b"".join([bytes(block.body), *(_encoded(values.get(name), unit) for name, unit in units.items())])
    head = _head(framed.writer, channel, tuple(units.items()))
    sync = raw[-SYNC:] if raw.startswith(MAGIC) else hashlib.blake2b(raw, digest_size=SYNC).digest()
    return container(head, [Block(1, body)], sync)


def _encoded(value: Any, unit: str) -> bytes:
    if value is None:
        return _NULL
    if unit == "text":
        text = str(value).encode()
        return _VALUE + write_long(len(text)) + text
    return _VALUE + struct.pack("<d", float(value))


@lru_cache(maxsize=64)
def _head(writer: WriterSchema, channel: str, units: tuple[tuple[str, str], ...]) -> bytes:
    schema: dict[str, Any] = dict(writer.schema)
    fields = list(schema["fields"])
    record = {
        "type": "record",
        "name": channel,
        "namespace": NAMESPACE,
        "fields": [
            {"name": field_of(name), "type": ["null", "string" if unit == "text" else "double"], "doc": unit}
            for name, unit in units
        ],
    }
    own = {"name": channel, "type": record}
    before = next((field for field in fields if field["name"] == ANNOTATIONS), None)
    if before is None:
        whole = {"type": "record", "name": "Annotations", "namespace": NAMESPACE, "fields": [own]}
        fields.append({"name": ANNOTATIONS, "type": whole})
    else:
        inner = before["type"]
        if fields[-1] is not before or not isinstance(inner, Mapping) or inner.get("namespace") != NAMESPACE:
            raise UnsupportedSchema(f"the packet has a field {ANNOTATIONS!r} that is none of zads")
        if any(field["name"] == channel for field in inner["fields"]):
            raise UnsupportedSchema(f"the packet is annotated by channel {channel} already")
        fields[-1] = {**before, "type": {**inner, "fields": [*inner["fields"], own]}}
    return container_head({**schema, "fields": fields})
