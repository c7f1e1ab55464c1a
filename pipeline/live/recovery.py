"""What to do after each report: go on, try again, suspend a filter, or isolate a poison packet.

A state machine without Kafka or Dask, so that tests can try every order of failures.

A worker that dies leaves a note (pipeline.worker.judging.running) that only a later attempt can read. So a
death is first of all tried again; the attempt that finds the note says who was running. A filter is suspended
by two overruns, which leave a traceback of theirs, or by four deaths that may be somebody's kill -9. A range
that ends its workers with no filter running is halved until one record is left, and that record is dead-
lettered unread when it has ended four.

BLAME NEEDS EVIDENCE. Work that died and then succeeded on another worker was not the cause: something else
ends workers here. For a minute after such a death no filter or record is blamed, and work is tried again.
Evidence against a filter on that range is dropped, and all evidence expires after ten minutes. And before a
record is blamed it must end fresh workers in turn with controls, the same work without the record, that do
not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.broker.partition import Partition
from pipeline.worker.work import Report, Work

TWICE, THRICE, FOUR_TIMES = 2, 3, 4
_STORM_SECONDS, _STORM_PAUSE_SECONDS = 60.0, 1.0
_REMEMBERED_SECONDS = 600.0
# Workers on several machines do not see each other's notes; then this many deaths are enough evidence.
DEATHS_WITHOUT_A_NOTE = 8
_TOO_MUCH_SPANS = 20  # for so many batches more it is taken in halves
_LOOK_AGAIN_SECONDS = 1.0
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
    """Remembers failures for as long as they matter."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._innocent = -_STORM_SECONDS  # when something was last done that had ended a worker before
        self._last_death = 0.0
        self.suspended: dict[str, str] = {}  # channel -> why
        self.tracebacks: dict[str, str] = {}
        self._culprits: Counter[tuple[object, ...]] = Counter()
        self._controls: Counter[tuple[Partition, int, int]] = Counter()
        self._silent: Counter[Partition] = Counter()  # deaths since the last report from a worker
        self._unexplained: Counter[tuple[Partition, int, int]] = Counter()
        self._suspects: dict[Partition, tuple[int, int]] = {}  # batch limit, and the offset where it ends
        self._set_aside: Counter[str] = Counter()

    def limit(self, partition: Partition, low: int, usual: int) -> int:
        """How many offsets the next batch may span: fewer around a poison packet.

        Parameters
        ----------
        partition
            The partition.
        low
            First offset of the batch.
        usual
            The usual limit.
        """
        size, until = self._suspects.get(partition, (usual, -1))
        if low >= until:
            self._suspects.pop(partition, None)
            return usual
        return min(size, usual)

    def after(self, report: Report) -> Next:
        """What to do next for the partition of this report."""
        work = report.work
        if report.outcome != "died":
            self._silent.pop(work.partition, None)
        self._forget_old()
        if report.outcome == "committed":
            self._acquit(work)
            self._note_failures(report)
            return Done(work.high)
        if report.outcome == "control":
            return self._control(work)
        if report.outcome == "moved":
            return Done(report.offset)
        if report.outcome == "stale":
            return Resume(_BACKOFF_SECONDS)
        if report.outcome == "retry":
            backoff = _BACKOFF_SECONDS * 2 ** min(work.attempt, 10)
            anew = replace(_anew(work), party=report.party)
            return Again(anew, min(backoff, _LONGEST_BACKOFF_SECONDS))
        if report.outcome == "too much":
            return self._halved(work, work.high + _TOO_MUCH_SPANS * (work.high - work.low))
        if report.outcome == "output":
            for channel in report.outputs:
                self.suspend(channel, f"its topic does not take records ({report.message})")
            return Again(_anew(work))
        if report.outcome == "together":
            return Again(replace(_anew(work), party=report.party))
        if report.outcome in ("input", "setup"):  # the source sets it aside, the run ends
            return Resume(_LOOK_AGAIN_SECONDS)
        if report.outcome == "culprit" and report.culprit:
            return self._blame(report)
        if report.outcome in ("culprit", "raised"):
            return self._unexplained_death(report)
        self._silent[work.partition] += 1
        if self._silent[work.partition] < DEATHS_WITHOUT_A_NOTE:
            return Again(replace(_anew(work), party=report.party))
        return self._unexplained_death(report)

    def _blame(self, report: Report) -> Next:
        work = report.work
        channel, overran = report.culprit, bool(report.traceback)
        here, anywhere = (channel, work.partition, work.low), (channel, overran)
        self._culprits.update((here, anywhere))
        self._last_death = self._clock()
        enough = max(self._culprits[here], self._culprits[anywhere]) >= (TWICE if overran else FOUR_TIMES)
        if enough and not overran and self._is_storm():
            return Again(_anew(work), _STORM_PAUSE_SECONDS)
        if enough:
            self.suspend(channel, "took too long" if overran else "ended its worker (too much memory?)")
            self.tracebacks[channel] = report.traceback
        return Again(_anew(work))

    def _control(self, work: Work) -> Next:
        """The same work without its record went well: now with it, once more."""
        self._controls[work.partition, work.low, work.high] += 1
        return Again(replace(_anew(work), control=False))

    def _unexplained_death(self, report: Report) -> Next:
        work = report.work
        span = (work.partition, work.low, work.high)
        if work.control:  # no record was there to be blamed
            self._innocent = self._last_death = self._clock()
            self._controls.pop(span, None)
            self._unexplained.pop(span, None)
            return Again(replace(_anew(work), control=False), _STORM_PAUSE_SECONDS)
        self._unexplained[span] += 1
        self._last_death = self._clock()
        single = work.high - work.low == 1 and report.outcome != "raised"
        if self._unexplained[span] < (FOUR_TIMES if single else TWICE):
            return Again(_anew(work), _STORM_PAUSE_SECONDS if single else 0.0)
        if self._is_storm():
            return Again(_anew(work), _STORM_PAUSE_SECONDS)
        if single and self._controls[span] < THRICE:
            return Again(replace(_anew(work), control=True))
        del self._unexplained[span]
        self._controls.pop(span, None)
        if work.high - work.low == 1:
            why = report.message or "every worker that read it died"
            return Again(replace(_anew(work), unreadable=why))
        return self._halved(work, work.high)

    def _halved(self, work: Work, until: int) -> Next:
        """Half of the range; batches up to the offset `until` stay that small."""
        half = max(1, (work.high - work.low) // 2)
        _, before = self._suspects.get(work.partition, (0, until))
        self._suspects[work.partition] = (half, max(before, until))
        return Again(replace(_anew(work), high=work.low + half), _BACKOFF_SECONDS)

    def _is_storm(self) -> bool:
        """Whether something ends workers that is neither a record nor a filter."""
        return self._clock() - self._innocent < _STORM_SECONDS

    def _acquit(self, work: Work) -> None:
        """Work that is done now did not cause the deaths before."""
        span = (work.partition, work.low, work.high)
        blamed = [
            key
            for key in self._culprits
            if key[1:] == (work.partition, work.low) and key[0] not in work.suspended
        ]
        if work.unreadable or not (blamed or span in self._unexplained):
            return
        self._innocent = self._clock()
        self._unexplained.pop(span, None)
        self._controls.pop(span, None)
        for key in blamed:
            count = self._culprits.pop(key)
            for anywhere in ((key[0], False), (key[0], True)):
                self._culprits[anywhere] = max(0, self._culprits[anywhere] - count)

    def _forget_old(self) -> None:
        if self._clock() - self._last_death > _REMEMBERED_SECONDS:
            self._culprits.clear()
            self._unexplained.clear()

    def suspend(self, channel: str, why: str) -> None:
        """Suspend the channel; what it misses becomes gaps."""
        self.suspended.setdefault(channel, why)

    def forgive(self, channel: str) -> None:
        """The channel has changed or was removed: what its filter did before no longer counts."""
        self.suspended.pop(channel, None)
        self.tracebacks.pop(channel, None)
        self._set_aside.pop(channel, None)
        for blamed in [key for key in self._culprits if key[0] == channel]:
            del self._culprits[blamed]

    def _note_failures(self, report: Report) -> None:
        for failure in report.failures:
            self.suspend(failure.channel, failure.message)
            self.tracebacks[failure.channel] = failure.traceback
        for channel, alerts in report.set_aside.items():
            self._set_aside[channel] += alerts
            if self._set_aside[channel] > report.work.failing_alerts:
                details = (f", such as {one.detail}" for one in report.refusals if one.channel == channel)
                such = next(details, "")
                self.suspend(channel, f"raised on {self._set_aside[channel]} alerts{such}")


def _anew(work: Work) -> Work:
    """The next attempt: its worker asks Kafka whether an earlier one was committed."""
    return replace(work, attempt=work.attempt + 1, ask=True, party="")
