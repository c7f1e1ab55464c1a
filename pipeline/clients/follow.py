"""Every committed record of the nightly topics into something that keeps it, such as the archive.

The keeper remembers how far each partition is kept, in the same step in which it keeps; that, and not Kafka's
committed offset, says where to go on. So nothing is lost or kept twice when processes are killed, and two
followers of the same partition cannot both keep its records. Offsets are committed to Kafka as well, for
tools that show the lag.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from pipeline.broker.client import (
    BrokerError,
    admin_client,
    client_settings,
    consumer_settings,
    is_not_let_in,
    passes_by_itself,
    patiently,
    sentence,
    show_anew,
    static_member,
    topic_names,
    wait_for_broker,
)
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.listen import committed_ends
from pipeline.broker.logs import NowAndThen, told_while_slow
from pipeline.broker.members import (
    LEAVE_SECONDS,
    Takeover,
    abandon,
    called_back,
    described,
    is_fence,
    leave,
)
from pipeline.broker.partition import Partition
from pipeline.broker.topics import left_out, topic_ids
from pipeline.clients.keeper import Followed, Keeper, Received, received_of
from schemas.errors import Unreachable, ZadsError

log = logging.getLogger(__name__)

_POLL = 0.2
_AT_ONCE = 500
_SILENCE = 15.0
_SLOW = "what the records are kept in does not answer yet, waiting"
_ASK_SECONDS = 10.0
_AGAIN = 1.0
_STILL_SO = 60.0
_PROOF_SECONDS = 0.5
_NOT_THERE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)

Place = tuple[str, int]


class _Arrived(NamedTuple):
    """Records of one source, for which it is not yet proved that the topic is still the same one."""

    topic: str
    source: str
    records: list[Received]
    next_offset: int


class _NotNow(BrokerError):
    """The broker does not answer now."""


class Replaced(ZadsError):
    """Another follower has taken this one's place in the group."""


class Follower:
    """One member of a group that keeps what the topics of a pattern hold.

    Parameters
    ----------
    keeper
        What keeps the records.
    topics
        Regular expression for the topics.
    bootstrap
        Address of the broker, host:port.
    group
        Consumer group.
    replica
        Name of this member. A second follower with the same name replaces this one.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker does not answer, or refuses.
    Replaced
        By `run`, when another member with the same `replica` comes.
    """

    def __init__(
        self,
        keeper: Keeper,
        topics: str,
        bootstrap: str = "localhost:9092",
        group: str = "zads-archive",
        replica: str = "0",
        **kafka: Any,
    ) -> None:
        patiently(partial(wait_for_broker, bootstrap, **kafka))
        self._keeper, self._group = keeper, group
        self._bootstrap, self._kafka = bootstrap, kafka
        self._pattern = topics if topics.startswith("^") else f"^{topics}$"
        self._sources: dict[Place, str] = {}  # of the partitions that are ours
        self._reached: dict[Place, int] = {}
        self._ids: dict[str, str] = {}  # of the topics of these partitions
        self._unproved: list[_Arrived] = []
        self._proved = time.monotonic()
        self._asking: AdminClient | None = None
        self._stop = threading.Event()
        self._lasting = NowAndThen(log)
        self._confirmed = False  # that the group's first answer leaves no topic out
        self._fenced: Takeover | None = None  # somebody has our name, perhaps we ourselves
        self._waits = False  # nothing can be kept now, so nothing is read
        self.followed = Followed()
        self._replica = replica
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> Consumer:
        member = static_member(self._group, self._replica) | self._kafka
        return Consumer(consumer_settings(self._bootstrap, self._group, **member))

    def run(
        self, until_drained: bool = False, on_progress: Callable[[Followed], None] = lambda _: None
    ) -> Followed:
        """Follow until `stop`; with `until_drained` until everything that is there now is kept."""
        ends = self._ends() if until_drained else None
        self._subscribe()
        heard = time.monotonic()
        try:
            while not self._stop.is_set() and not self._drained(ends):
                try:
                    heard = self._go_on(heard)
                except (_NotNow, Unreachable, KafkaException) as error:
                    self._begin_anew(error)
                on_progress(self.followed)
            while not self._flush() and not self._stop.is_set():
                pass  # it cannot be kept now: what was read must still be kept
        finally:
            if not self._sources:  # it may be joining
                abandon(self._consumer)
            elif not leave(self._consumer):
                log.warning("the group was not left in %g s: its session ends by itself", LEAVE_SECONDS)
        return self.followed

    def _go_on(self, heard: float) -> float:
        """Once round the loop; when (time.monotonic) the broker was heard of last. Raises _NotNow,
        KafkaException, Unreachable."""
        if self._fenced is not None:
            self._see_who_has_our_place(self._fenced)
        elif self._receive():
            heard = time.monotonic()
        elif time.monotonic() - heard > _SILENCE:
            self._wait_for_broker()
            show_anew(self._consumer)  # it may be silent because our password was rotated
            heard = time.monotonic()
        if self._sources and not self._confirmed:
            self._confirm()
        self._prove(_PROOF_SECONDS)
        if self._keeper.due:
            self._flush()
        return heard

    def _begin_anew(self, error: _NotNow | Unreachable | KafkaException) -> None:
        """Join the group again when the broker answers; raises an error that no waiting mends."""
        if isinstance(error, KafkaException) and fault_of(error.args[0], "read") is not Fault.ENVIRONMENT:
            raise error
        who = "the archive" if isinstance(error, Unreachable) else "the broker"
        self._lasting.warn(f"{who} did not answer, joining the group again", error)
        self._sources, self._reached, self._unproved = {}, {}, []
        self._stop.wait(_AGAIN)
        self._wait_for_broker()
        self._join_again()

    def _join_again(self) -> None:
        """As another consumer, with the password of now. What was read and not kept is read again."""
        before, self._consumer, self._fenced = self._consumer, self._new_consumer(), None
        if before.assignment():  # it holds memory for them
            leave(before, seconds=0)
        else:
            abandon(before)
        self._asking, self._confirmed = None, False
        self._subscribe()

    def _wait_for_broker(self) -> None:
        """Return when the broker answers, or when told to stop; says once a minute that it does not."""
        said, since = -_STILL_SO, time.monotonic()
        while not self._stop.is_set():
            try:
                wait_for_broker(self._bootstrap, timeout=_SILENCE, **self._kafka)
                break
            except BrokerError as error:
                if time.monotonic() - said >= _STILL_SO:
                    said = time.monotonic()
                    log.warning("waiting for the broker for %.0f s: %s", said - since, error)
                self._stop.wait(_AGAIN)

    def _see_who_has_our_place(self, fenced: Takeover) -> None:
        """End if another member lives that has our name; join again when there is none.

        What was read and not kept is read again by whoever has the partitions. Raises Replaced.
        """
        self._sources, self._reached, self._unproved = {}, {}, []
        self._stop.wait(_AGAIN)
        if (taken := fenced.look(partial(described, self._asks()))) is None:
            return
        if taken:
            raise Replaced(
                f"another follower of group {self._group} has taken over",
                hint="give each replica its own --replica NAME",
            )
        log.warning("the group had lost this member, and nobody has its place: joining again")
        self._join_again()

    def stop(self) -> None:
        """Keep what was read and return from `run`; from any thread, or a signal handler."""
        self._stop.set()

    def _subscribe(self) -> None:
        came, went = called_back(self._take), called_back(self._give_up)
        self._consumer.subscribe([self._pattern], on_assign=came, on_revoke=went, on_lost=went)

    def _confirm(self) -> None:
        """Once after a start: join again if the group's first answer leaves out a partition that is there."""
        try:
            ours = (Partition(*place) for place in self._sources)
            missing = left_out(self._asks(), self._pattern, self._group, ours, _ASK_SECONDS)
        except KafkaException as error:
            log.debug("the topics are not known yet: %s", error)
            return
        if missing:
            log.info("joining the group again for %s", ", ".join(map(str, sorted(missing))))
            self._sources = {}  # until the group has answered: nothing is drained before
            self._subscribe()
        self._confirmed = True

    def _receive(self) -> bool:
        """Take what has arrived; whether anything has."""
        first = self._consumer.poll(_POLL)
        if first is None:
            return False
        arrived: dict[Place, list[Received]] = {}
        for message in [first, *self._consumer.consume(_AT_ONCE, 0)]:
            place = (message.topic(), message.partition())
            if not self._is_news(message) or place not in self._sources:
                continue
            records = arrived.setdefault(place, [])
            self._reached[place] = message.offset()
            if message.error() is None:
                records.append(received_of(message))
                self._reached[place] += 1
        for place, records in arrived.items():
            self._unproved.append(_Arrived(place[0], self._sources[place], records, self._reached[place]))
        return True

    def _prove(self, seconds: float = 0.0) -> None:
        """Hand what has arrived to the keeper, once its topic is proved; at most every `seconds`.

        A topic that is deleted and created again has the same name and offsets. What was read belongs to the
        former topic only if that still exists; otherwise the new one is read from its beginning.
        """
        if not self._unproved or time.monotonic() - self._proved < seconds:
            return
        topics = {arrived.topic for arrived in self._unproved}
        try:
            now = topic_ids(self._admin(), topics, _ASK_SECONDS)
        except BrokerError as error:
            self._lasting.warn("the topics are not known, asking again", error)
            self._asking = None
            return
        self._proved, unproved = time.monotonic(), self._unproved
        self._unproved = []
        changed = {topic for topic in topics if topic in now and now[topic] != self._ids[topic]}
        for arrived in unproved:
            if arrived.topic not in changed:
                self._keeper.append(arrived.source, arrived.records, arrived.next_offset)
                self.followed.read += len(arrived.records)
        if changed:
            self._begin_again(changed)

    def _begin_again(self, topics: set[str]) -> None:
        """Read topics that were made again from their beginning."""
        for topic in sorted(topics):
            log.warning("topic %s was deleted and made again: keeping it from its beginning", topic)
            self.followed.made_again.append(topic)
        while not self._flush() and not self._stop.is_set():
            pass  # what was gathered of the topic before is not dropped
        places = [place for place in self._sources if place[0] in topics]
        self._sources |= self._named(places)
        for place, start in self._starts({place: self._sources[place] for place in places}).items():
            self._reached.pop(place, None)
            self._consumer.seek(TopicPartition(*place, start))

    def _admin(self) -> AdminClient:
        if self._asking is None:
            self._asking = self._new_admin()
        return self._asking

    def _new_admin(self) -> AdminClient:
        return admin_client(self._bootstrap, **self._kafka)

    def _asks(self) -> dict[str, Any]:
        return client_settings(self._bootstrap, **self._kafka)

    def _flush(self) -> bool:
        """Give the records to the keeper. If another follower has gone on with a partition, begin again at
        the marks.

        False when nothing could be kept because a schema registry or an object store does not answer; what
        was read stays, and no more is read: an outage of ten minutes must not fill the memory.
        """
        self._prove()
        try:
            with told_while_slow(log, _SLOW):
                stand = self._keeper.flush()
        except Unreachable as error:  # what was gathered stays, and is tried again
            self._lasting.warn("nothing can be kept now, waiting", error)
            self._consumer.pause(self._consumer.assignment())
            self._waits = True
            self._stop.wait(_AGAIN)
            return False
        self._go_on_reading()
        if stand is None:
            log.warning("another follower has gone on with one of our partitions; looking where to go on")
            for place, start in self._starts(self._sources).items():
                self._consumer.seek(TopicPartition(*place, start))
                self._reached.pop(place, None)
            self._unproved = []
            return True
        places = {source: place for place, source in self._sources.items()}
        offsets = [
            TopicPartition(*places[source], offset) for source, offset in stand.items() if source in places
        ]
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        return True

    def _go_on_reading(self) -> None:
        """After nothing could be kept for a while."""
        if self._waits:
            log.warning("it is kept again")
            self._consumer.resume(self._consumer.assignment())
            self._waits = False

    def _take(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions that are ours now: go on where the keeper stands."""
        self._sources = self._named([(p.topic, p.partition) for p in partitions])
        self._reached = {}
        starts = self._starts(self._sources)
        at = [TopicPartition(*place, start) for place, start in starts.items()]
        consumer.assign(at)
        # What a former session kept last it may not have told the group: else a quiet partition looks late.
        if kept := [place for place in at if place.offset >= 0]:
            with suppress(KafkaException):  # it is told with the next records
                consumer.commit(offsets=kept, asynchronous=True)
        self.followed.partitions = len(partitions)

    def _give_up(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        """The partitions are another's, now or soon: keep what was read of them, or drop it."""
        if consumer is not self._consumer:  # one that was left behind
            consumer.unassign()
            return
        self._prove()
        try:
            with told_while_slow(log, _SLOW):
                self._keeper.flush()
        except Unreachable as error:  # then it is read once more, by whoever has the partitions
            log.warning("what was read last cannot be kept now: %s", error)
        self._unproved = []
        consumer.unassign()
        self._sources, self._reached = {}, {}

    def _named(self, places: Sequence[Place]) -> dict[Place, str]:
        """A name for each partition; a new broker or a topic that is created again gives another name."""
        topics = sorted({topic for topic, _ in places})
        if not topics:
            return {}
        admin = self._admin()
        try:
            # Not describe_cluster: librdkafka (2.16) aborts the process when a broker that has just begun
            # answers it, and knows of no brokers yet.
            if not (here := admin.list_topics(timeout=_ASK_SECONDS).cluster_id):
                raise _NotNow("the broker does not say what its cluster is called yet")
            self._ids |= topic_ids(admin, topics, _ASK_SECONDS)
        except KafkaException as error:
            words = f"cannot tell the topics apart: {sentence(error.args[0])}"
            passes = fault_of(error.args[0], "admin") is Fault.ENVIRONMENT
            raise (_NotNow if passes else BrokerError)(words) from None
        except BrokerError as error:
            raise _NotNow(str(error)) from None
        return {
            (topic, number): f"{here}/{self._ids[topic]}/{self._group}/{topic}/{number}"
            for topic, number in places
            if topic in self._ids
        }

    def _starts(self, sources: dict[Place, str]) -> dict[Place, int]:
        """Where to go on: the keeper's mark, the beginning for what is new."""
        with told_while_slow(log, _SLOW):
            marks = self._keeper.marks(sources.values())
        starts = {}
        for place, source in sources.items():
            starts[place] = marks.get(source, OFFSET_BEGINNING)
            if source in marks:
                low, high = self._reach(place)
                if low > marks[source]:
                    words = f"offsets {marks[source]} to {low - 1} were deleted before they were kept"
                    self._lost(place, words)
                if high < marks[source]:
                    self._lost(place, f"the archive stands at offset {marks[source]}, beyond the end, {high}")
        return starts

    def _reach(self, place: Place) -> tuple[int, int]:
        """Offsets of a partition's first record, and after its last. Raises _NotNow, KafkaException."""
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), _ASK_SECONDS)
        except KafkaException as error:
            if error.args[0].code() in _NOT_THERE:  # deleted, or a broker that has just begun
                raise _NotNow(f"{Partition(*place)}: {sentence(error.args[0])}") from None
            raise
        return low, high

    def _lost(self, place: Place, words: str) -> None:
        log.error("%s/%d: %s", *place, words)
        self.followed.lost[str(Partition(*place))] = words

    def _ends(self) -> dict[Place, int]:
        """How far each partition can be read now, of all topics that match."""
        topics = topic_names(self._bootstrap, self._pattern, **self._kafka)
        if not topics:
            raise ZadsError(f"no topic at {self._bootstrap} matches {self._pattern}")
        known = admin_client(self._bootstrap, **self._kafka).list_topics(timeout=_ASK_SECONDS).topics
        places = [(topic, number) for topic in topics for number in known[topic].partitions]
        return committed_ends(self._bootstrap, places, **self._kafka)

    def _drained(self, ends: dict[Place, int] | None) -> bool:
        """Whether every partition that is ours has been read to where it ended."""
        if ends is None or not self._sources or not self._confirmed or self._unproved:
            return False
        return all(self._reached.get(place, -1) >= ends.get(place, 0) for place in self._sources)

    def _is_news(self, message: Message) -> bool:
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return True
        if is_fence(error):
            log.debug("fenced: %s", error.str())
            self._fenced = Takeover(self._group, self._replica)
            return False
        if is_not_let_in(error):
            self._lasting.warn("we are not let in, trying again with what our profile has", sentence(error))
            show_anew(self._consumer)
            self._asking = None
            return False
        waiting = error.code() in _NOT_THERE
        if waiting or passes_by_itself(error):  # a pattern that matches nothing yet: usual in the evening
            log.log(logging.DEBUG if waiting else logging.WARNING, "following: %s", sentence(error))
            return False
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:  # librdkafka joins the group again by itself
            self._lasting.warn("keeping took so long that the group went on without us", sentence(error))
            return False
        raise BrokerError(f"cannot read at {self._bootstrap}: {sentence(error)}")


@contextmanager
def stopped_by_signals(follower: Follower) -> Iterator[None]:
    """SIGINT and SIGTERM let the follower keep what it has read; a second SIGINT ends at once."""

    def stop(_: int, __: object) -> None:
        follower.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
