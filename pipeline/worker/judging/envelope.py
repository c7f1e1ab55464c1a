"""What a channel sees of a batch, and how its filter runs so that whatever it does concerns nobody else."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.contract import Filter
from filters.expressions.terms import Shared
from filters.halving import by_halves, is_hopeless
from filters.sandbox.errors import Ended, OnTrial
from filters.sandbox.uploaded import Uploaded
from filters.values import as_json
from filters.view import AlertView
from pipeline.channels.channel import Channel
from pipeline.worker.judging.memory import Kept
from pipeline.worker.judging.surveyor import ascending, public_rows
from pipeline.worker.judging.verdicts import Match, Refusal, Verdicts
from pipeline.worker.work import ChannelFailure
from schemas.errors import one_line
from schemas.frame import IDENTITY, FrameMaker
from schemas.packets.reader import Batch

_STRIKES = 2
"""So often a filter's process may have to be ended, of late, before its channel is suspended; then a gap."""
_UPLOADED_SECONDS = 2.0  # in which a user's filter may be halved
_SANDBOX_SECONDS = 120.0  # for the sandbox, which has its own limits, to answer


_NO_PACKETS = np.array([], np.int64)


class Guard(Protocol):
    """Watches over a filter while it runs (see pipeline.worker.judging.running)."""

    def running(self, channel: str, seconds: float) -> AbstractContextManager[None]: ...


class View:
    """What the channels of one access see of a batch: public ones, the public rows only.

    Parameters
    ----------
    batch
        Packets of one survey.
    maker
        Makes the frame with the columns that the channels read.
    public
        Whether these channels see the public rows only.
    """

    def __init__(self, batch: Batch, maker: FrameMaker, public: bool) -> None:
        table, packet = batch.table, batch.packet
        if public:
            keep = public_rows(batch, maker.survey)
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
        return ascending(self._packet)

    def kept(self, answer: Answer) -> np.ndarray:
        """The packets some of whose rows passed, or failed."""
        if not answer.failed and not answer.mask.any():
            return _NO_PACKETS
        kept = answer.mask.copy()
        kept[answer.failed] = True
        return ascending(self._packet[kept])

    def _is_whole(self, start: int, stop: int) -> bool:
        return start == 0 and stop == self.length

    def rows(self, start: int, stop: int) -> pd.DataFrame:
        """Some rows; all of them as the very frame, whose flattened histories the filters share."""
        return self.frame if self._is_whole(start, stop) else self.frame.iloc[start:stop]

    def seen_by(self, f: Filter, start: int, stop: int) -> pd.DataFrame:
        """Some rows as a filter sees them: of the whole, what those with the same columns share.

        Parameters
        ----------
        f
            The filter.
        start, stop
            The first row, and the one after the last.
        """
        if f.reads is None or not self._is_whole(start, stop):
            return self.rows(start, stop)
        found = self._seen.get(f.reads)
        if found is None or not found.is_untouched([*f.reads, *IDENTITY]):
            found = self._seen[f.reads] = f.restricted(self.frame)
            found.remember()
        return found

    def shared(self, start: int, stop: int) -> Shared:
        """What expressions have asked of some rows; of all of them by whichever channel."""
        return self._shared if self._is_whole(start, stop) else Shared(self.rows(start, stop))

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
        """One match a record, even if several of its rows pass.

        Parameters
        ----------
        mask
            Who passes, (n,) bool.
        values
            Row -> what the filter gives of it.
        columns
            Columns whose values travel too.
        """
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


class Answer(NamedTuple):
    """What a filter said of a view: one mask, the values of rows that pass, the rows that it raised on."""

    mask: np.ndarray
    values: dict[int, dict[str, Any]]
    failed: list[int]


class Envelope:
    """Runs a filter so that whatever it does concerns nobody else.

    Parameters
    ----------
    guard
        Watches over a filter while it runs.
    seconds
        Time limit of each run of a filter, s.
    failing_alerts
        Most alerts on which a filter may raise; with more, the filter itself has failed.
    verdicts
        Where failures, gaps and alerts that are set aside are noted.
    kept
        How much memory each channel's filter has kept.
    """

    def __init__(
        self, guard: Guard, seconds: float, failing_alerts: int, verdicts: Verdicts, kept: Kept
    ) -> None:
        self.verdicts, self._kept = verdicts, kept
        self._guard, self._seconds, self._failing_alerts = guard, seconds, failing_alerts

    def passes(self, channel: Channel, view: View) -> Answer | None:
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
        return Answer(mask, values, [row for row, _ in halved.failed])

    def _failed(self, channel: Channel, error: BaseException) -> None:
        """The batch is a gap of the channel; the channel has failed, unless it is given another chance."""
        self.verdicts.gaps[channel.name] = one_line(error)
        if isinstance(error, OnTrial):
            return  # why has been told; either it comes back, or it ends once more
        if isinstance(error, Ended) and error.strike < _STRIKES:
            self.verdicts.chances.append(f"channel {channel.name}: {error}; a gap, and it goes on")
        else:
            told = one_line(error) + _place_in(channel.filter, error)
            self.verdicts.failures.append(ChannelFailure(channel.name, told, _traceback(error)))

    def _set_aside(self, channel: Channel, match: Match, error: BaseException) -> None:
        refusal = Refusal(
            match.index,
            "filter",
            "filter-raised",
            one_line(error) + _place_in(channel.filter, error),
            channel.name,
            match.candid,
            match.objectId,
        )
        self.verdicts.refused.append(refusal)


def _place_in(chosen: Filter, error: BaseException) -> str:
    """Where in the filter's own file it was raised, as " (mine.py, line 12)"; "" where that is not known."""
    file = getattr(getattr(chosen.function, "__code__", None), "co_filename", None)
    frames = traceback.walk_tb(error.__traceback__)
    lines = [number for frame, number in frames if frame.f_code.co_filename == file]
    return f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""


def _traceback(error: BaseException) -> str:
    """Of user code; what the sandbox says is of the user's text alone."""
    told = getattr(error, "traceback", None)
    return told if isinstance(told, str) else "".join(traceback.format_exception(error))
