"""Batches of packets -> Arrow columns, whatever each packet's framing and version.

One packet that cannot be read is refused with its reason and costs its neighbours nothing; a packet of
another survey is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.errors import NoSuchColumn, PacketError, UnsupportedSchema
from schemas.framing import Framed, Framer, SchemaSource, frame
from schemas.slow import arrow_columns, records_of
from schemas.surveys import SURVEYS, Column, arrow_type


@dataclass(frozen=True)
class Refused:
    """A packet that could not be read: its place in the batch, and why."""

    index: int
    error: PacketError


@dataclass
class Batch:
    """What a batch of packets came to.

    table: one row a record, in the packets' order, one column a name asked for.
    packet: int64, for each row the index of its packet.
    refused: the packets that could not be read. other: readable packets of other surveys, counted by survey;
    other_packets: their indices.
    """

    table: pa.RecordBatch
    packet: np.ndarray
    refused: list[Refused] = field(default_factory=list)
    other: dict[str, int] = field(default_factory=dict)
    other_packets: list[int] = field(default_factory=list)


class PacketReader:
    """Reads the same columns from any packet of one survey. Safe to share between threads.

    columns: names such as "jd", "prv_candidates.magpsf", "cutoutScience.stampData", or whole nested ones:
    "prv_candidates", "candidate", "*". schemas: where the schemas of Confluent-framed packets come from.
    bare: the schema of packets without any framing.

    Raises NoSuchColumn for a name or survey that is not known, UnsupportedSchema for a bad `bare`.
    """

    def __init__(
        self,
        columns: Sequence[str],
        survey: str = "ztf",
        schemas: SchemaSource | None = None,
        bare: Mapping[str, Any] | None = None,
    ) -> None:
        if survey not in SURVEYS:
            raise NoSuchColumn(survey, SURVEYS, what="survey")
        self.columns = list(columns)
        self.survey = SURVEYS[survey]
        self._wanted = [self.survey.column(name) for name in self.columns]
        self.schema = pa.schema([(column.name, column.type) for column in self._wanted])
        self._framer = Framer(schemas, bare)

    def read(self, packets: Sequence[bytes]) -> Batch:
        """Raw values, sentinels such as -999 included; null where a packet's schema lacks the column.

        Raises NoSchemaSource when a schema registry does not answer (nothing is refused for that).
        """
        batch = Batch(_empty(self.schema), np.zeros(0, np.int64))
        parts, rows = [], []
        for index, raw in enumerate(packets):
            try:
                framed = self._framer.frame(raw)
                if framed.writer.survey != self.survey.name:
                    _count_other(batch, framed, index)
                    continue
                part = self._decode(framed)
            except PacketError as error:
                batch.refused.append(Refused(index, error))
                continue
            parts.append(part)
            rows.append(np.full(part.num_rows, index, np.int64))
        if parts:
            batch.table = pa.concat_batches(parts)
            batch.packet = np.concatenate(rows)
        return batch

    def _decode(self, framed: Framed) -> pa.RecordBatch:
        arrays = arrow_columns(records_of(framed), self._wanted)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)


def _count_other(batch: Batch, framed: Framed, index: int) -> None:
    name = framed.writer.survey
    batch.other[name] = batch.other.get(name, 0) + 1
    batch.other_packets.append(index)


def decode_all(
    raw: bytes, schemas: SchemaSource | None = None, bare: Mapping[str, Any] | None = None
) -> pa.RecordBatch:
    """Everything in one packet of any survey, typed by the packet's own schema. Raises PacketError."""
    framed = frame(raw, schemas, bare)
    try:
        own = arrow_type(framed.writer.tree)
    except (KeyError, ValueError) as error:
        raise UnsupportedSchema(f"the packet's schema has no Arrow type: {error}") from error
    columns = [Column(top.name, (top.name,), top.type) for top in own]
    arrays = arrow_columns(records_of(framed), columns)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(own)))
