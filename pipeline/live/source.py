"""The head of the live graph: emits ranges of offsets that are ready to be worked on.

One batch at a time for each partition, so that offsets are committed in order; a batch goes out when
enough records wait or the oldest has waited long enough.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaException
from streamz import Source

from pipeline.broker.partition import Partition
from pipeline.live.membership import Membership
from pipeline.live.recovery import Again, Done, Next, Resume
from pipeline.worker.work import Work

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.005
_REPLICA_LOOK_SECONDS = 1.0
_BROKER_AWAY_SECONDS = 1.0


@dataclass
class Progress:
    """Where one of our partitions stands."""

    next: int | None = None  # first offset not done; None: ask Kafka
    end: int = 0  # last stable offset, as seen last
    waiting_since: float | None = None
    flight: int = 0  # the batch in the air; 0: none
    not_before: float = 0.0

    @property
    def busy(self) -> bool:
        return self.flight != 0

    @property
    def lag(self) -> int:
        """Offsets that wait (transaction markers included)."""
        return max(0, self.end - self.next) if self.next is not None else 0


class KafkaRanges(Source):
    """A streamz source of Work, fed by group membership."""

    def __init__(
        self,
        membership: Membership,
        make_work: Callable[[Partition, int, int, int], Work],
        renew: Callable[[Work], Work],
        batch_limit: Callable[[Partition, int], int],
        milliseconds: float,
        has_room: Callable[[Partition, int], bool] = lambda partition, offsets: True,
        **kwargs: object,
    ) -> None:
        super().__init__(asynchronous=True, **kwargs)
        self._membership = membership
        self._make_work, self._renew, self._batch_limit = make_work, renew, batch_limit
        self._has_room = has_room
        self._flights = itertools.count(1)
        self._patience = milliseconds / 1000
        self._look_again = 0.0
        self._retries: list[tuple[float, Work]] = []
        self.progress: dict[Partition, Progress] = {}
        self._targets: dict[Partition, int] | None = None
        self._reached = asyncio.Event()
        self._looked_at_replicas = 0.0

    async def _run(self) -> None:
        """One look at Kafka, and whatever is ready goes out."""
        self._follow(self._membership.poll())
        try:
            await self._ask_where_we_stand()
            await self._see_how_far_it_goes()
            drained = await self._drained()
        except (
            KafkaException
        ) as error:  # a broker that restarts is back within seconds, or the operator sees this
            log.warning("the broker does not say how far its topics reach, asking again: %s", error)
            self._membership.reconnect()
            await asyncio.sleep(_BROKER_AWAY_SECONDS)
            return
        for retry in self._due_retries():
            await self._send(retry)
        while (work := self._next_ready()) is not None:
            await self._send(work)
        if drained:
            self._targets = None
            self._reached.set()
        await asyncio.sleep(_TICK_SECONDS)

    async def _send(self, work: Work) -> None:
        await asyncio.gather(*self._emit(work))
        self._membership.poll()

    async def reach(self, targets: dict[Partition, int]) -> None:
        """Return when everything below these offsets has been done, by us or by another replica."""
        self._reached.clear()
        self._targets = targets
        await self._reached.wait()

    @property
    def busy(self) -> bool:
        """Whether any batch is in flight or waits for another attempt."""
        return any(progress.busy for progress in self.progress.values())

    def settle(self, work: Work, following: Next) -> None:
        """Take in what recovery decided about a batch."""
        progress = self.progress.get(work.partition)
        if progress is None or progress.flight != work.flight:
            return  # no longer ours, or ours anew: whoever has it now asks Kafka
        if isinstance(following, Again):
            self._retries.append((time.monotonic() + following.seconds, following.work))
            return
        progress.flight = 0
        if isinstance(following, Done):
            progress.next = following.offset
        elif isinstance(following, Resume):
            progress.next, progress.not_before = None, time.monotonic() + following.seconds

    def _follow(self, assigned: set[Partition]) -> None:
        """Begin with partitions that are new to us, forget those that are no longer ours."""
        if not self._membership.changed:
            return
        self._membership.changed = False
        log.info("partitions assigned: %d", len(assigned))
        self.progress = {
            partition: self.progress.get(partition, Progress()) for partition in sorted(assigned)
        }
        self._look_again = 0.0

    async def _ask_where_we_stand(self) -> None:
        now = time.monotonic()
        unknown = [
            p for p, progress in self.progress.items() if progress.next is None and now >= progress.not_before
        ]
        unknown = [partition for partition in unknown if not self.progress[partition].busy]
        if unknown:
            for partition, offset in (await asyncio.to_thread(self._membership.committed, unknown)).items():
                if partition in self.progress:
                    self.progress[partition].next = offset

    async def _see_how_far_it_goes(self) -> None:
        """Ask for the ends, unless every idle partition already has a full batch waiting."""
        now = time.monotonic()
        idle = {
            p: progress
            for p, progress in self.progress.items()
            if progress.next is not None and not progress.busy
        }
        hungry = any(progress.lag < self._batch_limit(p, progress.next or 0) for p, progress in idle.items())
        if now < self._look_again or not hungry:
            return
        self._look_again = now + max(self._patience / 2, _TICK_SECONDS)
        for partition, end in (await asyncio.to_thread(self._membership.ends, list(self.progress))).items():
            progress = self.progress.get(partition)
            if progress is not None:
                progress.end = end
                if progress.lag and progress.waiting_since is None:
                    progress.waiting_since = now

    def _next_ready(self) -> Work | None:
        """Of the batches that are due and find room, the one that has waited longest.

        What finds no room stays here and grows, instead of waiting small behind others at its worker.
        """
        now = time.monotonic()
        by_waiting = sorted(self.progress.items(), key=lambda item: item[1].waiting_since or now)
        for partition, progress in by_waiting:
            if progress.busy or progress.next is None or not progress.lag:
                continue
            limit = self._batch_limit(partition, progress.next)
            due = progress.lag >= limit or now - (progress.waiting_since or now) >= self._patience
            high = min(progress.end, progress.next + limit)
            if due and self._has_room(partition, high - progress.next):
                progress.flight, progress.waiting_since = next(self._flights), None
                return self._make_work(partition, progress.next, high, progress.flight)
        return None

    def _due_retries(self) -> list[Work]:
        """Attempts whose time has come, as of now; those that are no longer ours are dropped."""
        now = time.monotonic()
        due = [work for at, work in self._retries if at <= now]
        self._retries = [(at, work) for at, work in self._retries if at > now]
        flights = {partition: progress.flight for partition, progress in self.progress.items()}
        return [self._renew(work) for work in due if flights.get(work.partition) == work.flight]

    async def _drained(self) -> bool:
        """Whether every target is reached: by us, or (looked up once a second) by another replica."""
        if self._targets is None or self.busy:
            return False
        ours = {p: progress.next for p, progress in self.progress.items() if progress.next is not None}
        left = {p: end for p, end in self._targets.items() if ours.get(p, -1) < end}
        if not left or time.monotonic() - self._looked_at_replicas < _REPLICA_LOOK_SECONDS:
            return not left
        self._looked_at_replicas = time.monotonic()
        theirs = await asyncio.to_thread(
            self._membership.committed, [p for p in left if p not in self.progress]
        )
        return all(theirs.get(partition, -1) >= end for partition, end in left.items())
