"""From packets to verdicts: decode a batch once, run every channel's filter on it.

Kafka is not used here, so that the live stream, a backfill and a test run the same code. User code is
isolated: when a filter raises, the batch is halved until each failing alert is isolated, and these alerts are
set aside for that channel only. When there are many of them the filter itself has failed, and the batch is a
gap of the channel. Other channels are not affected.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from filters.contract import Filter
from filters.errors import FilterError
from filters.expressions.terms import Shared
from filters.halving import by_halves, is_hopeless
from filters.sandbox.errors import Ended
from filters.sandbox.uploaded import Uploaded
from filters.values import as_json
from filters.view import AlertView
from pipeline.broker.dead_letters import Stage
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.ledger import night_of_topic
from pipeline.worker.memory import Kept
from pipeline.worker.work import ChannelFailure
from schemas.avro.framing import SchemaSource
from schemas.errors import NoName, PacketError, one_line
from schemas.frame import IDENTITY, FrameMaker, computed_column, is_public
from schemas.packets.reader import Batch, PacketReader, Refused, read_by_survey
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import Survey
from schemas.time import night_date

_NIGHTS = 500_000  # nights after which the calendar ends
_STRIKES = 2
"""So often a filter's process may have to be ended, of late, before its channel is suspended; then a gap."""
_UPLOADED_SECONDS = 2.0  # in which a user's filter may be halved
_SANDBOX_SECONDS = 120.0  # for the sandbox, which has its own limits, to answer
_ZEROS = bytes(1 << 14)  # more than an alert of nothing but zeros, nulls and empty strings takes


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
    """One record that a channel wants.

    program: whose data it is, where the survey says so. jd: days UTC, where a limit asks for it.
    """

    index: int
    survey: str
    candid: int
    objectId: str
    program: int | None
    values: dict[str, Any] = field(default_factory=dict)
    jd: float | None = None


_Found = TypeVar("_Found", Refusal, Match)


@dataclass
class Verdicts:
    """What a batch came to."""

    matches: dict[str, list[Match]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    gaps: dict[str, str] = field(default_factory=dict)  # channel -> why the whole batch is missing
    failures: list[ChannelFailure] = field(default_factory=list)
    chances: list[str] = field(default_factory=list)  # channels that have a gap here and go on, and why
    mixed: set[int] = field(default_factory=set)  # packets with something that is not public
    unlisted: dict[int, frozenset[str]] = field(default_factory=dict)  # packet -> fields not to be public
    alerts: int = 0
    objects: list[int] = field(default_factory=list)
    other_surveys: dict[str, int] = field(default_factory=dict)
    not_public: int = 0
    judged: list[int] = field(default_factory=list)  # packets with alerts, ascending
    strangers: list[int] = field(default_factory=list)  # packets of surveys that are not known
    seen: dict[str, np.ndarray] = field(default_factory=dict)  # channel -> packets that its filter saw
    rejected: dict[str, np.ndarray] = field(default_factory=dict)  # of these, none of whose rows passed
    nights: dict[int, str] = field(default_factory=dict)  # packet -> its night, in topics that name none
    seconds: dict[str, float] = field(default_factory=dict)
    filter_seconds: dict[str, float] = field(default_factory=dict)  # by channel


class Evaluator:
    """A channel set made ready to run: which columns to decode, which frame each channel sees."""

    def __init__(self, channels: ChannelSet, schemas: SchemaSource | None = None) -> None:
        self.channels, self.schemas, self.kept = channels, schemas, Kept()
        # Where no channel runs all packets are read all the same: damaged ones go to the dead letters.
        self._of = {name: _Surveyor(name, channels, schemas) for name in channels.surveys or SURVEYS}
        self._surveys = list(self._of.values())

    def prepare(self) -> None:
        """Load what the first batch would wait for. No filter runs: it might not come back.

        Filters of users are loaded where they will run: in the sandbox, which has a time limit.
        """
        for surveyor in self._surveys:
            surveyor.prepare()
        for channel in self.channels.channels:
            if isinstance(channel.filter.function, Uploaded):
                with suppress(FilterError):  # told when it fails on a batch
                    channel.filter.function.prepare()

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
        """Decode batches of packets and run every channel that may read their topic and is not suspended.

        Each channel runs once over the alerts of all batches, because ten alerts cost a filter as much time
        as a thousand. A filter that fails has failed on each batch.

        Parameters
        ----------
        batches
            Packets of each batch.
        topic
            The topic that they come from.
        guard
            Watches over a filter while it runs.
        suspended
            Channel -> why it does not run.
        filter_seconds
            Time limit of each run of a filter, s.
        failing_alerts
            Most alerts on which a filter may raise; with more, the filter itself has failed.

        Returns
        -------
        list of Verdicts
            One for each batch. The first has the time used for all.
        """
        verdicts = Verdicts()
        with _timed(verdicts.seconds, "decode"):
            packets = [packet for packets in batches for packet in packets]
            parts = read_by_survey([surveyor.reader for surveyor in self._surveys], packets)
        read = [_Read.of(self._of[reader.survey.name], _named(batch)) for reader, batch in parts]
        envelope = _Envelope(guard, filter_seconds, failing_alerts, verdicts, self.kept)
        for one in read:
            self._judge(one.surveyor, one.batch, topic, envelope, suspended)
        _without_failed(verdicts)
        ends = np.cumsum([len(packets) for packets in batches]).tolist()
        dated = bool(night_of_topic(topic))
        each = [
            self._part(read, verdicts, range(end - len(packets), end), dated)
            for packets, end in zip(batches, ends, strict=True)
        ]
        each[0].seconds = verdicts.seconds  # of all of them, told once
        each[0].filter_seconds, each[0].chances = verdicts.filter_seconds, verdicts.chances
        return each

    def _judge(
        self,
        surveyor: _Surveyor,
        batch: Batch,
        topic: str,
        envelope: _Envelope,
        suspended: dict[str, str],
    ) -> None:
        verdicts = envelope.verdicts
        reading = {channel.name for channel in self.channels.readers(topic)}
        for access in surveyor.accesses:
            readers = [channel for channel in access.channels if channel.name in reading]
            verdicts.gaps |= {c.name: suspended[c.name] for c in readers if c.name in suspended}
            active = [channel for channel in readers if channel.name not in verdicts.gaps]
            if active:
                with _timed(verdicts.seconds, "filter"):
                    view = _View(batch, access.maker, access.public)
                    self._run(active, view, envelope)
                    view.forget()

    def _run(self, channels: list[Channel], view: _View, envelope: _Envelope) -> None:
        for channel in channels:
            with _timed(envelope.verdicts.filter_seconds, channel.name):
                answer = envelope.passes(channel, view)
            if answer is not None:
                verdicts, name = envelope.verdicts, channel.name
                matches = view.matches(answer.mask, answer.values, channel.values)
                verdicts.matches.setdefault(name, []).extend(matches)
                _add(verdicts.seen, name, view.packets)
                _add(verdicts.rejected, name, view.rejected(answer))

    def _part(self, read: Sequence[_Read], whole: Verdicts, places: range, dated: bool) -> Verdicts:
        """The verdicts on some of the packets. dated: the topic names their night."""
        start, stop = places.start, places.stop
        verdicts = Verdicts(
            matches={name: _within(found, start, stop) for name, found in whole.matches.items()},
            refused=_within(whole.refused, start, stop),
            gaps=dict(whole.gaps),
            failures=list(whole.failures),
            seen=_from(whole.seen, start, stop),
            rejected=_from(whole.rejected, start, stop),
        )
        for one in read:
            part = one.part(start, stop)
            _describe(part, verdicts)
            if not dated:
                verdicts.nights |= _nights(part.batch, part.surveyor.survey.name)
        verdicts.judged.sort()
        return verdicts


@dataclass(frozen=True)
class _Access:
    """The channels of one access to one survey, and the frames that they see."""

    channels: list[Channel]
    maker: FrameMaker
    public: bool


class _Surveyor:
    """How the packets of one survey are read for the channels of a set."""

    def __init__(self, name: str, channels: ChannelSet, schemas: SchemaSource | None) -> None:
        self.survey: Survey = SURVEYS[name]
        mine = [channel for channel in channels.channels if name in channel.filter.surveys]
        self.accesses = [
            _Access(some, FrameMaker(_reads(some), name, public, external=channels.externals), public)
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
        reader = PacketReader(self._columns, self.survey.name, bare=self.survey.reference)
        reader.read([_ZEROS])


def _named(batch: Batch) -> Batch:
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


def _without_failed(verdicts: Verdicts) -> None:
    """A channel that failed on the alerts of one survey delivers none of the other's: all is its gap."""
    for name in verdicts.gaps:
        for of_channel in (verdicts.matches, verdicts.seen, verdicts.rejected):
            of_channel.pop(name, None)
    verdicts.refused = [one for one in verdicts.refused if one.channel not in verdicts.gaps]
    for matches in verdicts.matches.values():
        matches.sort(key=lambda match: match.index)


def _add(found: dict[str, np.ndarray], channel: str, packets: np.ndarray) -> None:
    """More packets of a channel, of another survey; all ascending."""
    before = found.get(channel)
    found[channel] = packets if before is None else np.sort(np.concatenate([before, packets]))


class _Read(NamedTuple):
    """Packets of one survey, and what is asked of the packets of all partitions at once.

    objects: a 64-bit hash of the objectId of each alert, (n,). public: whether each alert is, (n,). mixed:
    packets with a history row that is not public, ascending.
    """

    surveyor: _Surveyor
    batch: Batch
    objects: np.ndarray
    public: np.ndarray
    mixed: np.ndarray

    @classmethod
    def of(cls, surveyor: _Surveyor, batch: Batch) -> _Read:
        """These packets."""
        survey = surveyor.survey
        names = np.asarray(computed_column(batch.table, "objectId", survey.name), object)
        mixed = _mixed_packets(batch, surveyor.checked, survey.public.value)
        return cls(surveyor, batch, pd.util.hash_array(names), is_public(batch.table, survey), mixed)

    def part(self, start: int, stop: int) -> _Read:
        """Of the packets from `start` up to `stop`."""
        low, high = np.searchsorted(self.batch.packet, [start, stop])
        first, last = np.searchsorted(self.mixed, [start, stop])
        rows, mixed = slice(low, high), self.mixed[first:last] - start
        part = self.batch.part(start, stop)
        return _Read(self.surveyor, part, self.objects[rows], self.public[rows], mixed)


def _describe(read: _Read, verdicts: Verdicts) -> None:
    """Count what packets of one survey held."""
    surveyor, batch = read.surveyor, read.batch
    verdicts.alerts += batch.table.num_rows
    verdicts.judged += _ascending(batch.packet).tolist()
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


def _nights(batch: Batch, survey: str) -> dict[int, str]:
    """Packet -> the date of its night; of several alerts the last one's."""
    nights = np.asarray(computed_column(batch.table, "night", survey), float)
    dates = {
        number: f"{night_date(number)}" for number in np.unique(nights[np.abs(nights) < _NIGHTS]).tolist()
    }
    each = zip(batch.packet.tolist(), nights.tolist(), strict=True)
    return {packet: dates[night] for packet, night in each if night in dates}


def _ascending(packets: np.ndarray) -> np.ndarray:
    """The packets of some rows, each once."""
    return packets[np.append(True, packets[1:] != packets[:-1])] if len(packets) else packets


class _View:
    """What the channels of one access see of a batch: public ones, the public rows only."""

    def __init__(self, batch: Batch, maker: FrameMaker, public: bool) -> None:
        table, packet = batch.table, batch.packet
        if public:
            keep = _public_rows(batch, maker.survey)
            if not keep.all():
                table, packet = table.filter(pa.array(keep)), packet[keep]
        self._table, self._packet, self._maker = table, packet, maker
        self._seen: dict[tuple[str, ...], AlertView] = {}

    @cached_property
    def frame(self) -> pd.DataFrame:
        return self._maker.frame(self._table)

    @cached_property
    def length(self) -> int:
        """How many rows."""
        return len(self.frame)

    @cached_property
    def packets(self) -> np.ndarray:
        """Of the rows, each once, ascending."""
        return _ascending(self._packet)

    def rejected(self, answer: _Answer) -> np.ndarray:
        """The packets none of whose rows passed, nor failed."""
        if not answer.failed and not answer.mask.any():
            return self.packets
        kept = answer.mask.copy()
        kept[answer.failed] = True
        rejected: np.ndarray = self._packet[~kept]
        if len(self.packets) == len(self._packet):
            return rejected
        return _ascending(rejected[~np.isin(rejected, self._packet[kept])])  # packets of several rows

    def rows(self, start: int, stop: int) -> pd.DataFrame:
        """Some rows; all of them as the very frame, whose flattened histories the filters share."""
        whole = start == 0 and stop == self.length
        return self.frame if whole else self.frame.iloc[start:stop]

    def seen_by(self, f: Filter, start: int, stop: int) -> pd.DataFrame:
        """Some rows as a filter sees them: of the whole, what those with the same columns share."""
        if f.reads is None or (start, stop) != (0, self.length):
            return self.rows(start, stop)
        found = self._seen.get(f.reads)
        if found is None or not found.is_untouched([*f.reads, *IDENTITY]):
            found = self._seen[f.reads] = f.restricted(self.frame)
            found.remember()
        return found

    def shared(self, start: int, stop: int) -> Shared:
        """What expressions have asked of some rows; of all of them by whichever channel."""
        return self._shared if start == 0 and stop == self.length else Shared(self.rows(start, stop))

    @cached_property
    def _shared(self) -> Shared:
        return Shared(self.frame)

    def forget(self) -> None:
        """Let go of what the filters have shared."""
        for view in self._seen.values():
            view.forget()
        self._seen.clear()

    def match(self, row: int) -> Match:
        """The record that holds this row."""
        return self._matches(np.array([row]))[0]

    def matches(
        self, mask: np.ndarray, values: Mapping[int, dict[str, Any]], columns: Sequence[str]
    ) -> list[Match]:
        """One match a record, even if several of its rows pass; with the filter's values, and of columns."""
        rows = np.flatnonzero(mask)
        found = self._matches(rows)
        if values or columns:
            own = as_json(self.frame[list(columns)].iloc[rows])
            each = zip(found, rows.tolist(), own or [{}] * len(rows), strict=True)
            found = [replace(match, values={**read, **values.get(row, {})}) for match, row, read in each]
        return list({match.index: match for match in reversed(found)}.values())[::-1]

    def _matches(self, rows: np.ndarray) -> list[Match]:
        if not len(rows):
            return []
        known = self._records
        return [known[row] for row in rows.tolist()]

    @cached_property
    def _records(self) -> list[Match]:
        """The match of each row, without values: shared by the channels that it passes."""
        candids, names = (self.frame[name].array.tolist() for name in ("candid", "objectId"))
        survey, nothing = self._maker.survey, [None] * self.length
        field = survey.public.field
        programs = nothing if field is None else self._table.column(field).to_pylist()
        times = self.frame["jd"].to_numpy().tolist() if "jd" in self.frame else nothing
        found = zip(self._packet.tolist(), candids, names, programs, times, strict=True)
        return [
            Match(index, survey.name, candid, name, program, jd=jd)
            for index, candid, name, program, jd in found
        ]


class _Answer(NamedTuple):
    """What a filter said of a view: one mask, the values of rows that pass, the rows that it raised on."""

    mask: np.ndarray
    values: dict[int, dict[str, Any]]
    failed: list[int]


class _Envelope:
    """Runs a filter so that whatever it does concerns nobody else."""

    def __init__(
        self, guard: Guard, seconds: float, failing_alerts: int, verdicts: Verdicts, kept: Kept
    ) -> None:
        self.verdicts, self._kept = verdicts, kept
        self._guard, self._seconds, self._failing_alerts = guard, seconds, failing_alerts

    def passes(self, channel: Channel, view: _View) -> _Answer | None:
        """The channel's answer for the view, or None when the filter itself has failed."""
        mask = np.zeros(view.length, dtype=bool)
        values: dict[int, dict[str, Any]] = {}
        uploaded = isinstance(channel.filter.function, Uploaded)
        limit = _SANDBOX_SECONDS if uploaded else self._seconds
        deadline = time.monotonic() + (_UPLOADED_SECONDS if uploaded else self._seconds)

        def judge(start: int, stop: int) -> None:
            if channel.filter.is_plain:  # no user's code: it neither ends nor hoards, and needs no guard
                mask[start:stop] = channel.filter.mask(view.shared(start, stop))
                return
            with self._kept.by(channel.name), self._guard.running(channel.name, limit):
                judged = channel.filter.judge(view.seen_by(channel.filter, start, stop))
            mask[start:stop] = judged.mask
            if channel.filter.gives:
                passing = start + np.flatnonzero(judged.mask)
                values.update(zip(passing.tolist(), as_json(judged.values), strict=True))

        def hopeless(error: BaseException) -> bool:
            if channel.filter.scope != "alert":  # a part of an exposure is another exposure
                return True
            return is_hopeless(error) or time.monotonic() > deadline

        halved = by_halves(len(mask), judge, self._failing_alerts, hopeless)
        if halved.gave_up is not None:
            self._failed(channel, halved.gave_up)
            return None
        for row, raised in halved.failed:
            self._set_aside(channel, view.match(row), raised)
        return _Answer(mask, values, [row for row, _ in halved.failed])

    def _failed(self, channel: Channel, error: BaseException) -> None:
        """The batch is a gap of the channel; the channel has failed, unless it is given another chance."""
        self.verdicts.gaps[channel.name] = one_line(error)
        if isinstance(error, Ended) and error.strike < _STRIKES:
            self.verdicts.chances.append(f"channel {channel.name}: {error}; a gap, and it goes on")
        else:
            self.verdicts.failures.append(ChannelFailure(channel.name, one_line(error), _traceback(error)))

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


def _traceback(error: BaseException) -> str:
    """Of user code; what the sandbox says is of the user's text alone."""
    told = getattr(error, "traceback", None)
    return told if isinstance(told, str) else "".join(traceback.format_exception(error))


class _timed:
    """Adds the time spent within to the total of a stage, or of a channel."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + time.perf_counter() - self._began


def _within(found: list[_Found], start: int, stop: int) -> list[_Found]:
    """What concerns the packets from `start` up to `stop`, counted from there."""
    if not found:
        return []
    here = [one for one in found if start <= one.index < stop]
    return [replace(one, index=one.index - start) for one in here] if start else here


def _from(found: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
    """Of each channel's packets those from `start` up to `stop`, counted from there."""
    cuts: dict[int, np.ndarray] = {}  # many channels have seen the same packets
    for some in found.values():
        if id(some) not in cuts:
            low, high = np.searchsorted(some, (start, stop))
            cuts[id(some)] = some[low:high] - start if start else some[low:high]
    return {name: cuts[id(some)] for name, some in found.items()}


def _reads(channels: Sequence[Channel]) -> list[str]:
    every = (name for channel in channels for name in (*(channel.filter.reads or ()), *channel.values))
    times = ["jd"] if any(channel.limits.once for channel in channels) else []
    return list(dict.fromkeys([*every, *times]))


def _refusal(index: int, error: PacketError) -> Refusal:
    return Refusal(index, "decode", error.reason, str(error))


def _public_rows(batch: Batch, survey: Survey) -> np.ndarray:
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
