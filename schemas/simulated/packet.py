"""Bytes of a packet: a single-record Avro container file with the null codec, as the survey sends it.

fastavro writes each record once, in the schema's own terms; the bodies are joined here. A history row is the
same bytes in every alert that carries it, so joining is right by construction and many times faster than
writing 2,500 values anew for each alert.
"""

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

_SCHEMAS = Path(__file__).parent.parent / "ztf"
_SYNC = 16


def zigzag(number: int) -> bytes:
    """An Avro long: zigzag, then seven bits a byte, lowest first (Avro specification, Binary encoding)."""
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


class RecordWriter:
    """Writes records of one schema to bare Avro bytes."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = fastavro.parse_schema(dict(schema))
        self._buffer = io.BytesIO()

    def __call__(self, record: Mapping[str, Any]) -> bytes:
        self._buffer.seek(0)
        self._buffer.truncate()
        fastavro.schemaless_writer(self._buffer, self._schema, record)
        return self._buffer.getvalue()


class PacketWriter:
    """Joins encoded parts into packets of one schema version.

    Raises ValueError for a version that is not in schemas/ztf.
    """

    def __init__(self, version: str) -> None:
        known = sorted(p.stem for p in _SCHEMAS.glob("*.avsc"))
        if version not in known:
            raise ValueError(f"no ZTF schema {version!r} to simulate: there are {', '.join(known)}")
        self.version = version
        self.schema: dict[str, Any] = json.loads((_SCHEMAS / f"{version}.avsc").read_text())
        self._fields = {f["name"]: f["type"] for f in self.schema["fields"]}
        self.candidate = RecordWriter(self._fields["candidate"])
        self.previous = RecordWriter(_branch(self._fields["prv_candidates"], "array")["items"])
        self.has_forced = "fp_hists" in self._fields
        if self.has_forced:
            rows = _branch(self._fields["fp_hists"], "array")["items"]
            names = [f["name"] for f in rows["fields"]]
            # What belongs to the exposure comes first and is the same for all its alerts; what belongs to
            # the object's reference source comes last and is the same for all its rows of one band.
            first, last = names.index("forcediffimflux"), names.index("distnr")
            parts = {"exposure": slice(first), "flux": slice(first, last), "reference": slice(last, None)}
            writers = [
                RecordWriter(rows | {"name": n, "fields": rows["fields"][s]}) for n, s in parts.items()
            ]
            self.forced_exposure, self.forced_flux, self.forced_reference = writers
        self._header = _header(self.schema)

    def packet(self, parts: Mapping[str, Any], sync: bytes) -> bytes:
        """One packet: `parts` hold strings, longs, the encoded candidate, lists of encoded rows, and stamps
        as (file name, bytes); a part that is None or absent becomes null."""
        body = b"".join(self._part(name, parts.get(name)) for name in self._fields)
        return b"".join((self._header, sync, b"\x02", zigzag(len(body)), body, sync))

    def _part(self, name: str, value: Any) -> bytes:
        kind = self._fields[name]
        if isinstance(kind, list):
            chosen = next(i for i, branch in enumerate(kind) if (branch == "null") == (value is None))
            return zigzag(chosen) + (b"" if value is None else _value(value))
        return _value(value)


def _value(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return zigzag(value)
    if isinstance(value, str):
        text = value.encode()
        return zigzag(len(text)) + text
    if isinstance(value, tuple):  # a stamp
        return _value(value[0]) + zigzag(len(value[1])) + value[1]
    return _array(value)


def _array(rows: Sequence[bytes]) -> bytes:
    return zigzag(len(rows)) + b"".join(rows) + b"\x00" if rows else b"\x00"


def _branch(union: Sequence[Any], kind: str) -> dict[str, Any]:
    return next(b for b in union if isinstance(b, dict) and b["type"] == kind)


def _header(schema: dict[str, Any]) -> bytes:
    """A container's magic and metadata, up to the sync marker, written by fastavro."""
    out = io.BytesIO()
    fastavro.writer(out, schema, [], codec="null", sync_marker=bytes(_SYNC))
    return out.getvalue()[:-_SYNC]


@cache
def packet_writer(version: str) -> PacketWriter:
    """The writer of a schema version, one a process."""
    return PacketWriter(version)
