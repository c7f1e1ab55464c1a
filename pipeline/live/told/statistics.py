"""What a run has done so far: every count in alerts and in distinct objects."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.broker.partition import Partition
from pipeline.channels.channel import ChannelSet
from pipeline.live.exposures.reader import Told
from pipeline.live.fleet.heard import Taken
from pipeline.live.told.reported import came_between
from pipeline.live.told.unexpected import Unexpected
from pipeline.worker.work import Report

_RATE_SECONDS = 10.0


class DistinctObjects:
    """Counts distinct 64-bit hashes in 8 bytes each."""

    def __init__(self) -> None:
        self._known = np.empty(0, dtype=np.uint64)
        self._new: list[int] = []

    def add(self, hashes: list[int]) -> None:
        self._new += hashes

    def __len__(self) -> int:
        if self._new:
            self._known = np.union1d(self._known, np.array(self._new, dtype=np.uint64))
            self._new = []
        return len(self._known)


@dataclass
class Matches:
    """What one channel has delivered."""

    alerts: int = 0
    objects: set[str] = field(default_factory=set)


@dataclass
class Waited:
    """How long the record of each batch that waited longest had waited, from its arrival to its commit, s.

    counts: batches up to each of EDGES, and beyond the last.
    """

    EDGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
    counts: list[int] = field(default_factory=lambda: [0] * (len(Waited.EDGES) + 1))
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.EDGES, seconds)] += 1
        self.sum += seconds


@dataclass(frozen=True)
class Failing:
    """Attempts at a batch that went wrong, one after the other.

    since: time.monotonic() of the first. why: what came between the last time.
    """

    attempts: int
    since: float
    why: str


@dataclass
class Statistics:
    """Totals of a run, fed by its reports."""

    began: float = field(default_factory=time.monotonic)
    records: int = 0
    bytes: int = 0
    alerts: int = 0
    objects: DistinctObjects = field(default_factory=DistinctObjects)
    batches: int = 0
    attempts_lost: Counter[str] = field(default_factory=Counter)  # outcome -> attempts
    failing: dict[Partition, Failing] = field(default_factory=dict)  # whose last attempts went wrong
    matches: dict[str, Matches] = field(default_factory=dict)
    dead_letters: Counter[str] = field(default_factory=Counter)
    other_surveys: Counter[str] = field(default_factory=Counter)
    not_public: int = 0
    exposures: int = 0  # that were closed and judged
    late: int = 0  # records that came after their exposure was closed
    waiting: int = 0  # records of open exposures
    hidden: Counter[str] = field(default_factory=Counter)  # field cut out of public copies -> alerts
    seconds: Counter[str] = field(default_factory=Counter)  # stage -> of the workers
    filter_seconds: Counter[str] = field(default_factory=Counter)  # channel -> of the workers
    filter_raised: Counter[str] = field(default_factory=Counter)  # channel -> alerts
    waited: Waited = field(default_factory=Waited)
    lag: int = 0
    workers: int = 0
    partitions: int = 0
    away: float = 0.0  # for so long the broker has not answered, s
    unknown: int = 0  # partitions of which it is not known how much of them waits
    taken: dict[str, Taken] = field(default_factory=dict)  # address -> what the worker takes
    committed_at: float = 0.0  # Unix time of the last commit, s; 0: none yet
    stopped: bool = False  # told to, by a signal
    suspended: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)  # partition -> what can no longer be read
    set_aside: dict[str, str] = field(default_factory=dict)  # partition -> why it cannot be read
    made_again: dict[str, int] = field(default_factory=dict)  # topic -> records deleted unread
    deleted: dict[str, int] = field(default_factory=dict)  # topic that is no more -> records deleted unread
    tracebacks: dict[str, str] = field(default_factory=dict)
    limited: Counter[str] = field(default_factory=Counter)  # channel -> alerts that its limits stopped
    alarms: dict[str, str] = field(default_factory=dict)  # channel -> more than it was to deliver
    gaps: Counter[str] = field(default_factory=Counter)  # channel -> records not seen
    channels: ChannelSet | None = None  # in force now
    unexpected: Unexpected = field(default_factory=Unexpected)
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, report: Report) -> None:
        """Count a report; only committed work is counted as done."""
        self._note_attempt(report)
        if report.outcome != "committed":
            return
        self.batches += 1
        self.records += report.records
        self.bytes += report.bytes
        self.alerts += report.alerts
        self.objects.add(report.objects)
        self._add_matches(report.matches)
        self.limited.update(report.limited)
        self.dead_letters.update(report.dead_letters)
        self.other_surveys.update(report.other_surveys)
        self.not_public += report.not_public
        self.hidden.update(report.hidden)
        if report.lost:
            self.lost[str(report.work.partition)] = report.lost
        self.seconds.update(report.seconds)
        self.filter_seconds.update(report.filter_seconds)
        self.filter_raised.update(report.set_aside)
        if report.waited is not None:
            self.waited.add(report.waited)
        self.committed_at = time.time()
        self.gaps.update(dict.fromkeys(report.skipped, report.records))
        if self.channels is not None:
            self.unexpected.add(report, self.channels)
        self._recent.append((time.monotonic(), report.records))

    def _note_attempt(self, report: Report) -> None:
        partition = report.work.partition
        if report.outcome in ("committed", "moved"):
            self.failing.pop(partition, None)
            return
        before = self.failing.get(partition)
        attempts, since = (before.attempts, before.since) if before else (0, time.monotonic())
        self.failing[partition] = Failing(attempts + 1, since, came_between(report))
        if report.outcome not in ("stale", "control"):
            self.attempts_lost[report.outcome] += 1

    def _add_matches(self, found: Mapping[str, Sequence[str]]) -> None:
        for channel, names in found.items():
            matches = self.matches.setdefault(channel, Matches())
            matches.alerts += len(names)
            matches.objects.update(names)

    def add_exposures(self, told: Told) -> None:
        """Count what the exposure channels have done; the records themselves are counted by the others."""
        self.exposures += told.closed
        self.late += told.late
        self.waiting = told.waiting
        self._add_matches(told.matches)
        self.limited.update(told.limited)
        self.gaps.update(told.gaps)
        self.dead_letters.update(told.dead_letters)

    @property
    def incomplete(self) -> bool:
        """Whether records were lost unread, or are there and cannot be read."""
        return bool(self.lost or self.set_aside or self.deleted_unread)

    @property
    def deleted_unread(self) -> dict[str, int]:
        """Topic -> records that were deleted with it before they were read, where there were any."""
        both = Counter(self.made_again) + Counter(self.deleted)
        return dict(sorted(both.items()))

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Alerts a second over the last ten seconds."""
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - _RATE_SECONDS:
            self._recent.popleft()
        return sum(count for _, count in self._recent) / max(min(self.elapsed, _RATE_SECONDS), 1e-3)
