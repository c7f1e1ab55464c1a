"""What a filter of whole exposures says of an alert beside the others of its exposure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from pipeline.channels.channel import Channel
    from schemas.avro.framing import SchemaSource


def stopped_by(
    channel: Channel, raw: bytes, others: Sequence[bytes], schemas: SchemaSource | None = None
) -> list[str]:
    """The first cut that stops each row of a packet; none for those that pass.

    Parameters
    ----------
    channel
        Its filter, and whether it sees public alerts only.
    raw
        The packet.
    others
        The packets that it was judged with.
    schemas
        Of packets with Confluent's framing.

    Raises
    ------
    PacketError
        What is wrong with the packet.
    """
    from filters.external.externals import frames_of
    from schemas.frame import is_public
    from schemas.packets.packet import packet_survey
    from schemas.packets.reader import PacketReader
    from schemas.surveys.registry import survey_named

    survey = survey_named(packet_survey(raw, schemas))
    maker = frames_of(channel.filter.require_reads(), survey.name, channel.public)
    field = survey.public.field
    columns = list(dict.fromkeys([*maker.columns, *([field] if field else [])]))
    batch = PacketReader(columns, survey.name, schemas).read([raw, *others])
    if own := [one.error for one in batch.refused if one.index == 0]:
        raise own[0]
    keep = is_public(batch.table, survey) if channel.public else np.ones(batch.table.num_rows, bool)
    cuts = channel.filter(maker.frame(batch.table.filter(pa.array(keep))))
    rows = cuts.to_numpy()[batch.packet[keep] == 0]
    return [str(cuts.columns[int(np.argmin(row))]) for row in rows if not row.all()]
