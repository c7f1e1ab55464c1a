"""What a filter of whole exposures says of an alert beside the others of its exposure, and who these are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

    from filters import Filter
    from pipeline.channels.channel import Channel
    from pipeline.channels.config import RunConfig
    from schemas.avro.framing import SchemaSource
    from schemas.frame import FrameMaker
    from schemas.packets.reader import Batch


@dataclass(frozen=True)
class Members:
    """The other alerts of an exposure: their packets.

    where: they came from, "the archive". missing: why some cannot be had, "" when all are there.
    """

    packets: tuple[bytes, ...] = ()
    where: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Beside:
    """One alert judged in its exposure.

    exposure: its number, None where the packet has none. members: how many alerts were judged, 0 when that
    was not possible, and `missing` says why. where: they came from. cuts, gives: as `Filter.explain` and
    `Filter.values_of` tell them.
    """

    candid: int
    objectId: str
    exposure: int | None
    members: int
    where: str
    missing: str
    cuts: pd.DataFrame
    gives: dict[str, Any]

    @property
    def told(self) -> dict[str, Any]:
        """As plain values."""
        names = ("exposure", "members", "where", "missing")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Wanted:
    """An exposure whose other alerts are looked for.

    exposure: its number. night: "2023-10-12", "" where it is not known. own: candids of the alerts of this
    exposure that are there already.
    """

    survey: str
    exposure: int
    night: str
    own: frozenset[int]


Find = Callable[[Wanted], Members]
"""Finds the other alerts of an exposure."""


def judged_beside(
    chosen: Filter, raw: bytes, public: bool, find: Find, schemas: SchemaSource | None = None
) -> Iterator[Beside]:
    """Each alert of a packet judged in its exposure, by a filter of whole exposures.

    Parameters
    ----------
    chosen
        The filter.
    raw
        The packet; alerts of one exposure in one file are members of it, too.
    public
        Only alerts and history rows that are public.
    find
        Where the other members are looked for.
    schemas
        Of packets with Confluent's framing.

    Raises
    ------
    PacketError
        What is wrong with the packet.
    """
    from schemas.packets.packet import packet_survey
    from schemas.time import night_date

    survey = packet_survey(raw, schemas)
    about = _frame(("exposure", "night"), survey, [raw], False, schemas)[0]
    for candid, of in zip(about["candid"], about.to_dict("records"), strict=True):
        exposure = None if of["exposure"] != of["exposure"] else int(of["exposure"])
        alone = Beside(int(candid), str(of["objectId"]), exposure, 0, "", "", _no_cuts(), {})
        if exposure is None:
            yield replace(alone, missing="the packet does not say of which exposure it is")
            continue
        night = "" if of["night"] != of["night"] else f"{night_date(int(of['night']))}"
        own = frozenset(about.loc[(about["exposure"] == exposure).fillna(False), "candid"].tolist())
        found = find(Wanted(survey, exposure, night, own))
        frame, unread = _frame(chosen.require_reads(), survey, [raw, *found.packets], public, schemas)
        same = (frame["exposure"] == exposure).to_numpy(dtype=bool, na_value=False)
        frame = frame[same].reset_index(drop=True)
        missing = found.missing or (f"{unread} of its members cannot be read" if unread else "")
        if missing:
            yield replace(alone, missing=missing)
            continue
        row = int(np.flatnonzero(frame["candid"] == candid)[0])
        cuts = chosen.explain(frame, int(candid)).drop(columns=["exposure", "members"])
        cuts = cuts[: cuts["cut"].nunique()]  # of a candid that came twice the first
        gives = chosen.values_of(frame, row)
        yield replace(alone, members=len(frame), where=found.where, cuts=cuts, gives=gives)


def _no_cuts() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=["candid", "cut", "passed", "stopped", "saw"])


def _frame(
    reads: Sequence[str], survey: str, packets: Sequence[bytes], public: bool, schemas: SchemaSource | None
) -> tuple[pd.DataFrame, int]:
    """What a filter sees of packets, those of the first one first; and how many others cannot be read."""
    maker, batch, seen = _read(reads, survey, packets, public, schemas)
    keep = (batch.packet == 0) | seen
    return maker.frame(batch.table.filter(pa.array(keep))), len(batch.refused)


def _read(
    reads: Sequence[str], survey: str, packets: Sequence[bytes], public: bool, schemas: SchemaSource | None
) -> tuple[FrameMaker, Batch, np.ndarray]:
    """What makes frames with these columns, the packets as a table, and which of its rows may be seen.

    Raises PacketError for what is wrong with the first packet.
    """
    from filters.external.externals import frames_of
    from schemas.frame import is_public
    from schemas.packets.reader import PacketReader
    from schemas.surveys.registry import survey_named

    of, maker = survey_named(survey), frames_of(reads, survey, public)
    columns = list(dict.fromkeys([*maker.columns, *([of.public.field] if of.public.field else [])]))
    batch = PacketReader(columns, survey, schemas).read(packets)
    if own := [one.error for one in batch.refused if one.index == 0]:
        raise own[0]
    seen = is_public(batch.table, of) if public else np.ones(batch.table.num_rows, bool)
    return maker, batch, seen


def in_archive(archive: str | None, public: bool) -> Find:
    """Looks for members in the archive at an address; None: the usual one. public: only those that are."""

    def find(wanted: Wanted) -> Members:
        from archive.tables.store import NoSuchArchive
        from commands.shared.alerts import reader

        part = reader(archive, wanted.survey)
        try:
            where = [("exposure", "==", wanted.exposure)]
            rows = part.alerts(wanted.night or None, columns=["exposure"], where=where, public=public)
            candids = rows.compute(scheduler="threads")["candid"].tolist()
            others = [candid for candid in candids if candid not in wanted.own]
            packets = part.packets(others, wanted.night or None)
        except NoSuchArchive as error:
            candids, why = [], str(error)
        else:
            why = "the archive has none of this exposure"
        if candids:
            return Members(tuple(packets.values()), "the archive")
        if len(wanted.own) > 1:
            return Members(where="the file")
        return Members(missing=f"its other alerts cannot be found: {why}")

    return find


def in_stream(settings: RunConfig, source: Mapping[str, Any], beside: Find) -> Find:
    """Looks for members among the records that were judged together; where it does not know, `beside`.

    Parameters
    ----------
    settings
        The broker.
    source
        The record of the alert: _topic, _partition and _offset, None where they are not known.
    beside
        Looks elsewhere.
    """

    def find(wanted: Wanted) -> Members:
        from pipeline.clients.exposures import judgement, records
        from pipeline.live.exposures.gathering import Place

        topic = source["_topic"]
        if topic is None:
            return beside(wanted)
        here = Place(int(source["_partition"]), int(source["_offset"]))
        if (judged := judgement(settings, topic, here)) is None:
            return beside(wanted)
        others = [place for place in judged.places if place != here]
        found = records(settings, topic, others)
        if len(found) < len(others):
            return beside(wanted)
        late = ", where it came late" if judged.late else ""
        return Members(tuple(found.values()), f"the stream, as they were judged together{late}")

    return find


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
    from schemas.packets.packet import packet_survey

    reads, survey = channel.filter.require_reads(), packet_survey(raw, schemas)
    maker, batch, seen = _read(reads, survey, [raw, *others], channel.public, schemas)
    cuts = channel.filter(maker.frame(batch.table.filter(pa.array(seen))))
    rows = cuts.to_numpy()[batch.packet[seen] == 0]
    return [str(cuts.columns[int(np.argmin(row))]) for row in rows if not row.all()]
