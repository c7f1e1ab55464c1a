"""Filters tried on a share of a night: read its columns once, ask every filter with every set of parameters.

The same functions run as live: the frame is made by `schemas.frame`, the cuts by `Filter.evaluate`. Dask is
not used here; the outcome of a share is the same wherever it is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from archive.layout import BODY, SCHEMA
from archive.read.bodies import in_bodies
from archive.read.columns import BATCH_ROWS, Tally
from archive.read.counting import text_keys
from archive.read.fragments import WHOLE, Piece
from archive.read.objects import decoded
from archive.read.view import View
from archive.replay.records import Records, held_by
from filters import Filter
from filters.external.externals import Externals, external_names, frames_of
from filters.halving import by_halves
from filters.values import none_of
from schemas.errors import one_line
from schemas.frame import FrameMaker
from schemas.surveys.registry import survey_named

Way = Literal["dataframe", "bag"]
SOURCE = ("_topic", "_partition", "_offset", "_file")
"""What names a source record."""

RECEIVED = "_timestamp"
"""When a source record came: of its Kafka record, among matches as microseconds since 1970."""

FACTS = ("ra", "dec", "jd", "band", "mag", "magerr")
"""Columns that each match carries, whatever its filter reads: all surveys have them."""

_IDENTITY = ("candid", "objectId")
"""Alerts of a share that a filter may raise on; with more, the filter itself has failed."""


def value_columns(f: Filter) -> list[str]:
    """What the values that a filter gives are called among its matches: their names, where these are free."""
    taken = {*FACTS, *SOURCE, RECEIVED, *_IDENTITY, *(f.reads or ())}
    return [f"{name}_value" if name in taken else name for name in f.gives]


def facts_maker(
    f: Filter, survey: str, externals: Externals | None = None, values: Sequence[str] = ()
) -> FrameMaker:
    """What makes the columns that a filter's matches carry: FACTS, and the values it reads.

    Parameters
    ----------
    f
        The filter.
    survey
        Whose alerts.
    externals
        Where external columns come from; the versions in use now where left out.
    values
        More columns that are wanted.

    Raises
    ------
    NoSuchExternal
        For a catalogue, region or sky map that is not there.
    """
    scalars = set(survey_named(survey).scalars()) - {"night"}  # which each match has by its partition
    own = [name for name in f.reads or () if name in scalars or name in external_names([name])]
    return frames_of(list(dict.fromkeys([*FACTS, *own, *values])), survey, externals=externals)


@dataclass(frozen=True)
class Failure:
    """A filter raised on an alert, or (candid None) on so many of a share that it was given up there."""

    variant: int
    night: date | None
    candid: int | None
    error: str


@dataclass
class Outcome:
    """What a share came to. V filters, n groups of neighbouring rows with one objectId.

    cuts: for each filter the names of its cuts (None: it saw no alert). reached: for each filter, alerts by
    the number of cuts passed before the first that failed. keys: uint64 (n,), an object each; depths: uint8
    (V, n), the most cuts that one of its alerts passed. matches: a table with the column `variant`.
    unjudged: int64 (V,), alerts for which each filter gave no answer.
    seconds: float (V,), of each filter. whole: whether all of the share was tried.
    """

    night: date | None
    variants: int
    alerts: int = 0
    whole: bool = True
    cuts: list[tuple[str, ...] | None] = field(default_factory=list)
    reached: list[np.ndarray] = field(default_factory=list)
    keys: list[np.ndarray] = field(default_factory=list)
    depths: list[np.ndarray] = field(default_factory=list)
    matches: list[pa.Table] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unjudged: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.cuts = [None] * self.variants
        self.reached = [np.zeros(256, np.int64) for _ in range(self.variants)]
        self.unjudged = np.zeros(self.variants, np.int64)
        self.seconds = np.zeros(self.variants)


@dataclass(frozen=True)
class Trial:
    """What to do with each share: which filters, on what view of the archive at `path`.

    sources: matches say which record they are. way: "dataframe" asks a filter once a batch, "bag" once a
    packet, decoded from its Avro body. values: columns that matches carry beside what their filter reads.
    only: the filters see these records and no others; none: they see all.
    """

    filters: tuple[Filter, ...]
    path: str
    view: View
    sources: bool = False
    way: Way = "dataframe"
    values: tuple[str, ...] = ()
    only: tuple[Records, ...] = ()

    @property
    def whole_nights(self) -> bool:
        """Whether some filter's answer depends on other alerts of the same exposure."""
        return any(f.scope == "exposure" for f in self.filters)

    def __call__(self, share: Sequence[Piece], stopped: Callable[[], bool] = lambda: False) -> Outcome:
        """What the share comes to; only its first batches, when `stopped` by then."""
        outcome = Outcome(share[0].night, len(self.filters))
        extra = [
            *_IDENTITY,
            *dict.fromkeys(name for maker in self._facts() for name in maker.columns),
            *((*SOURCE, RECEIVED) if self.sources else ()),
            *((SCHEMA, BODY) if self.way == "bag" else ()),
        ]
        if self.whole_nights and len(share) > 1:
            batches = [(f, t, p) for p in share for f, t in self._batches(p, extra, outcome.tally)]
            frame = pd.concat([f for f, _, _ in batches], ignore_index=True)
            self._try(outcome, frame, pa.concat_tables([self._with_program(t, p) for _, t, p in batches]))
            return outcome
        for piece in share:
            for frame, table in self._batches(piece, extra, outcome.tally):
                if stopped():
                    outcome.whole = False
                    return outcome
                self._try(outcome, frame, self._with_program(table, piece))
        return outcome

    def _batches(
        self, piece: Piece, extra: Sequence[str], tally: Tally
    ) -> Iterator[tuple[pd.DataFrame, pa.Table]]:
        reader = self.view.reader(piece)
        rows = WHOLE if self.whole_nights else 1 if self.way == "bag" else BATCH_ROWS
        for frame, table, _ in self.view.batches(piece, rows, reader, extra):
            yield frame, table
        tally.add(reader.tally)

    @property
    def _stamps(self) -> bool:
        """Whether some filter reads what only the packets' bodies have."""
        return any(in_bodies(f.reads or (), self.view.survey) for f in self.filters)

    def _try(self, outcome: Outcome, frame: pd.DataFrame, table: pa.Table) -> None:
        """Ask every filter about one batch."""
        if self.only:
            keep = held_by(self.only, *(table[name].to_pandas() for name in SOURCE[:3]))
            frame, table = frame[keep].reset_index(drop=True), table.filter(pa.array(keep))
        if not len(frame):
            return
        depths = np.zeros((len(self.filters), len(frame)), np.uint8)
        packets = list(decoded(self.path, self.view, table, self._stamps)) if self.way == "bag" else []
        for number, f in enumerate(self.filters):
            began = time.perf_counter()
            one = _Asked(f, number, outcome, frame)
            names = (
                one.by_packets(packets, depths[number]) if self.way == "bag" else one.by_batch(depths[number])
            )
            outcome.seconds[number] += time.perf_counter() - began
            if names is not None:
                outcome.cuts[number] = names
                passing = np.flatnonzero(depths[number] == len(names))
                values = self._values(f, passing, frame, packets, whole=not outcome.unjudged[number])
                self._note_matches(outcome, number, passing, table, values)
            outcome.reached[number] += np.bincount(depths[number], minlength=256)
        outcome.alerts += len(frame)
        _note_objects(outcome, text_keys(table["objectId"]), depths)

    def _values(
        self,
        f: Filter,
        rows: np.ndarray,
        frame: pd.DataFrame,
        packets: Sequence[dict[str, Any]],
        whole: bool,
    ) -> pd.DataFrame:
        """What the filter computes for the alerts that pass: the same values as in the whole batch.

        whole: it has given an answer for each alert.
        """
        if not f.gives or not len(rows):
            return none_of(f.gives)
        if self.way == "bag":
            maker = frames_of(f.require_reads(), self.view.survey, externals=self.view.externals)
            return f.judge(maker.of_packets([packets[row] for row in rows.tolist()])).values
        if f.scope == "exposure" and whole:
            judged = f.judge(frame)  # those that do not pass are part of their exposures
            return judged.values.iloc[np.searchsorted(np.flatnonzero(judged.mask), rows)]
        return f.judge(frame.iloc[rows]).values

    def _note_matches(
        self, outcome: Outcome, number: int, rows: np.ndarray, table: pa.Table, values: pd.DataFrame
    ) -> None:
        if len(rows):
            maker = self._facts()[number]
            own = [*self._program, *((*SOURCE, RECEIVED) if self.sources else ())]
            chosen = table.select(list(dict.fromkeys([*maker.columns, *own]))).take(pa.array(rows))
            frame = maker.frame(chosen)
            facts = pa.Table.from_pandas(frame.drop(columns=own, errors="ignore"), preserve_index=False)
            facts = facts.replace_schema_metadata(None)
            for name in own:
                column = chosen[name]
                facts = facts.append_column(name, column.cast(pa.int64()) if name == RECEIVED else column)
            for name, shown in zip(values.columns, value_columns(self.filters[number]), strict=True):
                facts = facts.append_column(shown, pa.array(values[name], from_pandas=True))
            variant = pa.repeat(pa.scalar(number, pa.int32()), len(rows))
            outcome.matches.append(facts.append_column("variant", variant))

    def _facts(self) -> list[FrameMaker]:
        """For each filter what makes the columns that its matches carry: FACTS, and the values it reads."""
        return [facts_maker(f, self.view.survey, self.view.externals, self.values) for f in self.filters]

    @property
    def _program(self) -> list[str]:
        """The column that says whose data an alert is, where the survey has one."""
        field = survey_named(self.view.survey).public.field
        return [] if field is None else [field]

    def _with_program(self, table: pa.Table, piece: Piece) -> pa.Table:
        for name in self._program:
            if name not in table.schema.names:
                kind = survey_named(self.view.survey).arrow_type(name)
                value = pa.scalar(piece.program, kind)
                table = table.append_column(name, pa.repeat(value, table.num_rows))
        return table


def _note_objects(outcome: Outcome, keys: np.ndarray, depths: np.ndarray) -> None:
    """An object's alerts lie side by side, being sorted by place: its neighbours become one group here."""
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    if len(starts) < len(keys):
        keys, depths = keys[starts], np.maximum.reduceat(depths, starts, axis=1)
    outcome.keys.append(keys)
    outcome.depths.append(depths)


@dataclass
class _Asked:
    """One filter and one batch."""

    filter: Filter
    number: int
    outcome: Outcome
    frame: pd.DataFrame

    def by_batch(self, depths: np.ndarray) -> tuple[str, ...] | None:
        """Fill in how many cuts each alert passes; the names of the cuts, None when it raised throughout.

        A batch on which the filter raises is halved until each failing alert is isolated, as in the live
        stream.
        """
        names: tuple[str, ...] | None = None

        def judge(start: int, stop: int) -> None:
            nonlocal names
            whole = stop - start == len(self.frame)
            part = self.frame if whole else self.frame.iloc[start:stop]
            cuts = self.filter.evaluate(self.filter.restricted(part))[1]
            names = tuple(cuts)
            _count_cuts(list(cuts.values()), depths[start:stop])

        halved = by_halves(len(self.frame), judge)
        if halved.gave_up is not None:
            self._fail(halved.gave_up, None, len(self.frame))
            depths[:] = 0
            return None
        for row, error in halved.failed:
            self._fail(error, row)
        return names

    def by_packets(self, packets: Sequence[dict], depths: np.ndarray) -> tuple[str, ...] | None:
        """The same, one packet at a time."""
        names: tuple[str, ...] | None = None
        for row, packet in enumerate(packets):
            try:
                verdict = self.filter.one(packet)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a user's code may raise anything, SystemExit too
                self._fail(error, row)
                continue
            names = tuple(verdict.cuts)
            _count_cuts([np.array([passed]) for passed in verdict.cuts.values()], depths[row : row + 1])
        return names

    def _fail(self, error: BaseException, row: int | None, alerts: int = 1) -> None:
        candid = None if row is None else int(self.frame["candid"].iloc[row])
        self.outcome.unjudged[self.number] += alerts
        self.outcome.failures.append(Failure(self.number, self.outcome.night, candid, one_line(error)))


def _count_cuts(cuts: Sequence[np.ndarray], depths: np.ndarray) -> None:
    """How many cuts each alert passes before the first that it does not."""
    alive: np.ndarray | None = None
    for cut in cuts:
        alive = cut if alive is None else alive & cut
        depths += alive
