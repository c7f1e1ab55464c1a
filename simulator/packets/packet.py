"""Bytes of a packet: a single-record Avro container file with the null codec, as the survey sends it.

Candidate and history rows are written by `encode`; here they are joined in the order of the schema.
"""

import io
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

from schemas import surveys
from simulator.packets.encode import RecordEncoder, zigzag

_SCHEMAS = Path(surveys.__path__[0]) / "ztf"
_SYNC = 16
# The survey's 4.02 has the fields of 4.01: the 130 real packets of it that we hold differ in nothing else
# that survived their rewriting.
_SAME_FIELDS = {"4.02": "4.01"}


def known_versions() -> list[str]:
    """ZTF schema versions that can be simulated."""
    return sorted([*(p.stem for p in _SCHEMAS.glob("*.avsc")), *_SAME_FIELDS])


def ztf_schema(version: str) -> dict[str, Any]:
    """The writer schema of a ZTF version. Raises ValueError for one that is not known."""
    if version not in known_versions():
        raise ValueError(
            f"cannot write ZTF schema {version!r} packets: there are {', '.join(known_versions())}"
        )
    schema = json.loads((_SCHEMAS / f"{_SAME_FIELDS.get(version, version)}.avsc").read_text())
    return _with_version(schema, version) if version in _SAME_FIELDS else schema


def _with_version(schema: Any, version: str) -> Any:
    """A copy whose "version" entries say `version`."""
    if isinstance(schema, list):
        return [_with_version(part, version) for part in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: _with_version(part, version) for key, part in deepcopy(schema).items()}
    return {**copied, "version": version} if "version" in schema else copied


class PacketWriter:
    """Joins encoded parts into packets of one schema version. Raises ValueError for an unknown one."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.schema = ztf_schema(version)
        self._fields = {f["name"]: f["type"] for f in self.schema["fields"]}
        self.candidate = RecordEncoder(self._fields["candidate"])
        self.previous = RecordEncoder(_rows_of(self._fields["prv_candidates"]))
        forced = self._fields.get("fp_hists")
        self.forced = RecordEncoder(_rows_of(forced)) if forced is not None else None
        self._header = _header(self.schema)

    def packet(self, parts: Mapping[str, Any], sync: bytes) -> bytes:
        """One packet: `parts` hold strings, longs, encoded records and arrays, and stamps as (file name,
        bytes); a part that is None or absent becomes null."""
        body = b"".join([self._part(name, parts.get(name)) for name in self._fields])
        return b"".join((self._header, sync, b"\x02", zigzag(len(body)), body, sync))

    def split(self, parts: Mapping[str, Any], sync: bytes, changing: Sequence[str]) -> tuple[bytes, bytes]:
        """The bytes of a packet before and after some parts that change and keep their length.

        Parameters
        ----------
        parts
            The parts, as for `packet`; those that change have their final length.
        sync
            The container's marker, 16 bytes.
        changing
            Names of neighbouring parts, in the schema's order.
        """
        names = list(self._fields)
        first, last = names.index(changing[0]), names.index(changing[-1]) + 1
        body = [self._part(name, parts.get(name)) for name in names]
        head = (self._header, sync, b"\x02", zigzag(sum(map(len, body))), *body[:first])
        return b"".join(head), b"".join((*body[last:], sync))

    def _part(self, name: str, value: Any) -> bytes:
        kind = self._fields[name]
        if not isinstance(kind, list):
            return _value(value)
        for i, branch in enumerate(kind):
            if (branch == "null") == (value is None):
                return bytes((i << 1,)) if value is None else bytes((i << 1,)) + _value(value)
        raise ValueError(f"the field {name!r} has no null, and no value was given")


def _value(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return zigzag(value)
    if isinstance(value, str):
        text = value.encode()
        return zigzag(len(text)) + text
    name, data = value  # a stamp
    return b"".join((zigzag(len(name)), name.encode(), zigzag(len(data)), data))


def _rows_of(union: Sequence[Any]) -> dict[str, Any]:
    """The record in a nullable array."""
    array = next(b for b in union if isinstance(b, dict) and b["type"] == "array")
    return dict(array["items"])


def _header(schema: dict[str, Any]) -> bytes:
    """A container's magic and metadata, up to the sync marker, written by fastavro."""
    out = io.BytesIO()
    fastavro.writer(out, schema, [], codec="null", sync_marker=bytes(_SYNC))
    return out.getvalue()[:-_SYNC]


@cache
def packet_writer(version: str) -> PacketWriter:
    """The writer of a schema version, one a process."""
    return PacketWriter(version)
