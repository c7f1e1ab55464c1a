"""How packets are framed: bytes -> the writer schema and the bare Avro bodies.

Three framings: the Avro object container file (OCF; codecs null, deflate, snappy; any number of blocks and
records), Confluent's (byte 0, four-byte schema id, one datum), and the bare datum of a schema known before.
Rules: Avro specification "Object Container Files", Confluent wire format.
"""

import json
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import cramjam

from schemas.avro.writer import WriterSchema, writer_schema
from schemas.errors import (
    CorruptValue,
    Empty,
    NoSchemaSource,
    NotAvro,
    TooLarge,
    Truncated,
    UnknownSchema,
    UnsupportedCodec,
)
from schemas.surveys.registry import SURVEYS, survey_named

_AGAIN_SECONDS = 0.1

MAGIC = b"Obj\x01"
SYNC = 16
CONFLUENT_HEADER = 5
MAX_BODY_BYTES = 1 << 26
"""Largest body after decompression, 64 MiB, about a thousand alerts: against decompression bombs."""

Buffer = bytes | memoryview


class Block(NamedTuple):
    """Records one after the other, decompressed."""

    records: int
    body: Buffer


class Framed(NamedTuple):
    """A packet taken apart."""

    writer: WriterSchema
    blocks: list[Block]


class Header(NamedTuple):
    """The start of a container file, up to its sync marker, which differs from file to file."""

    raw: bytes
    writer: WriterSchema
    codec: str


class SchemaSource(Protocol):
    """Where the writer schemas of Confluent-framed packets come from. The schema of an id never changes."""

    def schema(self, number: int) -> Mapping[str, Any]:
        """The schema with this id. Raises UnknownSchema (there is none), NoSchemaSource (no answer)."""


_WRITERS: WeakKeyDictionary[SchemaSource, dict[int, WriterSchema]] = WeakKeyDictionary()
"""What the sources have answered, ready to decode with: to find that a schema is a known one takes longer
than to decode a packet."""


def writer_of(source: SchemaSource, number: int) -> WriterSchema:
    """The writer schema with this id; asked for once. Raises PacketError; NoSchemaSource."""
    known = _WRITERS.setdefault(source, {})
    if number not in known:
        known[number] = writer_schema(source.schema(number))
    return known[number]


class FolderSource:
    """Schemas from the files <id>.avsc of a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._known: dict[int, Mapping[str, Any]] = {}

    def schema(self, number: int) -> Mapping[str, Any]:
        if number not in self._known:
            path = self.folder / f"{number}.avsc"
            try:
                self._known[number] = json.loads(path.read_bytes())
            except FileNotFoundError as error:
                raise UnknownSchema(
                    f"schema {number} is not in {self.folder}", hint=f"put it at {path}"
                ) from error
            except (OSError, ValueError) as error:
                raise NoSchemaSource(f"cannot read {path}: {error}") from error
        return self._known[number]


class RoomSource:
    """The schemas in a survey's folder, by the ids of the survey's own registry."""

    def __init__(self, survey: str) -> None:
        self.survey = survey

    def schema(self, number: int) -> Mapping[str, Any]:
        schema = survey_named(self.survey).numbered(number)
        if schema is None:
            raise UnknownSchema(f"schema {number} is not among those of {self.survey} that lie here")
        return schema


class OwnSchemas:
    """The schemas that lie here, of whichever survey: what is used where no source is named.

    A survey whose packets only name their schema (Rubin) needs no setting then. An id that two surveys use is
    nobody's.
    """

    def schema(self, number: int) -> Mapping[str, Any]:
        """The schema with this id. Raises UnknownSchema."""
        found = {name: schema for name, one in SURVEYS.items() if (schema := one.numbered(number))}
        if len(found) == 1:
            return next(iter(found.values()))
        why = f"is one of each of {' and '.join(found)}" if found else "is not among those that lie here"
        raise UnknownSchema(
            f"the packet names schema {number}, which {why}, and no schema source is set",
            hint="name a schema registry, a survey whose schemas lie here (lsst), or a folder of them",
        )


OWN_SCHEMAS = OwnSchemas()


class RegistrySource:
    """Schemas from a Confluent schema registry, asked once for each id.

    Parameters
    ----------
    url
        Address of the registry, http(s)://host:port.
    seconds
        Time to wait for an answer.
    attempts
        How often it is asked before it counts as not answering.
    patience
        Seconds for which a missing id counts as not there yet, because a producer may write before its schema
        has reached every registry. A packet is refused only after them.
    """

    def __init__(self, url: str, seconds: float = 10, attempts: int = 3, patience: float = 0) -> None:
        self.url, self.seconds = url.rstrip("/"), seconds
        self.attempts, self.patience = attempts, patience
        self._known: dict[int, Mapping[str, Any]] = {}
        self._missing_since: dict[int, float] = {}

    def schema(self, number: int) -> Mapping[str, Any]:
        if number not in self._known:
            self._known[number] = self._asked(number)
            self._missing_since.pop(number, None)
        return self._known[number]

    def _asked(self, number: int) -> Mapping[str, Any]:
        for attempt in range(1, self.attempts + 1):
            try:
                return self._ask(f"{self.url}/schemas/ids/{number}", number)
            except NoSchemaSource:
                if attempt == self.attempts:
                    raise
                time.sleep(_AGAIN_SECONDS * 2**attempt)
            except UnknownSchema as error:
                since = self._missing_since.setdefault(number, time.monotonic())
                waited = time.monotonic() - since
                if waited >= self.patience:
                    raise
                raise NoSchemaSource(
                    f"{error}; waiting for it, {waited:.0f} s of {self.patience:.0f} s so far"
                ) from error
        raise AssertionError

    def _ask(self, address: str, number: int) -> Mapping[str, Any]:
        try:
            with urllib.request.urlopen(address, timeout=self.seconds) as answer:
                schema = json.loads(json.load(answer)["schema"])
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise UnknownSchema(f"the schema registry {self.url} has no schema {number}") from error
            raise NoSchemaSource(
                f"the schema registry {self.url} answers {error.code} for {number}"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NoSchemaSource(
                f"no schema {number} from the schema registry {self.url}: {error}",
                hint="is the address right?",
            ) from error
        if not isinstance(schema, dict):
            raise UnknownSchema(f"schema {number} of {self.url} is no record")
        return schema


def schema_source(where: str | Path, patience: float = 0) -> SchemaSource:
    """A registry for an http(s) address, a survey's own schemas for its name, else a folder of them.

    patience: seconds to wait for an id that a registry does not have (yet).
    """
    if str(where).startswith(("http://", "https://")):
        return RegistrySource(str(where), patience=patience)
    return RoomSource(str(where)) if str(where) in SURVEYS else FolderSource(where)


class Framer:
    """Takes packets apart, remembering the container headers that it has seen.

    A header is recognised by comparing its bytes: exact, and much cheaper than hashing 25 kB.
    """

    KEPT = 16

    def __init__(self, schemas: SchemaSource | None = None, bare: Mapping[str, Any] | None = None) -> None:
        self._schemas = OWN_SCHEMAS if schemas is None else schemas
        self._bare = writer_schema(bare) if bare is not None else None
        self._headers: list[Header] = []

    def frame(self, raw: bytes) -> Framed:
        """Raises PacketError; NoSchemaSource when a schema cannot be asked for."""
        if raw[:4] == MAGIC:
            header = self.header(raw)
            return Framed(header.writer, _blocks(raw, len(header.raw), header.codec))
        if self._bare is not None:
            return Framed(self._bare, [Block(1, raw)])
        return self._confluent(raw)

    def header(self, raw: bytes) -> Header:
        """The container header that `raw` starts with. Raises PacketError."""
        return self.known_header(raw) or self._remember(_read_header(raw))

    def known_header(self, raw: bytes) -> Header | None:
        """The header, if it was seen before and not long ago."""
        for place, header in enumerate(self._headers):
            if raw.startswith(header.raw):
                return header if place < 2 else self._remember(header)
        return None

    def _remember(self, header: Header) -> Header:
        # A new list each time: readers in other threads keep using the old one.
        self._headers = [header, *(h for h in self._headers if h is not header)][: self.KEPT]
        return header

    def _confluent(self, raw: bytes) -> Framed:
        if not raw:
            raise NotAvro("the packet is empty")
        if MAGIC.startswith(raw[:4]):
            raise Truncated(f"the packet ends after {len(raw)} bytes")
        if raw[0] != 0:
            raise NotAvro(f"a packet cannot start with the bytes {raw[:4].hex(' ')}")
        if len(raw) < CONFLUENT_HEADER:
            raise Truncated(f"the packet ends after {len(raw)} bytes")
        number = int.from_bytes(raw[1:CONFLUENT_HEADER], "big")
        body = memoryview(raw)[CONFLUENT_HEADER:]
        return Framed(writer_of(self._schemas, number), [Block(1, body)])


def frame(raw: bytes, schemas: SchemaSource | None = None, bare: Mapping[str, Any] | None = None) -> Framed:
    """Split one packet into its writer schema and its blocks of records.

    Parameters
    ----------
    raw
        The packet.
    schemas
        Where the schema of a packet with Confluent framing is looked up.
    bare
        The schema of packets without any framing; with it, everything that is no container file is read as
        one bare record.

    Raises
    ------
    PacketError
        When the packet cannot be split.
    NoSchemaSource
        When a schema cannot be asked for.
    """
    return Framer(schemas, bare).frame(raw)


def read_long(raw: Buffer, at: int) -> tuple[int, int]:
    """A variable-length zigzag long and where the next value starts. Raises Truncated, CorruptValue."""
    value = shift = 0
    while shift < 70:
        if at >= len(raw):
            raise Truncated(f"the packet ends within a number, after {len(raw)} bytes")
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return (value >> 1) ^ -(value & 1), at
        shift += 7
    raise CorruptValue(f"a number before byte {at} is longer than 64 bits")


def write_long(value: int) -> bytes:
    """A long as variable-length zigzag (Avro specification, Binary encoding)."""
    left, out = (value << 1) ^ (value >> 63), bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def container_head(schema: Mapping[str, Any]) -> bytes:
    """The header of a container file with the null codec, up to its sync marker."""
    text = json.dumps(schema, separators=(",", ":")).encode()
    parts = [MAGIC, write_long(2)]
    for key, value in ((b"avro.schema", text), (b"avro.codec", b"null")):
        parts += [write_long(len(key)), key, write_long(len(value)), value]
    return b"".join([*parts, b"\0"])


def container(head: bytes, blocks: Sequence[Block], sync: bytes) -> bytes:
    """A container file (null codec).

    Parameters
    ----------
    head
        The header, as `container_head` makes it.
    blocks
        The blocks of records, decompressed.
    sync
        The marker between blocks: 16 bytes that are unlikely in the data.

    Source
    ------
    Avro specification, "Object Container Files".
    """
    parts: list[Buffer] = [head, sync]
    for block in blocks:
        parts += [write_long(block.records), write_long(len(block.body)), block.body, sync]
    return b"".join(parts)


def _read_sized(raw: bytes, at: int, what: str) -> tuple[bytes, int]:
    size, at = read_long(raw, at)
    if size < 0:
        raise CorruptValue(f"{what} has the length {size}")
    if size > len(raw) - at:
        raise Truncated(f"{what} has {size:,} bytes, {len(raw) - at:,} are left")
    return raw[at : at + size], at + size


def _read_header(raw: bytes) -> Header:
    """Magic and metadata map (Avro specification, Object Container Files)."""
    metadata, at = {}, len(MAGIC)
    while True:
        count, at = read_long(raw, at)
        if count == 0:
            break
        if count < 0:  # then the map's block has its size in bytes as well
            _, at = read_long(raw, at)
        for _ in range(abs(count)):
            key, at = _read_sized(raw, at, "a name in the container header")
            value, at = _read_sized(raw, at, "a value in the container header")
            metadata[key] = value
    if b"avro.schema" not in metadata:
        raise UnknownSchema("the container header has no avro.schema")
    codec = metadata.get(b"avro.codec", b"null").decode("utf-8", "replace")
    if codec not in _CODECS:
        raise UnsupportedCodec(f"the codec is {codec!r}; known are {', '.join(_CODECS)}")
    return Header(raw[:at], writer_schema(metadata[b"avro.schema"]), codec)


def _blocks(raw: bytes, at: int, codec: str) -> list[Block]:
    """Everything after the header: sync marker, then blocks that each end in it."""
    sync = raw[at : at + SYNC]
    if len(sync) < SYNC:
        raise Truncated(f"the packet ends within its header, after {len(raw):,} bytes")
    at += SYNC
    view, left, blocks = memoryview(raw), MAX_BODY_BYTES, []
    while at < len(raw):
        count, at = read_long(raw, at)
        size, at = read_long(raw, at)
        if count < 0 or size < 0:
            raise CorruptValue(f"a block has {count} records in {size} bytes")
        if size + SYNC > len(raw) - at:
            raise Truncated(f"a block has {size:,} bytes, {max(0, len(raw) - at - SYNC):,} are left")
        if raw[at + size : at + size + SYNC] != sync:
            raise CorruptValue("a block does not end in the container's sync marker")
        body = _CODECS[codec](view[at : at + size], left)
        left -= len(body)
        blocks.append(Block(count, body))
        at += size + SYNC
    if not any(block.records for block in blocks):
        raise Empty("the container has no record")
    return blocks


def _plain(body: memoryview, limit: int) -> Buffer:
    if len(body) > limit:
        raise TooLarge(f"the body has {len(body):,} bytes, more than {MAX_BODY_BYTES:,}")
    return body


def _inflated(body: memoryview, limit: int) -> Buffer:
    """RFC 1951, no header (Avro specification, deflate)."""
    stream = zlib.decompressobj(wbits=-15)
    try:
        out = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise CorruptValue(f"a block is no deflate stream: {error}") from error
    if len(out) > limit:
        raise TooLarge(f"a block has more than {limit:,} bytes when decompressed")
    if not stream.eof:
        raise Truncated("a block's deflate stream has no end")
    return out


def _unsnapped(body: memoryview, limit: int) -> Buffer:
    """Snappy, then the CRC-32 of what was compressed, most significant byte first (Avro specification)."""
    if len(body) < 5:
        raise Truncated(f"a snappy block of {len(body)} bytes has no room for its checksum")
    packed = body[:-4]
    size = _snappy_size(packed)
    if size > limit:
        raise TooLarge(f"a block has {size:,} bytes when decompressed, more than {limit:,}")
    try:
        out = bytes(cramjam.snappy.decompress_raw(packed))
    except (cramjam.DecompressionError, ValueError) as error:
        raise CorruptValue(f"a block is not snappy: {error}") from error
    if zlib.crc32(out) != int.from_bytes(body[-4:], "big"):
        raise CorruptValue("a snappy block does not agree with its checksum")
    return out


def _snappy_size(packed: memoryview) -> int:
    """The decompressed size that a snappy stream starts with, a plain varint."""
    size = 0
    for place, byte in enumerate(packed[:5]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return size
    raise CorruptValue("a block is not snappy: it has no length")


_CODECS: dict[str, Callable[[memoryview, int], Buffer]] = {
    "null": _plain,
    "deflate": _inflated,
    "snappy": _unsnapped,
}
