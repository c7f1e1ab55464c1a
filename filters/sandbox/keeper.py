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
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.sandbox.errors import Changed, Ended, NoSandbox, OnTrial, Raised, TooSlow
from filters.sandbox.inside.confine import MEMORY
from filters.sandbox.models import read_models
from filters.sandbox.processes import Child, Zygote
from filters.sandbox.question import Program, Question, is_alike
from filters.sandbox.seat import CREDIT_ALERT, SECONDS_AN_ALERT, STRIKES_SECONDS, Seat
from filters.sandbox.trials import nobody_waits
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

SECONDS = 0.2
"""Processor time that a filter may use on a batch, beside what each of its alerts gives it."""
_LOAD_SECONDS, _LOAD_SECONDS_A_BYTE = 1.0, 5e-8
_LAST_SECONDS = 0.03
TWICE = 1 / 50
"""Share of the batches that are judged twice."""
_MOST_STRIKES = 3
_MOST_CHILDREN = 64
_MOST_TRIAL = 20
"""Batches that a process judges on trial: twice as many as one had when it had to be ended, at most these."""


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
        zygote: str = "filters.sandbox.inside.zygote",
        *,
        memory: int = MEMORY,
        seconds: float = SECONDS,
        twice: float = TWICE,
    ) -> None:
        self._memory, self._seconds, self._twice, self._module = memory, seconds, twice, zygote
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None
        self._seats: dict[str, Seat] = {}
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
        batch = Question(program, dict(values), columns, index, whole)
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
    def _seat(self, owner: str) -> Iterator[Seat]:
        with self._lock:
            seat = self._seats.setdefault(owner, Seat(owner))
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

    def _loaded(self, seat: Seat, program: Program) -> dict[str, Any]:
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

    def _checked(self, seat: Seat, batch: Question) -> Verdicts:
        """The verdicts on a batch; now and then it is judged again. Raises Changed too."""
        found = self._judged(seat, batch)
        if self._random.random() < self._twice:
            self._refuse_another(found, self._in_two(seat, batch), "in two parts")
        if seat.is_old:
            seat.leave()
            again = self._judged(seat, batch)
            self._refuse_another(found, [(again, np.arange(len(batch.index)))], "in a new process")
        return found

    def _on_trial(self, seat: Seat, batch: Question) -> OnTrial:
        """Have the batch judged beside the stream; what to raise."""
        program = batch.program
        if not seat.trials.is_running(program.key):
            _ = batch.packed  # now: the columns are the caller's, who goes on with them
            seat.trials.begin(program.key, partial(self._tried, seat, batch))
        return OnTrial(
            f"filter {program.file} is not waited for: a filter of {program.owner.partition(',')[0]} took far"
            " longer than usual, or had to be ended; it is tried beside the stream"
        )

    def _tried(self, seat: Seat, batch: Question) -> None:
        """Judge a batch with a child that lets everybody else go first. Raises what `judge` does.

        More than once, so that who does well for a while and then does not is not back at once.
        """
        place, lived = Seat(batch.program.owner, gently=True), max(seat.lived, seat.batches)
        try:
            for _ in range(max(1, min(2 * lived, _MOST_TRIAL))):
                self._judged(place, batch)
        except Ended as ended:
            ended.strike = seat.strike(batch.program.key)
            raise
        finally:
            place.leave()

    def _judged(self, seat: Seat, batch: Question) -> Verdicts:
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
        seat: Seat,
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

    def _child(self, seat: Seat) -> Child:
        if seat.child is None:
            self.start()
            assert self._zygote is not None
            seat.enter(self._zygote.fork(self._memory, seat.gently), self._random)
            assert seat.child is not None
        return seat.child

    def _end(self, seat: Seat, program: Program, why: str, traceback: str = "") -> Ended:
        """End the child; what to raise."""
        seat.leave()
        ended = Ended(f"filter {program.file}:{program.function} was ended: {why}".replace(":was", " was"))
        ended.strike, ended.traceback = seat.strike(program.key), traceback
        return ended

    def _refuse_the_often_ended(self, seat: Seat, program: Program) -> None:
        """Whoever tries a long replay, or enables again and again, takes no more time. Raises Ended."""
        if (strikes := seat.strikes(program.key)) >= _MOST_STRIKES:
            ended = Ended(
                f"filter {program.file}:{program.function} is not run: its process was ended {strikes} times"
                f" within {STRIKES_SECONDS / 60:.0f} minutes",
                hint="another text is run at once",
            )
            ended.strike = strikes
            raise ended

    def _in_two(self, seat: Seat, batch: Question) -> list[tuple[Verdicts, np.ndarray]]:
        """The batch judged as two batches: verdicts and rows of each."""
        return [(self._judged(seat, batch.part(rows)), rows) for rows in batch.halves(self._random)]

    def _refuse_another(self, one: Verdicts, parts: list[tuple[Verdicts, np.ndarray]], how: str) -> None:
        if not is_alike(one, parts):
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
    return Sandbox("filters.sandbox.inside.modelled")


class _ZygoteGone(NoSandbox):
    """The zygote has ended, and with it the child that was asked: no fault of the filter."""


_T = TypeVar("_T")


def _once_more(ask: Callable[[], _T]) -> _T:
    """The answer of another zygote, where one has ended."""
    try:
        return ask()
    except _ZygoteGone:
        return ask()
