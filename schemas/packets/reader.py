"""Batches of packets -> Arrow columns, whatever each packet's framing and version.

A packet that cannot be read is refused with its reason, without effect on other packets; a packet of another
survey is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.avro.batches import Group, Walked
from schemas.avro.fallback import arrow_columns, records_of
from schemas.avro.framing import Framed, Framer, Header, SchemaSource, frame
from schemas.avro.plan import Plan
from schemas.avro.public import unlisted
from schemas.avro.writer import WriterSchema
from schemas.errors import CorruptValue, NoSchemaSource, PacketError, UnsupportedSchema
from schemas.surveys.arrow import Column, arrow_type
from schemas.surveys.registry import survey_having, survey_named

_PLANS = 64  # writer schemas remembered; a stream has a handful


@dataclass(frozen=True)
class Refused:
    """A packet that could not be read: its place in the batch, and why."""

    index: int
    error: PacketError


@dataclass
class Batch:
    """The result of reading a batch of packets.

    table: one row a record, in the packets' order, one column a name asked for.
    packet: int64, for each row the index of its packet.
    refused: the packets that could not be read. other_packets: index -> survey of readable packets of other
    surveys. unlisted: index -> fields that the survey does not list as public.
    """

    table: pa.RecordBatch
    packet: np.ndarray
    refused: list[Refused] = field(default_factory=list)
    other_packets: dict[int, str] = field(default_factory=dict)
    unlisted: dict[int, frozenset[str]] = field(default_factory=dict)

    @property
    def other(self) -> dict[str, int]:
        """How many readable packets of other surveys there are, by survey."""
        return dict(Counter(self.other_packets.values()))

    def renumbered(self, places: Sequence[int]) -> Batch:
        """The same, when packet i of this batch is packet places[i] of a larger one."""
        numbers = np.asarray(places, np.int64)
        return Batch(
            self.table,
            numbers[self.packet],
            [replace(one, index=int(numbers[one.index])) for one in self.refused],
            {int(numbers[i]): survey for i, survey in self.other_packets.items()},
            {int(numbers[i]): fields for i, fields in self.unlisted.items()},
        )

    def part(self, start: int, stop: int) -> Batch:
        """What the packets from `start` up to `stop` came to, as if they had been read by themselves."""
        low, high = np.searchsorted(self.packet, [start, stop]).tolist()
        return Batch(
            self.table.slice(low, high - low),
            self.packet[low:high] - start,
            [replace(one, index=one.index - start) for one in self.refused if start <= one.index < stop],
            {i - start: survey for i, survey in self.other_packets.items() if start <= i < stop},
            {i - start: fields for i, fields in self.unlisted.items() if start <= i < stop},
        )


class PacketReader:
    """Reads the same columns from any packet of one survey. Safe to share between threads.

    Parameters
    ----------
    columns
        Names such as "jd", "prv_candidates.magpsf", "cutoutScience.stampData", or whole nested ones:
        "prv_candidates", "candidate", "*".
    survey
        Whose packets; those of others are counted. None: told by the columns, ZTF's where several surveys
        have them.
    schemas
        Where the schemas of packets with Confluent framing are.
    bare
        The schema of packets without any framing.

    Raises
    ------
    NoSuchColumn
        For a name or survey that is not known.
    UnsupportedSchema
        For a bad `bare`.
    """

    def __init__(
        self,
        columns: Sequence[str],
        survey: str | None = None,
        schemas: SchemaSource | None = None,
        bare: Mapping[str, Any] | None = None,
    ) -> None:
        self.columns = list(columns)
        self.survey = survey_named(survey or survey_having(self.columns))
        self._wanted = [self.survey.column(name) for name in self.columns]
        self.schema = pa.schema([(column.name, column.type) for column in self._wanted])
        self._framer = Framer(schemas, bare)
        self._plans: dict[WriterSchema, Plan] = {}

    def is_for(self, packets: Sequence[bytes]) -> bool:
        """Whether these are packets of its survey, as far as the schema shows."""
        try:
            return all(self._framer.frame(raw).writer.survey == self.survey.name for raw in packets)
        except (PacketError, NoSchemaSource):
            return False

    def read(self, packets: Sequence[bytes]) -> Batch:
        """Raw values, sentinels such as -999 included; null where a packet's schema lacks the column.

        Raises NoSchemaSource when a schema registry does not answer (nothing is refused for that), TooLarge
        when a column of the whole batch has more than 2 GiB of strings.
        """
        packets = list(packets)  # our own references, so that none can go while it is being read
        batch = Batch(_empty(self.schema), np.zeros(0, np.int64))
        parts = [
            self._part(writer, group, packets, batch)
            for writer, group in self._groups(packets, batch).items()
        ]
        parts = [part for part in parts if len(part.packet)]
        if parts:
            batch.table, batch.packet = _in_order(parts)
        batch.refused.sort(key=lambda refused: refused.index)
        batch.other_packets = dict(sorted(batch.other_packets.items()))
        return batch

    def _groups(self, packets: Sequence[bytes], batch: Batch) -> dict[WriterSchema, Group]:
        """The packets by writer schema; refusals and other surveys go into the batch."""
        groups: dict[WriterSchema, Group] = {}
        header: Header | None = None
        for index, raw in enumerate(packets):
            if header is None or not raw.startswith(header.raw):  # most begin like the one before
                header = self._framer.known_header(raw)
            if header is not None and header.codec == "null" and header.writer.survey == self.survey.name:
                group = groups.get(header.writer) or groups.setdefault(header.writer, Group())
                group.add_container(index, raw, len(header.raw))
                continue
            framed = self._framed(index, raw, batch)
            if framed is not None:
                groups.setdefault(framed.writer, Group()).add(index, framed.blocks)
        return groups

    def _framed(self, index: int, raw: bytes, batch: Batch) -> Framed | None:
        """A packet of our survey split into blocks; or None, with a note in the batch."""
        try:
            framed = self._framer.frame(raw)
        except PacketError as error:
            batch.refused.append(Refused(index, error))
            return None
        if framed.writer.survey == self.survey.name:
            return framed
        batch.other_packets[index] = framed.writer.survey
        return None

    def _part(self, writer: WriterSchema, group: Group, packets: Sequence[bytes], batch: Batch) -> _Part:
        """The rows of the packets with one writer schema."""
        for index in group.split():
            framed = self._framed(index, packets[index], batch)
            if framed is not None:
                group.add(index, framed.blocks)
        messages = group.messages()
        try:
            plan = self._plan(writer)
        except PacketError as error:
            batch.refused += [Refused(int(index), error) for index in np.unique(messages[:, 3])]
            return _Part(batch.table, batch.packet)
        walked = Walked(plan, messages)
        batch.refused += [Refused(index, error) for index, error in walked.refused]
        if fields := unlisted(writer):
            batch.unlisted |= dict.fromkeys(np.unique(walked.packet).tolist(), fields)
        arrays = [walked.columns.array(made) if made else None for made in plan.builders]
        rows = walked.packet
        if plan.narrower:
            arrays, rows = _without_unfit(plan, walked, arrays, batch)
        if plan.slow:
            return self._with_slow(plan.slow, rows, arrays, packets, batch)
        return _Part(pa.RecordBatch.from_arrays(arrays, schema=self.schema), rows)

    def _with_slow(
        self,
        wanted: Sequence[Column],
        rows: np.ndarray,
        arrays: list[pa.Array | None],
        packets: Sequence[bytes],
        batch: Batch,
    ) -> _Part:
        """Add the columns that fastavro must make; a packet that it cannot make them of is refused."""
        slow, good = [_empty(pa.schema([(c.name, c.type) for c in wanted]))], []
        for index in np.unique(rows).tolist():
            try:
                made = arrow_columns(records_of(self._framer.frame(packets[index])), wanted)
            except PacketError as error:
                batch.refused.append(Refused(index, error))
                continue
            slow.append(pa.RecordBatch.from_arrays(made, schema=slow[0].schema))
            good.append(index)
        keep = np.isin(rows, good)
        columns = iter(pa.concat_batches(slow).columns)
        whole = [next(columns) if array is None else array.filter(pa.array(keep)) for array in arrays]
        return _Part(pa.RecordBatch.from_arrays(whole, schema=self.schema), rows[keep])

    def _plan(self, writer: WriterSchema) -> Plan:
        """The plan for a writer schema, kept. Raises UnsupportedSchema."""
        plan = self._plans.get(writer)
        if plan is None:
            plan = Plan(writer, self._wanted)
            if len(self._plans) >= _PLANS:
                self._plans = {}
            self._plans[writer] = plan
        return plan


def read_by_survey(
    readers: Sequence[PacketReader], packets: Sequence[bytes]
) -> list[tuple[PacketReader, Batch]]:
    """The packets of several surveys, each by the reader of its own.

    The first packet's survey is read first: to find that a packet is another's costs as much as to frame it.
    Batches number the packets as they were given. What none of the readers is for stands in the last batch's
    `other_packets`, what cannot be read in the first one's `refused`. Raises what `PacketReader.read` raises.
    """
    parts: list[tuple[PacketReader, Batch]] = []
    left: Sequence[int] = range(len(packets))
    for reader in sorted(readers, key=lambda reader: not reader.is_for(packets[:1])):
        if left or not parts:
            batch = reader.read([packets[i] for i in left]).renumbered(left)
            left = list(batch.other_packets)
            parts.append((reader, batch))
    for _, batch in parts[:-1]:
        batch.other_packets = {}
    return parts


class _Part(NamedTuple):
    """The rows of the packets of one writer schema."""

    table: pa.RecordBatch
    packet: np.ndarray


def _without_unfit(
    plan: Plan, walked: Walked, arrays: list[pa.Array | None], batch: Batch
) -> tuple[list[pa.Array | None], np.ndarray]:
    """The columns and the packets of their rows, without the packets that have a value which does not fit."""
    refused: dict[int, str] = {}
    for builder in plan.builders:
        bad, words = walked.columns.unfit(builder) if builder is not None else (np.zeros(0, bool), "")
        for index in np.unique(walked.packet[bad]).tolist() if words else ():
            refused.setdefault(index, words)
    if not refused:
        return arrays, walked.packet
    batch.refused += [Refused(index, CorruptValue(words)) for index, words in refused.items()]
    keep = ~np.isin(walked.packet, list(refused))
    return [a if a is None else a.filter(pa.array(keep)) for a in arrays], walked.packet[keep]


def _in_order(parts: Sequence[_Part]) -> _Part:
    """One batch in the packets' order."""
    if len(parts) == 1:
        return parts[0]
    table = pa.concat_batches([part.table for part in parts])
    packet = np.concatenate([part.packet for part in parts])
    order = np.argsort(packet, kind="stable")
    if (np.diff(order) == 1).all():
        return _Part(table, packet)
    return _Part(table.take(pa.array(order)), packet[order])


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)


def decode_all(
    raw: bytes, schemas: SchemaSource | None = None, bare: Mapping[str, Any] | None = None
) -> pa.RecordBatch:
    """Everything in one packet of any survey, typed by the packet's own schema.

    Parameters
    ----------
    raw
        The packet.
    schemas
        Where the schema of a packet with Confluent framing is looked up.
    bare
        The schema of packets without any framing.

    Raises
    ------
    UnsupportedSchema
        When the packet's schema has no Arrow type.
    PacketError
        When the packet cannot be read.
    """
    framed = frame(raw, schemas, bare)
    try:
        own = arrow_type(framed.writer.tree)
    except (KeyError, ValueError) as error:
        raise UnsupportedSchema(f"the packet's schema has no Arrow type: {error}") from error
    columns = [Column(top.name, (top.name,), top.type) for top in own]
    plan, group = Plan(framed.writer, columns), Group()
    group.add(0, framed.blocks)
    walked = Walked(plan, group.messages())
    if walked.refused:
        raise walked.refused[0][1]
    slow = iter(arrow_columns(records_of(framed), plan.slow) if plan.slow else ())
    arrays = [walked.columns.array(made) if made else next(slow) for made in plan.builders]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(own)))
