"""What goes to a worker as one task, and what is reported of it, also where the worker does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed.scheduler import KilledWorker

from pipeline.worker.holding.slot import transactional_id
from pipeline.worker.work import Report, Work, again_together

log = logging.getLogger(__name__)

_PARTIES = {1: 1, 2: 8}  # attempt that did not come back -> tasks of the next one


@dataclass(eq=False)
class Bundle:
    """Compatible pieces of work (see Work.kin), for the worker at `address`."""

    address: str
    works: list[Work] = field(default_factory=list)
    reports: list[asyncio.Future[Report]] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def offsets(self) -> int:
        """How many its works span together."""
        return sum(work.high - work.low for work in self.works)

    def add(self, work: Work) -> asyncio.Future[Report]:
        """Put a piece of work in; the future has its report."""
        report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self.works.append(work)
        self.reports.append(report)
        return report


class Call:
    """A call that is made where it is unpickled, so that a scheduler without our code can hand it on."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._function, self._arguments


def answered(answer: asyncio.Future[Any], works: list[Work]) -> list[Report]:
    """The reports from what Dask says of a task that has ended."""
    try:
        return answer.result()
    except (KilledWorker, asyncio.CancelledError) as error:
        log.debug("%s: %s", works[0].key, error)
        return died(works, "its worker ended")
    except Exception as error:  # process() itself never raises: this is Dask failing to run it
        log.debug("batch %s could not be run: %s", works[0].key, error)
        return again_together(works, f"{type(error).__name__}: {error}", is_open=True)


def died(works: Sequence[Work], why: str) -> list[Report]:
    """Reports on work whose worker has ended, so that nobody knows what became of it.

    It is done again together, then in some parties, and from then on alone:
    where a worker was only killed, or stands still, many partitions would wait long for as many tasks. The
    first goes alone at once: of it the worker has left a note.
    """
    first, *others = works
    parties = min(_PARTIES.get(first.attempt, 0), len(others) // 2)
    names = ["", *(others[n % parties].key if parties else "" for n in range(len(others)))]
    return [
        Report(work, "died", message=why, party=name, open=True)
        for work, name in zip(works, names, strict=True)
    ]


def own_slots(works: Iterable[Work]) -> set[str]:
    """Names of the slots that partitions of these works have for themselves."""
    return {transactional_id(work.group, work.partition) for work in works if work.own_slot}
