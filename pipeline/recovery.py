"""What to do after each report: go on, try again, suspend a filter, or close in on a poison packet.

A state machine without Kafka or Dask, so that every order of misfortunes can be tried on it.

A worker that dies leaves a note (pipeline.running) that only the next attempt can read. So a death is
first retried; if the next attempt names a culprit twice for the same range, that channel is
suspended. A range that ends its workers again and again with no filter running is halved until one
record is left, and that record is dead-lettered unread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from pipeline.work import Partition, Report, Work

CULPRIT_TWICE = 2
# The last death is not explained yet, so three in a row mean two that no filter explains.
DEATHS_UNEXPLAINED = 3
_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 0.1, 5.0


@dataclass(frozen=True)
class Done:
    """The group stands at `offset`."""

    offset: int


@dataclass(frozen=True)
class Resume:
    """Ask Kafka where the group stands, after `seconds`."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Again:
    """Do this work, after `seconds`."""

    work: Work
    seconds: float = 0.0


Next = Done | Resume | Again


class Recovery:
    """Remembers misfortunes for as long as they matter."""

    def __init__(self) -> None:
        self.suspended: dict[str, str] = {}  # channel -> why
        self.tracebacks: dict[str, str] = {}
        self._culprits: Counter[tuple[Partition, int, str]] = Counter()
        self._deaths: Counter[Partition] = Counter()
        self._suspects: dict[Partition, tuple[int, int]] = {}  # batch limit, and the offset where it ends
        self._set_aside: Counter[str] = Counter()

    def limit(self, partition: Partition, low: int, usual: int) -> int:
        """How many offsets the next batch from `low` may span: fewer around a poison packet."""
        size, until = self._suspects.get(partition, (usual, -1))
        if low >= until:
            self._suspects.pop(partition, None)
            return usual
        return min(size, usual)

    def after(self, report: Report) -> Next:
        """What to do next for the partition of this report."""
        work = report.work
        if report.outcome == "committed":
            self._deaths.pop(work.partition, None)
            self._note_failures(report)
            return Done(work.high)
        if report.outcome == "moved":
            return Done(report.offset)
        if report.outcome == "stale":
            return Resume(_BACKOFF_SECONDS)
        if report.outcome == "retry":
            backoff = _BACKOFF_SECONDS * 2 ** min(work.attempt, 10)
            return Again(_anew(work), min(backoff, _LONGEST_BACKOFF_SECONDS))
        if report.outcome == "culprit":
            return self._blame(report)
        if report.outcome == "lost":  # the worker ended before it came to this work
            return Again(_anew(work))
        return self._died(report)

    def _blame(self, report: Report) -> Next:
        work = report.work
        self._deaths.pop(work.partition, None)
        blamed = (work.partition, work.low, report.culprit)
        self._culprits[blamed] += 1
        if self._culprits[blamed] >= CULPRIT_TWICE:
            self.suspend(
                report.culprit, "ended its worker twice on the same alerts (too slow, or too much memory)"
            )
            self.tracebacks[report.culprit] = report.traceback
        return Again(_anew(work))

    def _died(self, report: Report) -> Next:
        work = report.work
        self._deaths[work.partition] += 1
        if self._deaths[work.partition] < DEATHS_UNEXPLAINED:
            return Again(_anew(work))
        self._deaths.pop(work.partition)
        if work.high - work.low == 1:
            why = report.message or "every worker that read it died"
            return Again(replace(_anew(work), unreadable=why))
        half = (work.high - work.low) // 2
        _, until = self._suspects.get(work.partition, (0, work.high))
        self._suspects[work.partition] = (half, until)
        return Again(replace(_anew(work), high=work.low + half))

    def suspend(self, channel: str, why: str) -> None:
        """Run this channel no more; what it misses becomes gaps."""
        self.suspended.setdefault(channel, why)

    def _note_failures(self, report: Report) -> None:
        for failure in report.failures:
            self.suspend(failure.channel, failure.message)
            self.tracebacks[failure.channel] = failure.traceback
        for channel, alerts in report.set_aside.items():
            self._set_aside[channel] += alerts
            if self._set_aside[channel] > report.work.failing_alerts:
                self.suspend(channel, f"raised on {self._set_aside[channel]} alerts")


def _anew(work: Work) -> Work:
    """The next attempt: whoever does it ends the ones before."""
    return replace(work, attempt=work.attempt + 1, fence=True)
