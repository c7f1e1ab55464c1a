"""Packets as received -> rows of the archive, and the packets that cannot be rows, with the reason."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fastavro
import numpy as np
import pyarrow as pa

from archive.layout import (
    BODY,
    HEALPIX,
    QUARANTINE_SCHEMA,
    SCHEMA,
    file_schema,
    healpix29,
    kept_computed,
    night_dates,
    partitions,
)
from schemas.avro.framing import Block, Buffer, Framer, SchemaSource, container, container_head
from schemas.avro.writer import WriterSchema
from schemas.errors import CorruptValue, PacketError
from schemas.frame import computed_column
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import survey_named


class Record(NamedTuple):
    """A packet as it came: its bytes and, from Kafka, its place; from a file, the file's name.

    timestamp: Unix time in milliseconds. headers: in order, names may repeat. position: where it lies in its
    source, a number that grows along it.
    """

    raw: bytes
    file: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] | None = None
    position: int | None = None


class Unkept(NamedTuple):
    """A record that goes to the quarantine."""

    record: Record
    reason: str
    detail: str
    survey: str | None = None


class Identity(NamedTuple):
    """What tells equal packets: (n,) int64 each."""

    candid: np.ndarray
    digest: np.ndarray


class Part(NamedTuple):
    """The rows of one partition, in the order of the sky.

    night, program: as Delta spells them, None for null (program also where the survey has no such thing).
    table: all columns but `_body`; bodies: that one.
    """

    night: str | None
    program: str | None
    table: pa.Table
    bodies: list[Buffer]

    @property
    def identity(self) -> Identity:
        return Identity(*(self.table[name].to_numpy() for name in ("candid", "_digest")))


@dataclass
class Rows:
    """The result of a batch of records.

    skipped: packets that are in the archive already. schemas: writer schemas by fingerprint; versions: what
    packets of each call it.
    """

    parts: list[Part] = field(default_factory=list)
    unkept: list[Unkept] = field(default_factory=list)
    schemas: dict[str, WriterSchema] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: int = 0

    @property
    def kept(self) -> int:
        return sum(part.table.num_rows for part in self.parts)


Known = Callable[[Identity, Sequence[str | None]], np.ndarray]
"""Says of packets and the UT dates of their nights which are in the archive already: (n,) bool."""


def no_identity() -> Identity:
    return Identity(np.zeros(0, np.int64), np.zeros(0, np.int64))


class _Packet(NamedTuple):
    """One record of an Avro body, as a packet of its own."""

    record: Record
    raw: bytes
    body: Buffer
    writer: WriterSchema


class RowMaker:
    """Makes rows of one survey's packets. schemas: for Confluent-framed packets."""

    def __init__(self, survey: str = "ztf", schemas: SchemaSource | None = None) -> None:
        self.survey = survey_named(survey)
        self._framer = Framer(schemas)
        self._program = self.survey.public.field
        needs = [stored for name in ("ra", "dec", "night") for stored in self.survey.inputs(name)]
        keys = ["candid", *needs, *([self._program] if self._program else [])]
        self._keys = PacketReader(list(dict.fromkeys(keys)), survey, schemas)
        self._file = pa.schema([f for f in file_schema(survey) if f.name != BODY])
        values = [name for name in self.survey.stored_names() if name not in partitions(survey)]
        self._reader = PacketReader(values, survey, schemas)
        self._prints: dict[WriterSchema, str] = {}

    def make(self, records: Sequence[Record], ingested: int, known: Known | None = None) -> Rows:
        """The rows of a survey's table for some records.

        Parameters
        ----------
        records
            The records.
        ingested
            Unix time of the first record, microseconds; each next one gets one more.
        known
            Says which packets are in the table. They are skipped, and so are repetitions among the records.
            None: every record is kept.

        Raises
        ------
        NoSchemaSource
            When a registry does not answer.
        """
        rows = Rows()
        packets = self._packets(records, rows)
        keys = self._keys.read([packet.raw for packet in packets])
        rows.unkept += [_refused(packets[r.index].record, r.error) for r in keys.refused]
        packets = [packets[i] for i in keys.packet.tolist()]
        table, digests = keys.table, self._digests(packets, rows)
        stamps = ingested + np.arange(len(packets), dtype=np.int64)
        wanted = self._with_candid(packets, table, rows)
        nights = night_dates(computed_column(table, "night", self.survey.name))
        if known is not None:
            identity = Identity(_numbers(table["candid"]), digests)
            wanted &= self._new(identity, nights, wanted, known, rows)
        groups = _groups(table, nights, self._program, wanted)
        for night, program, order in groups:
            self._add_part(rows, night, program, [packets[i] for i in order], digests[order], stamps[order])
        return rows

    def _packets(self, records: Sequence[Record], rows: Rows) -> list[_Packet]:
        """Each alert of our survey by itself; everything else goes to `rows.unkept`."""
        packets: list[_Packet] = []
        for record in records:
            try:
                framed = self._framer.frame(record.raw)
                if framed.writer.survey != self.survey.name:
                    rows.unkept.append(_foreign(record, framed.writer, self.survey.name))
                    continue
                if len(framed.blocks) == 1 and framed.blocks[0].records == 1:
                    packets.append(_Packet(record, record.raw, framed.blocks[0].body, framed.writer))
                else:
                    packets += _singles(record, framed.writer, framed.blocks)
            except PacketError as error:
                rows.unkept.append(_refused(record, error))
        return packets

    def _with_candid(self, packets: Sequence[_Packet], table: pa.RecordBatch, rows: Rows) -> np.ndarray:
        there = table["candid"].is_valid().to_numpy(zero_copy_only=False)
        for index in np.flatnonzero(~there).tolist():
            rows.unkept.append(
                Unkept(packets[index].record, "no-candid", "the alert has no candid", self.survey.name)
            )
        return there

    def _new(
        self, identity: Identity, nights: pa.Array, wanted: np.ndarray, known: Known, rows: Rows
    ) -> np.ndarray:
        dates = [None if night is None else str(night) for night in nights.to_pylist()]
        new = ~known(identity, dates)
        pairs = np.rec.fromarrays([identity.candid, identity.digest])
        _, first = np.unique(pairs, return_index=True)
        again = np.ones(len(new), bool)
        again[first] = False
        new &= ~again
        rows.skipped += int((wanted & ~new).sum())
        return new

    def _add_part(
        self,
        rows: Rows,
        night: str | None,
        program: str | None,
        packets: Sequence[_Packet],
        digests: np.ndarray,
        stamps: np.ndarray,
    ) -> None:
        batch = self._reader.read([packet.raw for packet in packets])
        rows.unkept += [_refused(packets[r.index].record, r.error) for r in batch.refused]
        if not batch.table.num_rows:
            return
        at = batch.packet
        read = [packets[i] for i in at.tolist()]
        columns = dict(zip(batch.table.schema.names, batch.table.columns, strict=True))
        columns[HEALPIX] = healpix29(columns["ra"], columns["dec"])
        for name in kept_computed(self.survey.name):
            columns[name] = pa.array(computed_column(batch.table, name, self.survey.name), pa.string())
        columns |= _sources([packet.record for packet in read])
        columns["_ingested"] = pa.array(stamps[at])
        columns["_digest"] = pa.array(digests[at])
        prints = [self._print(packet.writer, rows) for packet in read]
        columns[SCHEMA] = pa.array(prints)
        if "schemavsn" in columns:
            rows.versions |= {name: columns["schemavsn"][prints.index(name)].as_py() for name in set(prints)}
        arrays = [_as(columns[f.name], f.type) for f in self._file]
        table = pa.Table.from_arrays(arrays, schema=self._file)
        rows.parts.append(Part(night, program, table, [packet.body for packet in read]))

    def _digests(self, packets: Sequence[_Packet], rows: Rows) -> np.ndarray:
        return np.array(
            [digest(packet.body, self._print(packet.writer, rows)) for packet in packets], np.int64
        )

    def _print(self, writer: WriterSchema, rows: Rows) -> str:
        known = self._prints.get(writer)
        if known is None:
            known = self._prints[writer] = fingerprint(writer.schema)
        rows.schemas.setdefault(known, writer)
        return known


def fingerprint(schema: Any) -> str:
    """16 hexadecimal digits that name a writer schema: SHA-256 of its JSON, keys sorted."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(content: Buffer, salt: str = "") -> int:
    """The first eight bytes of SHA-256 as a signed integer: equal packets have equal ones."""
    made = hashlib.sha256(salt.encode())
    made.update(content)
    return int.from_bytes(made.digest()[:8], "little", signed=True)


def quarantine_table(unkept: Sequence[Unkept], ingested: int) -> pa.Table:
    """Rows of PATH/quarantine."""
    columns = _sources([one.record for one in unkept])
    columns["_ingested"] = pa.array(ingested + np.arange(len(unkept), dtype=np.int64))
    columns["_digest"] = pa.array([digest(one.record.raw) for one in unkept], pa.int64())
    columns["raw"] = pa.array([one.record.raw for one in unkept], pa.binary())
    for name in ("reason", "detail", "survey"):
        columns[name] = pa.array([getattr(one, name) for one in unkept], pa.string())
    arrays = [_as(columns[f.name], f.type) for f in QUARANTINE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=QUARANTINE_SCHEMA)


def _singles(record: Record, writer: WriterSchema, blocks: Iterable[Block]) -> list[_Packet]:
    """The alerts of a file that holds several. Raises PacketError."""
    head, packets = container_head(writer.schema), []
    for block in blocks:
        stream = io.BytesIO(block.body)
        for _ in range(block.records):
            start = stream.tell()
            _skip(stream, writer)
            body = bytes(block.body[start : stream.tell()])
            packets.append(_Packet(record, container(head, [Block(1, body)], bytes(16)), body, writer))
    return packets


def _skip(stream: io.BytesIO, writer: WriterSchema) -> None:
    try:
        fastavro.schemaless_reader(stream, writer.parsed, None)
    except (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CorruptValue(f"one of the file's alerts ends within a value: {error}") from error


def _groups(
    table: pa.RecordBatch, nights: pa.Array, field: str | None, wanted: np.ndarray
) -> list[tuple[str | None, str | None, list[int]]]:
    """The rows of each partition, in the order of the sky. field: says whose data, if the survey has one."""
    places: dict[tuple[str | None, str | None], list[int]] = {}
    sky = healpix29(table["ra"], table["dec"]).fill_null(np.iinfo(np.int64).max).to_numpy()
    dates = nights.to_pylist()
    programs = [None] * len(dates) if field is None else table[field].to_pylist()
    order = np.argsort(sky, kind="stable")
    for i in order[wanted[order]].tolist():
        night, program = dates[i], programs[i]
        key = (None if night is None else str(night), None if program is None else str(program))
        places.setdefault(key, []).append(i)
    return [(night, program, found) for (night, program), found in places.items()]


def _sources(records: Sequence[Record]) -> dict[str, pa.Array]:
    """Where the records came from."""
    times = [None if r.timestamp is None else r.timestamp * 1000 for r in records]
    return {
        "_topic": pa.array([r.topic for r in records], pa.string()),
        "_partition": pa.array([r.partition for r in records], pa.int32()),
        "_offset": pa.array([r.offset for r in records], pa.int64()),
        "_timestamp": pa.array(times, pa.int64()),
        "_key": pa.array([r.key for r in records], pa.binary()),
        "_headers": pa.array(
            [None if r.headers is None else [{"key": k, "value": v} for k, v in r.headers] for r in records],
            QUARANTINE_SCHEMA.field("_headers").type,
        ),
        "_file": pa.array([r.file for r in records], pa.string()),
    }


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)


def _numbers(column: pa.Array) -> np.ndarray:
    """int64; 0 where missing."""
    return column.fill_null(0).to_numpy(zero_copy_only=False)


def _refused(record: Record, error: PacketError) -> Unkept:
    return Unkept(record, error.reason, str(error))


def _foreign(record: Record, writer: WriterSchema, ours: str) -> Unkept:
    return Unkept(
        record, "other-survey", f"a packet of {writer.survey}; this table holds {ours}", writer.survey
    )
