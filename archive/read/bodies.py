"""Columns that an archive keeps in the packets' bodies only, decoded when asked for: stamps, annotations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from archive.layout import BODY, SCHEMA
from archive.tables.fingerprints import schemas_of
from schemas.errors import UnknownSchema
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import survey_named
from schemas.surveys.survey import is_annotation

ROWS = 512
"""Of a batch whose bodies are read: one row group, some 30 MB."""


def in_bodies(names: Sequence[str], survey: str) -> list[str]:
    """Those of the columns that only a packet's body has."""
    stamps = set(survey_named(survey).stamps.fields.values())
    return [name for name in names if name.partition(".")[0] in stamps or is_annotation(name)]


def with_bodies(table: pa.Table, names: Sequence[str], archive: str, survey: str) -> pa.Table:
    """The table with these columns from the bodies in it. Raises UnknownSchema.

    Parameters
    ----------
    table
        Rows with their bodies and the names of their schemas.
    names
        Columns of `in_bodies`; where the table has them they are replaced.
    archive
        Its address.
    survey
        Whose packets.
    """
    schemas = np.asarray(table[SCHEMA].to_pylist(), object)
    parts, place, length = [], np.full(table.num_rows, -1), 0
    for name in dict.fromkeys(schemas):
        mine = np.flatnonzero(schemas == name)
        bodies = table[BODY].take(pa.array(mine)).to_pylist()
        batch = _reader(archive, survey, name, tuple(names)).read(bodies)
        parts.append(pa.Table.from_batches([batch.table]))
        place[mine[batch.packet]] = length + np.arange(len(batch.packet))
        length += len(batch.packet)
    if not parts:
        return table
    whole = pa.concat_tables(parts).take(pa.array(place, mask=place < 0))
    for name in names:
        column = whole[name]
        if name in table.schema.names:
            table = table.set_column(table.schema.get_field_index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


@lru_cache(maxsize=64)
def _reader(archive: str, survey: str, fingerprint: str, names: tuple[str, ...]) -> PacketReader:
    known = schemas_of(archive)
    if fingerprint not in known:
        raise UnknownSchema(f"the archive {archive} has no writer schema {fingerprint}")
    return PacketReader(names, survey, bare=known[fingerprint])
