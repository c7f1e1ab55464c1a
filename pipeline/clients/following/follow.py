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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.broker.client import (
    BrokerError,
    admin_client,
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
from pipeline.broker.topics import left_out
from pipeline.clients.following.arrivals import Arrivals
from pipeline.clients.following.keeper import Followed, Keeper
from pipeline.clients.following.position import stand_at
from pipeline.clients.following.sources import ASK_SECONDS, SLOW, NotNow, Sources
from schemas.errors import Unreachable, ZadsError

log = logging.getLogger(__name__)

_POLL = 0.2
_AT_ONCE = 500
_SILENCE = 15.0
_AGAIN = 1.0
_STILL_SO = 60.0
_PROOF_SECONDS = 0.5
_ASIDE_SECONDS = 5.0
_NOT_THERE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_ELSEWHERE = (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE)


class _Elsewhere(NotNow):
    """What a partition had where we stand is not there any more."""


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
        self.followed = Followed()
        self._sources = Sources(keeper, self.followed, bootstrap, group, kafka)
        self._arrivals = Arrivals(keeper, self._sources)
        self._stop = threading.Event()
        self._lasting = NowAndThen(log)
        self._confirmed = False  # that the group's first answer leaves no topic out
        self._fenced: Takeover | None = None  # somebody has our name, perhaps we ourselves
        self._waits = False  # nothing can be kept now, so nothing is read
        self._aside_until, self._pause = 0.0, _ASIDE_SECONDS  # when to look at what could not be read
        self._replica = replica
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> Consumer:
        # Where what we stand at is not there any more we look ourselves: librdkafka would go on elsewhere.
        own = static_member(self._group, self._replica) | {"auto.offset.reset": "error"} | self._kafka
        return Consumer(consumer_settings(self._bootstrap, self._group, **own))

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
                except (NotNow, Unreachable, KafkaException) as error:
                    self._begin_anew(error)
                on_progress(self.followed)
            while not self._flush() and not self._stop.is_set():
                pass  # it cannot be kept now: what was read must still be kept
        finally:
            if not self._sources.names:  # it may be joining
                abandon(self._consumer)
            elif not leave(self._consumer):
                log.warning("the group was not left in %g s: its session ends by itself", LEAVE_SECONDS)
        return self.followed

    def _go_on(self, heard: float) -> float:
        """Once round the loop; when (time.monotonic) the broker was heard of last. Raises NotNow,
        KafkaException, Unreachable."""
        if self._fenced is not None:
            self._see_who_has_our_place(self._fenced)
        elif self._receive():
            heard = time.monotonic()
        elif time.monotonic() - heard > _SILENCE:
            self._wait_for_broker()
            show_anew(self._consumer)  # it may be silent because our password was rotated
            heard = time.monotonic()
        if self._sources.names and not self._confirmed:
            self._confirm()
        self._look_at_aside()
        self._prove(_PROOF_SECONDS)
        if self._keeper.due:
            self._flush()
        return heard

    def _begin_anew(self, error: NotNow | Unreachable | KafkaException) -> None:
        """Join the group again when the broker answers; raises an error that no waiting mends."""
        if isinstance(error, KafkaException) and fault_of(error.args[0], "read") is not Fault.ENVIRONMENT:
            raise error
        who = "the archive" if isinstance(error, Unreachable) else "the broker"
        why = "our place is gone" if isinstance(error, _Elsewhere) else f"{who} did not answer"
        self._lasting.warn(f"{why}, joining the group again", error)
        if isinstance(error, _Elsewhere):
            self._flush()  # it cannot be read again
        self._forget()
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
        self._sources.ask_anew()
        self._confirmed = False
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
        self._forget()
        self._stop.wait(_AGAIN)
        if (taken := fenced.look(partial(described, self._sources.asks))) is None:
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
            ours = {*self._sources.names, *self._sources.aside}
            missing = left_out(self._sources.asks, self._pattern, self._group, ours, ASK_SECONDS)
        except KafkaException as error:
            log.debug("the topics are not known yet: %s", error)
            return
        if missing:
            log.info("joining the group again for %s", ", ".join(map(str, sorted(missing))))
            self._forget()  # until the group has answered: nothing is drained before
            self._subscribe()
        self._confirmed = True

    def _receive(self) -> bool:
        """Take what has arrived; whether anything has."""
        first = self._consumer.poll(_POLL)
        if first is None:
            return False
        messages = [first, *self._consumer.consume(_AT_ONCE, 0)]
        self._arrivals.add([message for message in messages if self._is_news(message)])
        return True

    def _prove(self, seconds: float = 0.0) -> None:
        """Hand what has arrived to the keeper, once topic and log are proved; at most every `seconds`."""
        if not self._arrivals.due(seconds):
            return
        try:
            found = self._arrivals.prove()
        except BrokerError as error:
            self._lasting.warn("the topics are not known, asking again", error)
            self._sources.ask_anew()
            return
        self.followed.read += found.read
        self._seek(found.cut)
        if found.made_again:
            self._begin_again(found.made_again)

    def _begin_again(self, topics: set[str]) -> None:
        """Read topics that were made again from their beginning."""
        for topic in sorted(topics):
            log.warning("topic %s was deleted and made again: keeping it from its beginning", topic)
            self.followed.made_again.append(topic)
        while not self._flush() and not self._stop.is_set():
            pass  # what was gathered of the topic before is not dropped
        self._seek(self._sources.begin_again(topics))

    def _seek(self, starts: dict[Partition, int]) -> None:
        """Read on there."""
        for partition, start in starts.items():
            self._arrivals.reached.pop(partition, None)
            self._consumer.seek(TopicPartition(*partition, start))

    def _look_at_aside(self) -> None:
        """Now and then at partitions that could not be read; the others are read meanwhile."""
        aside = self._sources.aside
        self.followed.aside = {str(partition): one.why for partition, one in aside.items()}
        if not aside:
            self._pause = _ASIDE_SECONDS
        if not aside or self._waits or time.monotonic() < self._aside_until:
            return
        partition, one = next(iter(aside.items()))
        words = "partitions cannot be read now, the others are kept"
        self._lasting.warn(words, f"{len(aside)}, such as {partition}: {one.why}")
        if self._sources.answers_again():
            before = set(aside)
            self._begin_with_all()
            if again := sorted(before - self._sources.aside.keys()):
                log.warning("read again: %s", ", ".join(map(str, again)))
            self._pause = min(2 * self._pause, _STILL_SO)  # the others begin anew with each try
        self._aside_until = time.monotonic() + self._pause

    def _begin_with_all(self) -> None:
        """Go on at the keeper's marks, also in partitions that could not be read until now."""
        while not self._flush() and not self._stop.is_set():
            pass
        self._arrivals.forget()
        self._assign(self._consumer, self._sources.starts_of_all())

    def _assign(self, consumer: Consumer, starts: dict[Partition, int]) -> list[TopicPartition]:
        at = [TopicPartition(*partition, start) for partition, start in starts.items()]
        consumer.assign(at)
        return at

    def _forget(self) -> None:
        """No partition is ours; what was read and not kept is read again."""
        self._sources.forget()
        self._arrivals.forget()

    def _flush(self) -> bool:
        """Give the records to the keeper. If another follower has gone on with a partition, begin again at
        the marks.

        False when nothing could be kept because a schema registry or an object store does not answer; what
        was read stays, and no more is read: an outage of ten minutes must not fill the memory.
        """
        self._prove()
        try:
            with told_while_slow(log, SLOW):
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
            self._arrivals.forget()
            self._seek(self._sources.starts(self._sources.names))
            return True
        ours = {source: partition for partition, source in self._sources.names.items()}
        offsets = [
            TopicPartition(*ours[source], stand_at(position).offset)
            for source, position in stand.items()
            if source in ours
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
        self._forget()
        starts = self._sources.take([Partition(p.topic, p.partition) for p in partitions])
        at = self._assign(consumer, starts)
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
            with told_while_slow(log, SLOW):
                self._keeper.flush()
        except Unreachable as error:  # then it is read once more, by whoever has the partitions
            log.warning("what was read last cannot be kept now: %s", error)
        consumer.unassign()
        self._forget()

    def _ends(self) -> dict[Partition, int]:
        """How far each partition can be read now, of all topics that match."""
        topics = topic_names(self._bootstrap, self._pattern, **self._kafka)
        if not topics:
            raise ZadsError(f"no topic at {self._bootstrap} matches {self._pattern}")
        known = admin_client(self._bootstrap, **self._kafka).list_topics(timeout=ASK_SECONDS).topics
        places = [(topic, number) for topic in topics for number in known[topic].partitions]
        ends = committed_ends(self._bootstrap, places, **self._kafka)
        return {Partition(*place): end for place, end in ends.items()}

    def _drained(self, ends: dict[Partition, int] | None) -> bool:
        """Whether every partition that is ours has been read to where it ended."""
        if ends is None or not self._sources.names or not self._confirmed or self._arrivals.waiting:
            return False
        if self._sources.aside:
            return False
        reached = self._arrivals.reached
        return all(reached.get(ours, -1) >= ends.get(ours, 0) for ours in self._sources.names)

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
            self._sources.ask_anew()
            return False
        if error.code() in _ELSEWHERE:
            raise _Elsewhere(f"{message.topic()}/{message.partition()}: {sentence(error)}")
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
