"""How the packets of one survey are read for the channels, and what is known before any filter runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.channels.channel import Channel, ChannelSet
from pipeline.worker.judging.verdicts import Refusal, Verdicts
from schemas.avro.framing import SchemaSource
from schemas.errors import NoName, PacketError
from schemas.frame import FrameMaker, computed_column, is_public
from schemas.packets.reader import Batch, PacketReader, Refused
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import Survey
from schemas.time import night_date

_NIGHTS = 500_000  # nights after which the calendar ends
_ZEROS = bytes(1 << 14)  # more than an alert of nothing but zeros, nulls and empty strings takes


@dataclass(frozen=True)
class Access:
    """The channels of one access to one survey, and the frames that they see."""

    channels: list[Channel]
    maker: FrameMaker
    public: bool


class Surveyor:
    """How the packets of one survey are read for the channels of a set.

    Parameters
    ----------
    name
        Of the survey.
    channels
        The set.
    schemas
        Where the schemas of packets that only name theirs are looked up; None: those that lie here.
    """

    def __init__(self, name: str, channels: ChannelSet, schemas: SchemaSource | None) -> None:
        self.survey: Survey = SURVEYS[name]
        mine = [channel for channel in channels.channels if name in channel.filter.surveys]
        self.accesses = [
            Access(some, FrameMaker(_reads(some), name, public, external=channels.externals), public)
            for public in (True, False)
            if (some := [channel for channel in mine if channel.public == public])
        ]
        self.checked = self._checked()
        self._columns = self._wanted()
        self.reader = PacketReader(self._columns, name, schemas)

    def _checked(self) -> list[str]:
        """The columns that say which rows of histories are public, where a channel wants to know."""
        rule = self.survey.public
        public = any(access.public for access in self.accesses)
        return [f"{rows}.{rule.field}" for rows in rule.rows] if public else []

    def _wanted(self) -> list[str]:
        makers = [access.maker for access in self.accesses] or [FrameMaker([], self.survey.name)]
        names = [name for maker in makers for name in maker.columns]
        field = self.survey.public.field
        night = self.survey.inputs("night")
        return list(dict.fromkeys([*names, *night, *([field] if field else []), *self.checked]))

    def prepare(self) -> None:
        """Compile the plan for the survey's newest schema."""
        _ = self._nothing

    def rehearse(self, channel: Channel) -> None:
        """Have a channel's filter judge an alert that is none. Raises FilterError, whatever it may say of it.

        Parameters
        ----------
        channel
            One of the set.
        """
        (maker,) = (access.maker for access in self.accesses if channel in access.channels)
        channel.filter.judge(maker.frame(self._nothing.table))

    @cached_property
    def _nothing(self) -> Batch:
        """An alert of nothing but zeros."""
        reader = PacketReader(self._columns, self.survey.name, bare=self.survey.reference)
        return reader.read([_ZEROS])


def named(batch: Batch) -> Batch:
    """The batch without packets that have no candid or no objectId: each is refused with its own reason."""
    nameless: dict[int, str] = {}
    for name in ("objectId", "candid"):
        if name in batch.table.schema.names and batch.table.column(name).null_count:
            missing = batch.table.column(name).is_null().to_numpy(zero_copy_only=False)
            nameless |= dict.fromkeys(batch.packet[missing].tolist(), name)
    if not nameless:
        return batch
    keep = ~np.isin(batch.packet, list(nameless))
    refused = [Refused(index, NoName(f"the packet has no {name}")) for index, name in nameless.items()]
    table = batch.table.filter(pa.array(keep))
    return replace(batch, table=table, packet=batch.packet[keep], refused=[*batch.refused, *refused])


class Read(NamedTuple):
    """Packets of one survey, and what is asked of the packets of all partitions at once.

    objects: a 64-bit hash of the objectId of each alert, (n,). public: whether each alert is, (n,). mixed:
    packets with a history row that is not public, ascending.
    """

    surveyor: Surveyor
    batch: Batch
    objects: np.ndarray
    public: np.ndarray
    mixed: np.ndarray

    @classmethod
    def of(cls, surveyor: Surveyor, batch: Batch) -> Read:
        """These packets."""
        survey = surveyor.survey
        names = np.asarray(computed_column(batch.table, "objectId", survey.name), object)
        mixed = _mixed_packets(batch, surveyor.checked, survey.public.value)
        return cls(surveyor, batch, pd.util.hash_array(names), is_public(batch.table, survey), mixed)

    def part(self, start: int, stop: int) -> Read:
        """Of the packets from `start` up to `stop`."""
        low, high = np.searchsorted(self.batch.packet, [start, stop])
        first, last = np.searchsorted(self.mixed, [start, stop])
        rows, mixed = slice(low, high), self.mixed[first:last] - start
        part = self.batch.part(start, stop)
        return Read(self.surveyor, part, self.objects[rows], self.public[rows], mixed)


def describe(read: Read, verdicts: Verdicts) -> None:
    """Count what packets of one survey held."""
    surveyor, batch = read.surveyor, read.batch
    verdicts.alerts += batch.table.num_rows
    verdicts.judged += ascending(batch.packet).tolist()
    verdicts.strangers += batch.other_packets
    if batch.table.num_rows:
        objects = np.unique(read.objects).tolist()
        verdicts.objects = sorted({*verdicts.objects, *objects}) if verdicts.objects else objects
    for survey, count in batch.other.items():
        verdicts.other_surveys[survey] = verdicts.other_surveys.get(survey, 0) + count
    verdicts.refused += [_refusal(refused.index, refused.error) for refused in batch.refused]
    verdicts.not_public += int((~read.public).sum())
    if any(access.public for access in surveyor.accesses):
        verdicts.unlisted |= batch.unlisted
        verdicts.mixed |= set(read.mixed.tolist())
        verdicts.mixed |= batch.unlisted.keys()


def nights_of(batch: Batch, survey: str) -> dict[int, str]:
    """Packet -> the date of its night; of several alerts the last one's."""
    nights = np.asarray(computed_column(batch.table, "night", survey), float)
    dates = {
        number: f"{night_date(number)}" for number in np.unique(nights[np.abs(nights) < _NIGHTS]).tolist()
    }
    each = zip(batch.packet.tolist(), nights.tolist(), strict=True)
    return {packet: dates[night] for packet, night in each if night in dates}


def ascending(packets: np.ndarray) -> np.ndarray:
    """The packets of some rows, each once."""
    return packets[np.append(True, packets[1:] != packets[:-1])] if len(packets) else packets


def _reads(channels: Sequence[Channel]) -> list[str]:
    every = (name for channel in channels for name in (*(channel.filter.reads or ()), *channel.values))
    times = ["jd"] if any(channel.limits.once for channel in channels) else []
    return list(dict.fromkeys([*every, *times]))


def _refusal(index: int, error: PacketError) -> Refusal:
    return Refusal(index, "decode", error.reason, str(error))


def public_rows(batch: Batch, survey: Survey) -> np.ndarray:
    """Rows whose packet is public: every one of its records is."""
    mask = is_public(batch.table, survey)
    return mask & ~np.isin(batch.packet, batch.packet[~mask])


def _mixed_packets(batch: Batch, columns: Sequence[str], value: int) -> np.ndarray:
    """Packets with a history row that is not public, ascending.

    columns: what says so of each row; value: of those that are public.
    """
    mixed: set[int] = set()
    for name in columns:
        column = batch.table.column(name)
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        rows = pc.fill_null(pc.not_equal(pc.list_flatten(column), value), True)
        if pc.any(rows).as_py():
            parents = pc.list_parent_indices(column).filter(rows).unique().to_numpy()
            mixed |= set(batch.packet[parents].tolist())
    return np.array(sorted(mixed), np.int64)
