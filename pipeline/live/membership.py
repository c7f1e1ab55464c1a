"""The coordinator's side of Kafka: membership of the consumer group, and how far each topic reaches.

The consumer never fetches: all its partitions are paused, it polls to stay a member. What there is to
do comes from `list_offsets` at read_committed (the last stable offset), since the cached watermarks
of paused partitions are never refreshed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.broker.client import is_not_let_in, sentence, show_anew, static_member
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.logs import NowAndThen
from pipeline.broker.members import Takeover, abandon, called_back, described, is_fence
from pipeline.broker.partition import Partition
from pipeline.broker.profile import ProfileError, credentials
from pipeline.broker.topics import left_out, not_there, offsets_or_why, partitions_of, topic_ids
from pipeline.live.ends import Ends
from pipeline.worker.holding.position import Standing, standing
from schemas.errors import ZadsError

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 10.0
_SETTLING_SECONDS = 0.1


class ReplacedError(ZadsError):
    """Another `zads run` took this one's place in the group."""


class Membership:
    """One static member of the group that reads the topics of a pattern, and others by name.

    Classic protocol with an instance id and a short session. A coordinator that was killed gets its
    partitions back at once when it starts again; the old one, if it still lives, is fenced.

    Parameters
    ----------
    kafka
        Settings of the client.
    group
        Consumer group.
    replica
        Name of this member. A second run with the same name replaces this one.
    topics
        Regular expression for the topics.
    others
        Names of more topics.
    """

    def __init__(
        self, kafka: dict[str, str], group: str, replica: str, topics: str, others: Iterable[str] = ()
    ) -> None:
        self._kafka, self._group, self._replica = dict(kafka), group, replica
        self._lasting = NowAndThen(log)
        self._fenced: Takeover | None = None  # somebody has our name, perhaps we ourselves
        self._admin, self._ends = self._new_admin(), Ends(self._kafka, group)
        self._assigned: set[Partition] = set()
        self._unproven = False  # of what generation our partitions are
        self.metadata: object = b""
        """Proof of membership in the generation that gave us our partitions: a commit with it is refused as
        soon as there is another generation."""
        self.unreadable: dict[Partition, str] = {}  # that the broker says nothing of, and why
        self.changed = False  # since the owner of this flag cleared it
        self._consumer = self._new_consumer()
        self._pattern = topics if topics.startswith("^") else f"^{topics}"
        self._others = tuple(others)
        self._confirmed = False
        self._subscribe()

    def _new_admin(self) -> AdminClient:
        return AdminClient(self._kafka)

    def _new_consumer(self) -> Consumer:
        return Consumer(
            {
                **self._kafka,
                "group.id": self._group,
                **static_member(self._group, self._replica),
                "partition.assignment.strategy": "range",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                # At read_committed the question for committed offsets waits for transactions that are open.
                # The old offset will do: whoever takes the partition asks again, waits, and answers "moved"
                # if they are committed.
                "isolation.level": "read_uncommitted",
                "topic.metadata.refresh.interval.ms": 5_000,
                "queued.max.messages.kbytes": 1_024,
            }
        )

    def poll(self) -> set[Partition]:
        """Stay a member; the partitions that are ours now. Raises ReplacedError when another has our name."""
        if self._fenced is not None:
            self._see_who_has_our_place(self._fenced)
            return self._assigned
        message = self._consumer.poll(0)
        if self._unproven:
            self._prove()
        error = message.error() if message is not None else None
        if error is not None:
            if is_fence(error):
                log.debug("fenced: %s", error.str())
                self._fenced = Takeover(self._group, self._replica)
                self._assigned, self.changed = set(), True
                return self._assigned
            # A pattern that matches no topic yet is usual at the beginning of every night.
            quiet = error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
            if quiet:
                log.debug("consumer group: %s", error.str())
            else:
                self._lasting.warn("consumer group", error.str())
            if is_not_let_in(error):
                self.reconnect()
        if self._assigned and not self._confirmed:
            self._confirm_assignment()
        return self._assigned

    def _prove(self) -> None:
        """Keep the proof of this generation: another begins only when poll() has said so.

        Whoever has lost the group meanwhile has no name in it, and nothing to prove.
        """
        self._unproven = False
        self.metadata = self._consumer.consumer_group_metadata()
        if not self._consumer.memberid():
            self._assigned = set()

    def _see_who_has_our_place(self, fenced: Takeover) -> None:
        """End if another run lives that has our name; join again when there is none.

        A broker that was away may have fenced us for a request of our own (see is_fence).
        """
        if (taken := fenced.look(partial(described, self._kafka))) is None:
            return
        if taken:
            raise ReplacedError(
                f"another `zads run` of group {self._group} has taken over",
                hint="give each replica its own --replica NAME",
            )
        log.warning("the group had lost this member, and nobody has its place: joining again")
        abandon(self._consumer)
        self._consumer, self._fenced = self._new_consumer(), None
        self._confirmed = False
        self._subscribe()

    def read_others(self, others: Iterable[str]) -> None:
        """Read these other topics from now on; a rebalance when they are not those that were read."""
        if (wanted := tuple(others)) != self._others:
            self._others = wanted
            self._subscribe()

    @property
    def _patterns(self) -> list[str]:
        """The others are patterns too: a plain name that does not exist yet would raise errors."""
        return [self._pattern, *(f"^{name.replace('.', '[.]')}$" for name in self._others)]

    def _subscribe(self) -> None:
        came, went = called_back(self._on_assign), called_back(self._on_revoke)
        self._consumer.subscribe(self._patterns, on_assign=came, on_revoke=went, on_lost=went)

    def _confirm_assignment(self) -> None:
        """Once after a start: join again if the group's first answer leaves out a partition that is there."""
        try:
            pattern = "|".join(self._patterns)
            missing = left_out(self._kafka, pattern, self._group, self._assigned, _KAFKA_SECONDS)
        except KafkaException as error:
            log.debug("the topics are not known yet: %s", error)
            return
        self._confirmed = True
        if missing:
            log.info("joining the group again for %s", ", ".join(map(str, sorted(missing))))
            self._subscribe()

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The id of each topic that is there. Raises BrokerError."""
        return topic_ids(self._admin, topics, _KAFKA_SECONDS)

    def not_there(self, topics: Iterable[str]) -> set[str]:
        """Those of which the broker says that they do not exist."""
        return not_there(self._admin, topics, _KAFKA_SECONDS)

    def committed(
        self, partitions: Iterable[Partition], ids: Mapping[str, str] | None = None
    ) -> dict[Partition, Standing]:
        """Where the group stands: the committed offset or, before the first commit, the beginning.

        `ids`: of the topics as they are now (see topic_ids). A partition that cannot be read is left out.
        """
        wanted = list(partitions)
        if not wanted:
            return {}
        beginnings = self._offsets(wanted, OffsetSpec.earliest())
        asked = [TopicPartition(*partition) for partition in beginnings]
        answered = {}
        for tp in self._consumer.committed(asked, _KAFKA_SECONDS) if asked else ():
            partition = Partition(tp.topic, tp.partition)
            if tp.error is not None and fault_of(tp.error, "read") is Fault.INPUT:
                self.unreadable[partition] = sentence(tp.error)
                continue
            if tp.error is not None:
                raise KafkaException(tp.error)
            answered[partition] = standing(tp, (ids or {}).get(tp.topic, ""), beginnings[partition])
        return answered

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """How far each partition can be read: its last stable offset.

        A partition that cannot be read is left out, and `unreadable` says why. Raises KafkaException when
        none can be read, because that is a fault of the broker.
        """
        wanted = list(partitions)
        if (ends := self._ends.of(wanted)) is not None:
            for partition in wanted:
                self.unreadable.pop(partition, None)
            return ends
        return self._offsets(wanted, OffsetSpec.latest())

    def settled_ends(self, partitions: Iterable[Partition], stop: Callable[[], bool]) -> dict[Partition, int]:
        """How far each partition reaches, once every transaction that writes there now has ended.

        A transaction is over for its producer before its markers are in the partitions, and until then the
        last stable offset is before its records. Returns what it has when `stop()` says so.
        """
        wanted = list(partitions)
        written = self._offsets(wanted, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
        while not stop():
            stable = self.ends(wanted)
            if all(stable[partition] >= end for partition, end in written.items()):
                break
            time.sleep(_SETTLING_SECONDS)
        return written

    def partitions_of(self, topics: Iterable[str]) -> list[Partition]:
        """Every partition of these topics, ours or not."""
        return partitions_of(self._admin, sorted(topics), _KAFKA_SECONDS)

    def ask(self) -> None:
        """Raise KafkaException unless the broker answers us."""
        self._admin.list_topics(timeout=_KAFKA_SECONDS)

    def reconnect(self) -> None:
        """Forget what was known about the brokers: after a restart their old epochs are refused.

        A password that was rotated meanwhile is shown from now on.
        """
        show_anew(self._consumer)
        with suppress(ProfileError, OSError):  # while it is written anew
            self._kafka |= {key: value for key, value in credentials().items() if key in self._kafka}
        self._admin = self._new_admin()
        self._ends.forget()

    def close(self) -> None:
        """Stop polling. A static member keeps its place until its session ends, for a quick restart."""
        abandon(self._consumer)
        self._ends.close()

    def _offsets(
        self,
        partitions: list[Partition],
        which: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> dict[Partition, int]:
        if not partitions:
            return {}
        # The client must outlive its futures, also when another thread reconnects meanwhile.
        told = offsets_or_why(self._admin, partitions, which, isolation, _KAFKA_SECONDS)
        refused = {p: error for p, error in told.items() if isinstance(error, KafkaError)}
        for partition in partitions:
            self.unreadable.pop(partition, None)
        if len(refused) == len(told) and any(
            fault_of(error, "read") is not Fault.INPUT for error in refused.values()
        ):
            raise KafkaException(next(iter(refused.values())))
        self.unreadable |= {partition: sentence(error) for partition, error in refused.items()}
        return {partition: offset for partition, offset in told.items() if not isinstance(offset, KafkaError)}

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        consumer.pause(partitions)
        self._assigned = {Partition(tp.topic, tp.partition) for tp in partitions}
        self.changed = self._unproven = True

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.unassign()
        if consumer is self._consumer:  # not one that was left behind
            self._assigned = set()
            self.changed = True
