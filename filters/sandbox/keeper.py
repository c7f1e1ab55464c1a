"""The pipeline's side of the sandbox: a zygote for each process, a child for each owner, and time limits.

A child that takes too long, takes too much memory or answers nonsense is ended at once; the next batch gets a
new one. Who may be heard again is for the caller to decide: `Ended.strike` counts. Who is in a hurry
does not wait a second time for such an owner (see filters.sandbox.trials).
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.sandbox.batch import packed
from filters.sandbox.confine import MEMORY
from filters.sandbox.errors import Changed, Ended, NoSandbox, OnTrial, Raised, TooSlow
from filters.sandbox.models import ModelFile, read_models
from filters.sandbox.processes import Child, Zygote
from filters.sandbox.trials import Trials, nobody_waits
from filters.sandbox.wire import (
    JUDGE,
    LOAD,
    RAISED,
    BadAnswer,
    NoLonger,
    Verdicts,
    never,
    unpack_said,
    unpack_verdicts,
)

SECONDS, SECONDS_AN_ALERT = 0.2, 1e-4
"""Processor time that a filter may use on a batch: so much, and so much for each alert."""
_LOAD_SECONDS, _LOAD_SECONDS_A_BYTE = 1.0, 5e-8
CREDIT_BATCH, CREDIT_ALERT, _MOST_CREDIT = 5e-3, 3e-4, 2.0
"""Processor time in the long run: each batch and each alert give so much; so much may be saved."""
_SURPRISE_SECONDS, _SURPRISE, _FADES, _FEW = 0.05, 5.0, 0.9, 100
"""During an alarm a stream waits so long, and so many times what the alerts of the filter have cost so far.
The share of a dear batch that is remembered after another. Fewer alerts cost a filter as much as so many."""
_LAST_SECONDS = 0.03
TWICE = 1 / 50
"""Share of the batches that are judged twice."""
BATCHES = 1000
"""After about so many a child is replaced; the last of them is judged by both."""
_STRIKES_SECONDS, _MOST_STRIKES = 600.0, 3
_MOST_CHILDREN = 64
_MOST_TRIAL = 20
"""Batches that a process judges on trial: twice as many as one had when it had to be ended, at most these."""


@dataclass(frozen=True)
class Program:
    """A stranger's filter.

    owner: whose child judges it; what of the data a child may see belongs into this name. file: the name of
    the text; function: of the filter, "" for the only one. models: that the text asks for by name.
    """

    owner: str
    text: str
    file: str
    function: str
    models: tuple[ModelFile, ...] = ()

    @cached_property
    def key(self) -> str:
        """Names text, function and models."""
        models = "".join(f" {one.name}={one.version}" for one in self.models)
        return f"{content_hash(self.text)}:{self.function}{models}"


def content_hash(text: str) -> str:
    """Of a filter's text, as an operator approves it: 64 hexadecimal digits."""
    return sha256(text.encode()).hexdigest()


class Sandbox:
    """The children of this process, one an owner. Any thread may ask; of one owner one at a time.

    Parameters
    ----------
    zygote
        Module of the zygote.
    memory
        Bytes that a child may take beside what it begins with.
    seconds
        Processor time for a batch, beside `SECONDS_AN_ALERT`.
    twice
        Share of the batches that are judged again in two parts.
    """

    def __init__(
        self,
        zygote: str = "filters.sandbox.zygote",
        *,
        memory: int = MEMORY,
        seconds: float = SECONDS,
        twice: float = TWICE,
    ) -> None:
        self._memory, self._seconds, self._twice, self._module = memory, seconds, twice, zygote
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None
        self._seats: dict[str, _Seat] = {}
        self._random = random.Random()

    def start(self) -> None:
        """Start the zygote, unless it runs. Raises NoSandbox."""
        with self._lock:
            if self._zygote is None or not self._zygote.runs:
                self._zygote = Zygote(self._module, "strangers' Python does not run here")

    def load(self, program: Program) -> dict[str, Any]:
        """What a filter declares, as its process says: nothing of it is checked.

        Raises NoSandbox, Raised, Ended.
        """
        with self._seat(program.owner) as seat:
            self._refuse_the_often_ended(seat, program)
            seat.known.discard(program.key)
            return _once_more(lambda: self._loaded(seat, program))

    def judge(
        self,
        program: Program,
        values: Mapping[str, Any],
        columns: Mapping[str, Any],
        index: pd.Index,
        whole: str = "",
    ) -> Verdicts:
        """What a filter says of a batch.

        Parameters
        ----------
        program
            The filter.
        values
            Of its parameters.
        columns
            What it sees: name -> pandas or NumPy array.
        index
            Of the batch.
        whole
            A column whose equal values belong together, for a filter of whole exposures; "" for others.

        Raises
        ------
        NoSandbox
            When this machine cannot confine it.
        Raised
            What it raised.
        Ended
            When its process had to be ended.
        OnTrial
            In a hurry, when nobody waits for it.
        TooSlow
            When it uses more processor time than its alerts give it.
        Changed
            When it judged the batch twice, and not alike.
        """
        batch = _Batch(program, dict(values), columns, index, whole)
        with self._seat(program.owner) as seat:
            self._refuse_the_often_ended(seat, program)
            if nobody_waits() and seat.trials.wanted(program.key):
                raise self._on_trial(seat, batch)
            try:
                return _once_more(lambda: self._checked(seat, batch))
            except Ended:
                seat.lived = seat.batches
                seat.trials.doubt()
                seat.trials.alarm()
                raise
            except NoLonger:
                seat.lived = seat.batches
                seat.leave()
                if not seat.trials.wanted(program.key):  # else another process has said so
                    seat.trials.doubt()
                raise self._on_trial(seat, batch) from None

    def close(self) -> None:
        """End all children and the zygote."""
        with self._lock:
            for seat in self._seats.values():
                seat.leave()
            self._seats.clear()
            if self._zygote is not None:
                self._zygote.close()
            self._zygote = None

    @contextlib.contextmanager
    def _seat(self, owner: str) -> Iterator[_Seat]:
        with self._lock:
            seat = self._seats.setdefault(owner, _Seat(owner))
            seat.used = time.monotonic()
            idle = sorted(self._seats.items(), key=lambda item: item[1].used)[:-_MOST_CHILDREN]
            for name, one in idle:
                if one.lock.acquire(blocking=False):
                    self._seats.pop(name).leave()
                    one.lock.release()
        with seat.lock:
            if seat.child is not None and not seat.child.zygote.runs:
                seat.leave()
            yield seat

    def _loaded(self, seat: _Seat, program: Program) -> dict[str, Any]:
        names = ("key", "text", "file", "function")
        asked: dict[str, Any] = {name: getattr(program, name) for name in names}
        batch, seconds = None, _LOAD_SECONDS
        if program.models:
            asked["models"], batch = read_models(program.models)
            seconds += _LOAD_SECONDS_A_BYTE * batch.nbytes
        body = self._asked(seat, program, LOAD, asked, seconds, batch)
        try:
            about = json.loads(body)
        except (ValueError, RecursionError):
            raise self._end(seat, program, "its answer is none") from None
        if not isinstance(about, dict):
            raise self._end(seat, program, "its answer is none")
        seat.known.add(program.key)
        return about

    def _checked(self, seat: _Seat, batch: _Batch) -> Verdicts:
        """The verdicts on a batch; now and then it is judged again. Raises Changed too."""
        found = self._judged(seat, batch)
        if self._random.random() < self._twice:
            self._refuse_another(found, self._in_two(seat, batch), "in two parts")
        if seat.is_old:
            seat.leave()
            again = self._judged(seat, batch)
            self._refuse_another(found, [(again, np.arange(len(batch.index)))], "in a new process")
        return found

    def _on_trial(self, seat: _Seat, batch: _Batch) -> OnTrial:
        """Have the batch judged beside the stream; what to raise."""
        program = batch.program
        if not seat.trials.is_running(program.key):
            _ = batch.packed  # now: the columns are the caller's, who goes on with them
            seat.trials.begin(program.key, partial(self._tried, seat, batch))
        return OnTrial(
            f"filter {program.file} is not waited for: a filter of {program.owner} took far longer than it"
            " does, or had to be ended; it is tried beside the stream"
        )

    def _tried(self, seat: _Seat, batch: _Batch) -> None:
        """Judge a batch with a child that lets everybody else go first. Raises what `judge` does.

        More than once, so that who does well for a while and then does not is not back at once.
        """
        place, lived = _Seat(batch.program.owner, gently=True), max(seat.lived, seat.batches)
        try:
            for _ in range(max(1, min(2 * lived, _MOST_TRIAL))):
                self._judged(place, batch)
        except Ended as ended:
            ended.strike = seat.strike(batch.program.key)
            raise
        finally:
            place.leave()

    def _judged(self, seat: _Seat, batch: _Batch) -> Verdicts:
        program, rows = batch.program, len(batch.index)
        if seat.child is None or program.key not in seat.known:
            self._loaded(seat, program)
        asked = {"key": program.key, "values": batch.values}
        seconds = self._seconds + SECONDS_AN_ALERT * rows
        enough = seat.enough(program.key, rows) if nobody_waits() else never
        body = self._asked(seat, program, JUDGE, asked, seconds, batch.packed, enough)
        seat.batches += 1
        if not seat.pay(program.key, rows):
            raise TooSlow(
                f"it uses more than {CREDIT_ALERT * 1e6:.0f} µs an alert",
                hint="drop alerts with the cheapest cuts first; an operator can approve its code",
            )
        try:
            return unpack_verdicts(body, rows)
        except BadAnswer as error:
            raise self._end(seat, program, str(error)) from None

    def _asked(
        self,
        seat: _Seat,
        program: Program,
        kind: int,
        asked: dict[str, Any],
        seconds: float,
        batch: pa.RecordBatch | None = None,
        enough: Callable[[float], bool] = never,
    ) -> bytes:
        """The body of a child's answer. Raises Raised, Ended, NoSandbox, NoLonger."""
        child = self._child(seat)
        try:
            answer, body = child.ask(kind, asked, batch, seconds, enough=enough)
            if answer != RAISED:
                return body
            said = unpack_said(body)
        except TimeoutError:
            told = child.where(program.file)
            raise self._end(seat, program, f"it took more than {seconds:.2g} s for a batch", told) from None
        except (EOFError, OSError):
            if child.zygote.ends_within(_LAST_SECONDS):  # the kernel has ended both, in any order
                seat.leave()
                raise _ZygoteGone("the sandbox has ended by itself, twice") from None
            raise self._end(seat, program, "its process has ended itself") from None
        except BadAnswer as error:
            raise self._end(seat, program, str(error)) from None
        if said.kind == "MemoryError":
            most = f"it took more than {self._memory >> 20} MB of memory"
            raise self._end(seat, program, most, said.traceback) from None
        raise Raised(*said)

    def _child(self, seat: _Seat) -> Child:
        if seat.child is None:
            self.start()
            assert self._zygote is not None
            seat.enter(self._zygote.fork(self._memory, seat.gently), self._random)
            assert seat.child is not None
        return seat.child

    def _end(self, seat: _Seat, program: Program, why: str, traceback: str = "") -> Ended:
        """End the child; what to raise."""
        seat.leave()
        ended = Ended(f"filter {program.file}:{program.function} was ended: {why}".replace(":was", " was"))
        ended.strike, ended.traceback = seat.strike(program.key), traceback
        return ended

    def _refuse_the_often_ended(self, seat: _Seat, program: Program) -> None:
        """Whoever tries a long replay, or enables again and again, takes no more time. Raises Ended."""
        if (strikes := seat.strikes(program.key)) >= _MOST_STRIKES:
            ended = Ended(
                f"filter {program.file}:{program.function} is not run: its process was ended {strikes} times"
                f" within {_STRIKES_SECONDS / 60:.0f} minutes",
                hint="another text is run at once",
            )
            ended.strike = strikes
            raise ended

    def _in_two(self, seat: _Seat, batch: _Batch) -> list[tuple[Verdicts, np.ndarray]]:
        """The batch judged as two batches: verdicts and rows of each."""
        return [(self._judged(seat, batch.part(rows)), rows) for rows in batch.halves(self._random)]

    def _refuse_another(self, one: Verdicts, parts: list[tuple[Verdicts, np.ndarray]], how: str) -> None:
        if not _alike(one, parts):
            raise Changed(
                f"it gave other verdicts on the same alerts {how}",
                hint="a verdict may depend on the alert alone (on its exposure, where that is the scope): no"
                " clock, no random numbers, no memory of what came before, no other alert of the batch",
            )


@cache
def sandbox() -> Sandbox:
    """The one of this process."""
    return Sandbox()


@cache
def with_models() -> Sandbox:
    """The one for filters that ask models: importing what runs these takes time and memory."""
    return Sandbox("filters.sandbox.modelled")


@dataclass(frozen=True)
class _Batch:
    """A question about some alerts."""

    program: Program
    values: dict[str, Any]
    columns: Mapping[str, Any]
    index: pd.Index
    whole: str = ""

    def part(self, rows: np.ndarray) -> _Batch:
        """Some of its alerts, in their order."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return _Batch(self.program, self.values, columns, self.index[rows], self.whole)

    def halves(self, chance: random.Random) -> tuple[np.ndarray, np.ndarray]:
        """The rows of two parts, cut at random: at some row, or between exposures."""
        count = len(self.index)
        if not self.whole:
            first = np.arange(count) < chance.randint(0, count)
        else:
            codes, exposures = pd.factorize(self.columns[self.whole])
            chosen = np.array([chance.random() < 0.5 for _ in range(len(exposures) + 1)])
            first = chosen[codes]  # those without an exposure, -1, are the last
        return np.flatnonzero(first), np.flatnonzero(~first)

    @cached_property
    def packed(self) -> pa.RecordBatch:
        """The alerts as they are sent."""
        return packed(self.columns, self.index)


class _Seat:
    """An owner's place: the child that sits there now, and what is known of the owner's filters.

    owner: the name. gently: whether its children let everybody else go first.
    """

    def __init__(self, owner: str, gently: bool = False) -> None:
        self.lock, self.used, self.gently = threading.Lock(), 0.0, gently
        self.trials = Trials(owner)
        self.child: Child | None = None
        self.known: set[str] = set()
        self.batches, self.lived, self._most = 0, 0, 0  # of the child; of one that had to be ended
        self._strikes: dict[str, deque[float]] = {}
        self._credit: dict[str, float] = {}
        self._usual: dict[str, float] = {}

    def enough(self, key: str, rows: int) -> Callable[[float], bool]:
        """Says of the processor time that a filter has used on a batch whether a stream waits no longer.

        That is when another process has ended the owner's, or, during an alarm, when this is far more than
        such a batch has ever cost; of a filter that has judged none, more than its alerts may cost.
        """
        usual = self._usual.get(key)
        an_alert = SECONDS_AN_ALERT if usual is None else _SURPRISE * usual
        most = _SURPRISE_SECONDS + an_alert * max(rows, _FEW)
        return lambda used: self.trials.told() or (used > most and self.trials.is_alarm())

    def pay(self, key: str, rows: int) -> bool:
        """For the batch that a filter has just judged; False when it has used up its time."""
        assert self.child is not None
        self._usual[key] = max(_FADES * self._usual.get(key, 0.0), self.child.took / max(rows, _FEW))
        left = self._credit.get(key, _MOST_CREDIT) + CREDIT_BATCH + CREDIT_ALERT * rows - self.child.took
        self._credit[key] = min(left, _MOST_CREDIT) if left >= 0 else _MOST_CREDIT
        return left >= 0

    def enter(self, child: Child, chance: random.Random) -> None:
        """A new child."""
        self.child, self.batches = child, 0
        self._most = chance.randint(BATCHES // 2, BATCHES * 3 // 2)
        self.known.clear()

    def leave(self) -> None:
        """End the child, if there is one."""
        if self.child is not None:
            self.child.end()
        self.child = None
        self.known.clear()

    @property
    def is_old(self) -> bool:
        """Whether the child is to be replaced."""
        return self.batches >= self._most

    def strikes(self, key: str) -> int:
        """How often a filter's process was ended within the last minutes."""
        strikes = self._strikes.get(key, deque())
        while strikes and time.monotonic() - strikes[0] > _STRIKES_SECONDS:
            strikes.popleft()
        return len(strikes)

    def strike(self, key: str) -> int:
        """It was ended now; how often, with this time."""
        self._strikes.setdefault(key, deque()).append(time.monotonic())
        return self.strikes(key)


class _ZygoteGone(NoSandbox):
    """The zygote has ended, and with it the child that was asked: no fault of the filter."""


_T = TypeVar("_T")


def _once_more(ask: Callable[[], _T]) -> _T:
    """The answer of another zygote, where one has ended."""
    try:
        return ask()
    except _ZygoteGone:
        return ask()


def _alike(one: Verdicts, parts: Sequence[tuple[Verdicts, np.ndarray]]) -> bool:
    """Whether verdicts on a batch are those on its parts: verdicts, rows. Names of cuts do not matter."""
    mask = one.passing(sum(len(rows) for _, rows in parts))
    return all(_same(one, mask, part, rows) for part, rows in parts)


def _same(one: Verdicts, mask: np.ndarray, part: Verdicts, rows: np.ndarray) -> bool:
    """Whether verdicts on a batch, those of `mask` passing, are those of a part on its rows."""
    if (part.numbers.keys(), part.words.keys()) != (one.numbers.keys(), one.words.keys()):
        return False
    if not np.array_equal(mask[rows], part.passing(len(rows))):
        return False
    places = (np.cumsum(mask) - 1)[rows[mask[rows]]]  # among those that pass
    same_numbers = (
        np.array_equal(numbers[places], part.numbers[name], equal_nan=True)
        for name, numbers in one.numbers.items()
    )
    same_words = ([words[at] for at in places] == part.words[name] for name, words in one.words.items())
    return all(same_numbers) and all(same_words)
