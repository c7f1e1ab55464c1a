"""From packets to verdicts: decode a batch once, run every channel's filter on it.

No Kafka in here, so that the live stream, a backfill and a test run the very same code.

User code is fenced in: a filter that raises is bisected until the alerts that it cannot bear are
single; those are set aside for that channel only. When there are many of them the filter itself has
failed, and the batch is a gap of the channel. Its neighbours never notice.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.broker.dead_letters import Stage
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.worker.work import ChannelFailure
from schemas.avro.framing import SchemaSource
from schemas.errors import PacketError, one_line
from schemas.frame import stored_columns, to_frame
from schemas.packets.reader import Batch, PacketReader
from schemas.surveys.definitions import PUBLIC_PROGRAMID
from schemas.surveys.registry import SURVEYS

_ZEROS = bytes(1 << 14)  # more than an alert of nothing but zeros, nulls and empty strings takes
_NAMING = ("candid", "objectId", "programid")


class Guard(Protocol):
    """Watches over a filter while it runs (see pipeline.worker.running)."""

    def running(self, channel: str, seconds: float) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class Refusal:
    """One record that a stage could not take: for the dead-letter topic."""

    index: int  # of the packet in the batch
    stage: Stage
    reason: str
    detail: str
    channel: str = ""
    candid: int | None = None
    objectId: str = ""


@dataclass(frozen=True)
class Match:
    """One record that a channel wants."""

    index: int
    candid: int
    objectId: str
    programid: int | None


_Found = TypeVar("_Found", Refusal, Match)


@dataclass
class Verdicts:
    """What a batch came to."""

    matches: dict[str, list[Match]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    gaps: dict[str, str] = field(default_factory=dict)  # channel -> why the whole batch is missing
    failures: list[ChannelFailure] = field(default_factory=list)
    mixed: set[int] = field(default_factory=set)  # packets with something that is not public
    unlisted: dict[int, frozenset[str]] = field(default_factory=dict)  # packet -> fields not to be public
    alerts: int = 0
    objects: list[int] = field(default_factory=list)
    other_surveys: dict[str, int] = field(default_factory=dict)
    not_public: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Evaluator:
    """A channel set made ready to run: which columns to decode, which frame each channel sees."""

    def __init__(self, channels: ChannelSet, schemas: SchemaSource | None = None) -> None:
        self.channels, self.schemas = channels, schemas
        self._public = [channel for channel in channels.channels if channel.public]
        self._all = [channel for channel in channels.channels if not channel.public]
        self._reader = PacketReader(self._columns(), survey=channels.survey, schemas=schemas)

    def _columns(self) -> list[str]:
        survey = self.channels.survey
        histories = [f"{history}.programid" for history in SURVEYS[survey].histories] if self._public else []
        public = stored_columns(_reads(self._public), survey, public=True)
        return list(dict.fromkeys([*public, *stored_columns(_reads(self._all), survey), *histories]))

    def prepare(self) -> None:
        """Load what the first batch would wait for. No filter runs: it might not come back."""
        survey = self.channels.survey
        reader = PacketReader(self._columns(), survey=survey, bare=SURVEYS[survey].reference)
        reader.read([_ZEROS])

    def evaluate(
        self,
        batches: Sequence[Sequence[bytes]],
        topic: str,
        guard: Guard,
        *,
        suspended: dict[str, str],
        filter_seconds: float,
        failing_alerts: int,
    ) -> list[Verdicts]:
        """Decode batches of packets and run every channel that may read `topic` and is not suspended.

        Each channel runs once over all of them, for ten alerts cost a filter as much as a thousand do. A
        filter that fails has failed on each batch.
        """
        verdicts = Verdicts()
        with _timed(verdicts, "decode"):
            batch = self._reader.read([packet for packets in batches for packet in packets])
        self._judge(batch, topic, _Envelope(guard, filter_seconds, failing_alerts, verdicts), suspended)
        ends = np.cumsum([len(packets) for packets in batches]).tolist()
        parts = [
            self._part(batch, verdicts, end - len(packets), end)
            for packets, end in zip(batches, ends, strict=True)
        ]
        parts[0].seconds = verdicts.seconds  # of all of them, told once
        return parts

    def _judge(self, batch: Batch, topic: str, envelope: _Envelope, suspended: dict[str, str]) -> None:
        verdicts = envelope.verdicts
        for channels, public in ((self._public, True), (self._all, False)):
            readers = [channel for channel in channels if self.channels.reads(channel, topic)]
            verdicts.gaps |= {c.name: suspended[c.name] for c in readers if c.name in suspended}
            active = [channel for channel in readers if channel.name not in suspended]
            if active:
                with _timed(verdicts, "filter"):
                    self._run(active, _View(batch, _reads(channels), self.channels.survey, public), envelope)

    def _run(self, channels: list[Channel], view: _View, envelope: _Envelope) -> None:
        for channel in channels:
            mask = envelope.passes(channel, view)
            if mask is not None:
                envelope.verdicts.matches[channel.name] = view.matches(mask)

    def _part(self, batch: Batch, whole: Verdicts, start: int, stop: int) -> Verdicts:
        """The verdicts on the packets from `start` up to `stop`."""
        verdicts = Verdicts(
            matches={name: _within(found, start, stop) for name, found in whole.matches.items()},
            refused=_within(whole.refused, start, stop),
            gaps=dict(whole.gaps),
            failures=list(whole.failures),
        )
        self._describe(batch.part(start, stop), verdicts)
        return verdicts

    def _describe(self, batch: Batch, verdicts: Verdicts) -> None:
        verdicts.alerts = batch.table.num_rows
        names = batch.table.column("objectId").to_numpy(zero_copy_only=False)
        verdicts.objects = np.unique(pd.util.hash_array(names.astype(object))).tolist() if len(names) else []
        verdicts.other_surveys = batch.other
        verdicts.refused += [_refusal(refused.index, refused.error) for refused in batch.refused]
        programid = batch.table.column("programid")
        verdicts.not_public = batch.table.num_rows - (
            pc.sum(pc.equal(programid, PUBLIC_PROGRAMID)).as_py() or 0
        )
        if self._public:
            verdicts.unlisted = batch.unlisted
            verdicts.mixed = _mixed_packets(batch, SURVEYS[self.channels.survey].histories)
            verdicts.mixed |= batch.unlisted.keys()


class _View:
    """What the channels of one access see of a batch: public ones, the public rows only."""

    def __init__(self, batch: Batch, reads: list[str], survey: str, public: bool) -> None:
        table, packet = batch.table, batch.packet
        if public:
            keep = _public_rows(batch)
            if not keep.all():
                table, packet = table.filter(pa.array(keep)), packet[keep]
        self._table, self._packet = table, packet
        self._reads, self._survey, self._public_only = reads, survey, public

    @cached_property
    def frame(self) -> pd.DataFrame:
        return to_frame(self._table, self._reads, self._survey, public=self._public_only)

    def rows(self, start: int, stop: int) -> pd.DataFrame:
        """Some rows; all of them as the very frame, whose flattened histories the filters share."""
        whole = start == 0 and stop == len(self.frame)
        return self.frame if whole else self.frame.iloc[start:stop]

    def match(self, row: int) -> Match:
        """The record that holds this row."""
        return self._matches(np.array([row]))[0]

    def matches(self, mask: np.ndarray) -> list[Match]:
        """One match a record, even if several of its rows pass."""
        found = self._matches(np.flatnonzero(mask))
        return list({match.index: match for match in reversed(found)}.values())[::-1]

    def _matches(self, rows: np.ndarray) -> list[Match]:
        if not len(rows):
            return []
        values = [self._table.column(name).take(pa.array(rows)).to_pylist() for name in _NAMING]
        return [Match(*found) for found in zip(self._packet[rows].tolist(), *values, strict=True)]


class _Envelope:
    """Runs a filter so that whatever it does concerns nobody else."""

    def __init__(self, guard: Guard, seconds: float, failing_alerts: int, verdicts: Verdicts) -> None:
        self.verdicts = verdicts
        self._guard, self._seconds, self._failing_alerts = guard, seconds, failing_alerts

    def passes(self, channel: Channel, view: _View) -> np.ndarray | None:
        """The channel's mask over the view, or None when the filter itself has failed."""
        mask = np.zeros(len(view.frame), dtype=bool)
        bad: list[tuple[int, BaseException]] = []
        pending = [(0, len(mask))] if len(mask) else []
        deadline = time.monotonic() + self._seconds
        while pending:
            start, stop = pending.pop()
            try:
                with self._guard.running(channel.name, self._seconds):
                    mask[start:stop] = channel.filter.passes(view.rows(start, stop)).to_numpy(dtype=bool)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # user code may raise anything, SystemExit too
                if isinstance(error, MemoryError) or time.monotonic() > deadline:
                    self._failed(channel, error)
                    return None
                if stop - start > 1:
                    middle = (start + stop) // 2
                    pending += [(middle, stop), (start, middle)]
                    continue
                bad.append((start, error))
                if len(bad) > self._failing_alerts:
                    self._failed(channel, error)
                    return None
        for row, raised in bad:
            self._set_aside(channel, view.match(row), raised)
        return mask

    def _failed(self, channel: Channel, error: BaseException) -> None:
        failure = ChannelFailure(channel.name, one_line(error), "".join(traceback.format_exception(error)))
        self.verdicts.failures.append(failure)
        self.verdicts.gaps[channel.name] = failure.message

    def _set_aside(self, channel: Channel, match: Match, error: BaseException) -> None:
        refusal = Refusal(
            match.index,
            "filter",
            "filter-raised",
            one_line(error),
            channel.name,
            match.candid,
            match.objectId,
        )
        self.verdicts.refused.append(refusal)


class _timed:
    """Adds the time spent within to a stage's total."""

    def __init__(self, verdicts: Verdicts, stage: str) -> None:
        self._seconds, self._stage = verdicts.seconds, stage

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.perf_counter() - self._began


def _within(found: list[_Found], start: int, stop: int) -> list[_Found]:
    """What concerns the packets from `start` up to `stop`, counted from there."""
    here = [one for one in found if start <= one.index < stop]
    return [replace(one, index=one.index - start) for one in here] if start else here


def _reads(channels: Sequence[Channel]) -> list[str]:
    return list(dict.fromkeys(name for channel in channels for name in channel.filter.reads or ()))


def _refusal(index: int, error: PacketError) -> Refusal:
    return Refusal(index, "decode", error.reason, str(error))


def _public_rows(batch: Batch) -> np.ndarray:
    """Rows whose packet is public: every one of its records has programid exactly 1."""
    public = pc.fill_null(pc.equal(batch.table.column("programid"), PUBLIC_PROGRAMID), False)
    mask = public.to_numpy(zero_copy_only=False)
    return mask & ~np.isin(batch.packet, batch.packet[~mask])


def _mixed_packets(batch: Batch, histories: Sequence[str]) -> set[int]:
    """Packets with a history row whose programid is not exactly 1."""
    mixed: set[int] = set()
    for history in histories:
        column = batch.table.column(f"{history}.programid")
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        rows = pc.fill_null(pc.not_equal(pc.list_flatten(column), PUBLIC_PROGRAMID), True)
        if pc.any(rows).as_py():
            parents = pc.list_parent_indices(column).filter(rows).unique().to_numpy()
            mixed |= set(batch.packet[parents].tolist())
    return mixed
