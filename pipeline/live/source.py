"""The head of the live graph: emits ranges of offsets that are ready to be worked on.

One batch at a time for each partition, so that offsets are committed in order; a batch goes out when
enough records wait or the oldest has waited long enough.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from confluent_kafka import KafkaException
from streamz import Source

from pipeline.broker.client import BrokerError, words_of
from pipeline.broker.logs import NowAndThen, about
from pipeline.broker.partition import Partition
from pipeline.live.membership import Membership
from pipeline.live.recovery import Again, Done, Next, Resume
from pipeline.worker.work import Work

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.005
_QUIET_TICK_SECONDS = 0.1
_REPLICA_LOOK_SECONDS = 1.0
_BROKER_AWAY_SECONDS = 1.0
_LONGEST_LOOK_SECONDS = 0.1  # between two looks at topics in which nothing comes ...
_LOOK_SECONDS_A_PARTITION = 0.0015  # ... and more where there are many: each look asks for all their ends
_PART_OF_TIME = 4  # while something comes, one in so many seconds at most is spent on asking for ends
_IDENTITY_SECONDS = 1.0
_QUIET_IDENTITY_SECONDS = 3.0
_ASK_SECONDS = 5.0
_BEYOND_SECONDS = 5.0  # a leader that has just come may say too little for a moment


class Unread(NamedTuple):
    """Records of a topic that was deleted: low <= offset < high were not done when it was seen last."""

    partition: Partition
    low: int
    high: int
    topic_id: str


@dataclass
class Progress:
    """Where one of our partitions stands."""

    next: int | None = None  # first offset not done; None: ask Kafka
    stood: int | None = None  # where it was before Kafka has to be asked
    known: bool = False  # from a worker, who has waited for what was pending
    end: int | None = None  # last stable offset, as seen last; None: not seen yet
    topic_id: str = ""
    lost: str = ""  # what can no longer be read; goes into the next commit
    beyond_since: float | None = None  # that the committed offset is beyond the end
    beyond: bool = False  # for so long that it is no passing answer
    waiting_since: float | None = None
    flight: int = 0  # the batch in flight; 0: none
    not_before: float = 0.0

    @property
    def busy(self) -> bool:
        return self.flight != 0

    @property
    def waiting(self) -> int:
        """Offsets that wait (transaction markers included)."""
        return max(0, self.end - self.next) if self.next is not None and self.end is not None else 0

    @property
    def stands(self) -> int | None:
        """Where the group stands, or stood last."""
        return self.stood if self.next is None else self.next

    @property
    def lag(self) -> int:
        """Offsets between where the group stands, or stood last, and the end: never 0 when the group stands
        beyond it, nor while a broker is away."""
        return abs(self.end - self.stands) if self.stands is not None and self.end is not None else 0

    def unread(self, partition: Partition) -> Unread:
        """What would be lost if the partition were gone now."""
        end = self.end or 0
        return Unread(partition, min(end, self.stands or 0), end, self.topic_id)

    @property
    def is_unknown(self) -> bool:
        """Whether it was never told where the group stands or where the partition ends."""
        return self.end is None or self.stands is None


class KafkaRanges(Source):
    """A streamz source of Work, fed by group membership.

    Parameters
    ----------
    membership
        The member of the group.
    make_work
        Makes work of a partition, its first offset, the offset after its last, and its flight.
    renew
        Brings a piece of work up to date before another attempt.
    batch_limit
        Says how many offsets the next batch of a partition may span, from a first offset on.
    milliseconds
        How long a record may wait before its batch goes out.
    has_room
        Says whether the worker of a partition can take so many offsets now.
    hand_over
        Called when all that was ready has been emitted.
    clock
        Seconds, from any beginning.
    kwargs
        Passed on to streamz.
    """

    def __init__(
        self,
        membership: Membership,
        make_work: Callable[[Partition, int, int, int], Work],
        renew: Callable[[Work], Work],
        batch_limit: Callable[[Partition, int], int],
        milliseconds: float,
        has_room: Callable[[Partition, int], bool] = lambda partition, offsets: True,
        hand_over: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        **kwargs: object,
    ) -> None:
        super().__init__(asynchronous=True, **kwargs)
        self._membership = membership
        self._make_work, self._renew, self._batch_limit = make_work, renew, batch_limit
        self._has_room, self._hand_over, self._clock = has_room, hand_over, clock
        self._flights = itertools.count(1)
        self._patience = milliseconds / 1000
        self._look_again = 0.0
        self._retries: list[tuple[float, Work]] = []
        self.progress: dict[Partition, Progress] = {}
        self._targets: dict[Partition, int] | None = None
        self._reached = asyncio.Event()
        self._looked_at_replicas = 0.0
        self._topics: set[str] = set()  # of our partitions
        self._ids: dict[str, str] = {}
        self._looked_at_ids = -_IDENTITY_SECONDS
        self._asked = clock()
        self._pause = 0.0  # between the last look at the ends and the next, s
        self._look_took = 0.0  # how long the last look at the ends took, s
        self._nothing_came = 0  # in so many looks since something did
        self.made_again: dict[str, int] = {}  # topic -> records that were there and never read
        self.set_aside: dict[Partition, str] = {}  # partitions that cannot be read, and why
        self.deleted: dict[str, int] = {}  # topic that is no more -> records that were there and never read
        self.unread: list[Unread] = []  # of these topics; whoever makes gaps of it takes it away
        self._left: dict[Partition, Progress] = {}  # no longer ours: another's now, or deleted
        self._asked_for: set[str] = set()  # the topics whose ids were asked for last
        self._absent: set[str] = set()  # of these and not ours, what was not there
        self._gone: set[str] = set()  # of these, what was not there the time before either
        self._met: dict[str, str] = {}  # topic -> the id that it had when we saw it last
        self._away_since: float | None = None  # that the broker does not answer
        self.lasting = NowAndThen(log, clock)

    async def _run(self) -> None:
        await self.look()
        await asyncio.sleep(min(self._pause, _QUIET_TICK_SECONDS) if self._is_quiet else _TICK_SECONDS)

    @property
    def away(self) -> float:
        """For so long the broker has not answered, s."""
        return 0.0 if self._away_since is None else self._clock() - self._away_since

    @property
    def _soonest(self) -> float:
        """The shortest time between two looks at the ends, s."""
        spent = min(_PART_OF_TIME * self._look_took, self._latest)  # a broker that stood still is back
        return max(self._patience / 2, _TICK_SECONDS, spent)

    @property
    def _latest(self) -> float:
        """The longest time between two looks at the ends, s."""
        return max(_LONGEST_LOOK_SECONDS, len(self.progress) * _LOOK_SECONDS_A_PARTITION)

    @property
    def _is_quiet(self) -> bool:
        """Whether nothing has come for a few looks."""
        return self._nothing_came > 1 and not self._retries

    async def look(self) -> None:
        """One look at Kafka, and whatever is ready goes out."""
        self._follow(self._membership.poll())
        try:
            await self._see_whether_anybody_answers()
            await self._see_which_topics_these_are()
            await self._ask_where_we_stand()
            await self._see_how_far_it_goes()
            drained = await self._drained()
        except (KafkaException, BrokerError) as error:  # a broker that restarts is back within seconds
            self._away_since = self._away_since or self._clock()
            words = "the broker does not say how far its topics reach, asking again"
            self.lasting.warn(words, words_of(error))
            self._membership.reconnect()
            await asyncio.sleep(_BROKER_AWAY_SECONDS)
            return
        if self._away_since is not None:
            log.warning("the broker answers again, after %.0f s", self._clock() - self._away_since)
            self._away_since = None
        try:
            await self._send_what_is_ready()
        finally:
            self._hand_over()
        if drained:
            self._targets = None
            self._reached.set()

    async def _send_what_is_ready(self) -> None:
        for retry in self._due_retries():
            await self._send(retry)
        for partition in self._waiting_longest():
            if (work := self._ready(partition)) is not None:
                await self._send(work)

    async def _send(self, work: Work) -> None:
        await asyncio.gather(*self._emit(work))
        self._follow(self._membership.poll())  # no work of another generation for what was ours in this one

    async def reach(self, targets: dict[Partition, int]) -> None:
        """Return when everything below these offsets has been done, by us or by another replica."""
        self._reached.clear()
        self._targets = targets
        await self._reached.wait()

    @property
    def busy(self) -> bool:
        """Whether any batch is in flight or waits for another attempt."""
        return any(progress.busy for progress in self.progress.values())

    def settle(self, work: Work, following: Next, lost: str = "") -> None:
        """Apply what recovery decided about a batch.

        Parameters
        ----------
        work
            The batch.
        following
            What comes next for its partition.
        lost
            What was found lost and is not yet committed; "" for nothing.
        """
        progress = self.progress.get(work.partition)
        if progress is None or progress.flight != work.flight:  # no longer ours, or assigned to us again
            return  # its present owner asks Kafka
        if isinstance(following, Again):
            self._retries.append((self._clock() + following.seconds, following.work))
            return
        progress.flight = 0
        if isinstance(following, Done):
            progress.next, progress.lost, progress.beyond = following.offset, lost, False
            progress.known = True
        elif isinstance(following, Resume):
            progress.stood, progress.next = progress.next, None
            progress.not_before = self._clock() + following.seconds
            progress.known = False

    def _follow(self, assigned: set[Partition]) -> None:
        """Begin with partitions that are new to us, forget those that are no longer ours."""
        if not self._membership.changed:
            return
        self._membership.changed = False
        log.info("partitions assigned: %d", len(assigned))
        ours_before = self._left | self.progress
        self._left = {p: one for p, one in ours_before.items() if p not in assigned}
        self.progress = {
            partition: self.progress.get(partition, Progress()) for partition in sorted(assigned)
        }
        for progress in self.progress.values():
            progress.known = False
        self._topics = {partition.topic for partition in self.progress}
        self._look_again = 0.0

    async def _see_whether_anybody_answers(self) -> None:
        """Now and then while we have no partition: a group that has lost us because the broker does not
        answer, or does not let us in, is no quiet night."""
        now = self._clock()
        if self.progress or now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        await asyncio.to_thread(self._membership.ask)

    async def _see_which_topics_these_are(self) -> None:
        """Once a second, less often while nothing comes: a topic that was made again is read from its
        beginning."""
        of_interest = {partition.topic for partition in (*self._left, *(self._targets or ()))}
        topics, now = self._topics | of_interest, self._clock()
        pause = _QUIET_IDENTITY_SECONDS if self._is_quiet else _IDENTITY_SECONDS
        if now - self._looked_at_ids < pause and topics <= self._asked_for:
            return
        self._looked_at_ids, self._asked_for = now, topics
        self._ids = await asyncio.to_thread(self._membership.topic_ids, topics) if topics else {}
        self._tell_made_again()
        await self._tell_deleted()
        for partition, progress in self.progress.items():
            topic_id = self._ids.get(partition.topic, "")
            if progress.topic_id and topic_id and progress.topic_id != topic_id:
                self._was_made_again(partition, progress)
            elif topic_id:
                progress.topic_id = topic_id
        self._tell_set_aside()

    def _tell_made_again(self) -> None:
        """Also of a topic that was away for so long that its partitions were not ours meanwhile."""
        for topic, topic_id in self._ids.items():
            if self._met.setdefault(topic, topic_id) != topic_id:
                self._met[topic] = topic_id
                self.made_again.setdefault(topic, 0)
                log.warning("topic %s was deleted and made again: reading from its beginning", topic)

    async def _tell_deleted(self) -> None:
        """Of topics that are not there at two looks: a broker that has just begun may not know them all."""
        absent = self._asked_for - self._ids.keys() - self._topics
        self._gone, self._absent = absent & self._absent, absent
        theirs = self._gone & {partition.topic for partition in self._left}
        deleted = await asyncio.to_thread(self._membership.not_there, theirs) if theirs else set()
        unread: Counter[str] = Counter()
        for partition, progress in self._left.items():
            topic, again = partition.topic, self._ids.get(partition.topic) not in (None, progress.topic_id)
            if progress.lag and (again or topic in deleted):
                unread[topic] += progress.lag
                self.unread.append(progress.unread(partition))
                lost = self.made_again if again else self.deleted
                lost[topic] = lost.get(topic, 0) + progress.lag
        for topic, records in unread.items():
            words = "topic %s was deleted, and with it up to %d records that had not been read"
            log.error(words, topic, records, extra=about(topic=topic))
        self._left = {p: one for p, one in self._left.items() if p.topic in absent - deleted}

    def _was_made_again(self, partition: Partition, progress: Progress) -> None:
        self.made_again[partition.topic] += progress.waiting
        if progress.waiting:
            words = "%s: %d records were deleted before they were read"
            log.error(words, partition, progress.waiting, extra=about(partition, offset=progress.next))
            self.unread.append(progress.unread(partition))
        self.progress[partition] = Progress(topic_id=self._ids[partition.topic])

    def _tell_set_aside(self) -> None:
        """Which partitions cannot be read; the others go on."""
        away = {
            partition: "the topic was deleted"
            for partition in self.progress
            if partition.topic not in self._ids
        }
        set_aside, before = {**self._membership.unreadable, **away}, self.set_aside
        self.set_aside = {p: why for p, why in set_aside.items() if p in self.progress}
        if again := [f"{p}" for p in before if p in self.progress and p not in self.set_aside]:
            log.warning("read again: %s", ", ".join(again))
        alike = defaultdict(list)
        for partition, why in self.set_aside.items():
            alike[partition.topic, why].append(partition)
        for (topic, why), some in alike.items():
            what = f"{some[0]}" if len(some) == 1 else f"{len(some)} partitions of {topic}"
            self.lasting.warn(f"{what} cannot be read, the others go on", why, about(some[0]))

    async def _ask_where_we_stand(self) -> None:
        now = self._clock()
        unknown = [
            partition
            for partition, progress in self.progress.items()
            if progress.next is None
            and progress.topic_id
            and now >= progress.not_before
            and not progress.busy
            and partition not in self.set_aside
        ]
        if not unknown:
            return
        stand = await asyncio.to_thread(self._membership.committed, unknown, dict(self._ids))
        for partition, standing in stand.items():
            if (progress := self.progress.get(partition)) is None:
                continue
            progress.next, progress.lost = standing.offset, standing.loss
            if standing.loss:
                log.error("%s: %s", partition, standing.loss, extra=about(partition, offset=standing.offset))
            if standing.made_again and partition.topic not in self.made_again:
                self.made_again[partition.topic] = 0
                log.warning("topic %s was made again: reading from its beginning", partition.topic)

    async def _see_how_far_it_goes(self) -> None:
        """Ask for the ends, unless every idle partition already has a full batch waiting.

        Less and less often while nothing comes, so that a quiet run costs little.
        """
        now = self._clock()
        if now < self._look_again:
            return
        idle = {
            p: progress
            for p, progress in self.progress.items()
            if progress.next is not None and not progress.busy
        }
        hungry = any(
            progress.waiting < self._batch_limit(p, progress.next or 0) for p, progress in idle.items()
        )
        if not hungry:
            return
        ends = await asyncio.to_thread(self._membership.ends, list(self.progress))
        self._look_took = self._clock() - now
        for partition, end in ends.items():
            self._reaches(partition, end, now)
        lively = any(progress.waiting or progress.busy for progress in self.progress.values())
        self._nothing_came = 0 if lively else self._nothing_came + 1
        longer = min(2 * max(self._pause, self._soonest), self._latest)
        self._pause = self._soonest if lively else max(longer, self._soonest)
        self._look_again = now + self._pause

    def _reaches(self, partition: Partition, end: int, now: float) -> None:
        progress = self.progress.get(partition)
        if progress is None:
            return
        progress.end = end
        if progress.waiting and progress.waiting_since is None:
            progress.waiting_since = now
        if progress.next is None or progress.busy or progress.next <= end:
            progress.beyond_since = None
            return
        progress.beyond_since = progress.beyond_since or now
        if now - progress.beyond_since >= _BEYOND_SECONDS:
            words = f"the committed offset {progress.next} is beyond the end of the topic, going on at {end}"
            log.error("%s: %s", partition, words, extra=about(partition, offset=progress.next))
            progress.next, progress.beyond, progress.lost = end, True, words
            progress.known = False

    def _waiting_longest(self) -> list[Partition]:
        """The partitions with something to do and nothing in flight, the one that waits longest first."""
        now = self._clock()
        some = [
            (progress.waiting_since or now, partition)
            for partition, progress in self.progress.items()
            if not progress.busy and (progress.waiting or progress.lost)
        ]
        return [partition for _, partition in sorted(some)]

    def _ready(self, partition: Partition) -> Work | None:
        """The next batch of a partition, if it is due and finds room.

        What finds no room stays here and grows, instead of waiting small behind others at its worker.
        """
        progress = self.progress.get(partition)  # which may be lost meanwhile
        if progress is None or progress.busy or progress.next is None or progress.end is None:
            return None
        if not progress.topic_id or partition in self.set_aside:
            return None
        now = self._clock()
        limit = self._batch_limit(partition, progress.next)
        waited = now - (progress.waiting_since or now) >= self._patience
        due = progress.waiting >= limit or waited or bool(progress.lost)  # a loss is committed by itself
        high = max(progress.next, min(progress.end, progress.next + limit))
        if not due or not self._has_room(partition, high - progress.next):
            return None
        progress.flight, progress.waiting_since = next(self._flights), None
        work = self._make_work(partition, progress.next, high, progress.flight)
        known, beyond = progress.known, progress.beyond
        return replace(work, topic_id=progress.topic_id, ask=not known, beyond=beyond)

    def _due_retries(self) -> list[Work]:
        """Attempts whose time has come, as of now; those that are no longer ours are dropped."""
        if not self._retries:
            return []
        now = self._clock()
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
        left = {p: e for p, e in left.items() if p not in self.set_aside and p.topic not in self._gone}
        if any(progress.lost or progress.beyond_since for progress in self.progress.values()):
            return False
        if not left or self._clock() - self._looked_at_replicas < _REPLICA_LOOK_SECONDS:
            return not left
        self._looked_at_replicas = self._clock()
        theirs = await asyncio.to_thread(
            self._membership.committed, [p for p in left if p not in self.progress]
        )
        stand = {partition: standing.offset for partition, standing in theirs.items()}
        return all(stand.get(partition, -1) >= end for partition, end in left.items())
