"""The partitions that a follower reads: what each is called, and where it goes on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, IsolationLevel, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.broker.client import BrokerError, admin_client, client_settings, sentence
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.logs import told_while_slow
from pipeline.broker.partition import Partition
from pipeline.broker.reading.shared_ranges import Cut, SharedReader, Wanted
from pipeline.broker.topics import offsets_or_why, topic_ids
from pipeline.clients.following.keeper import Followed, Keeper
from pipeline.clients.following.position import Stand, stand_at

log = logging.getLogger(__name__)

SLOW = "what the records are kept in does not answer yet, waiting"
ASK_SECONDS = 10.0


class NotNow(BrokerError):
    """The broker does not answer now."""


class Aside(NamedTuple):
    """A partition that is ours and cannot be read now. name: that the keeper knows it by."""

    name: str
    why: str


class Sources:
    """The partitions that are ours now.

    Parameters
    ----------
    keeper
        Remembers how far each is kept.
    followed
        Where it is noted what can no longer be read.
    bootstrap
        Address of the broker, host:port.
    group
        Consumer group.
    kafka
        librdkafka's own keys.
    """

    def __init__(
        self,
        keeper: Keeper,
        followed: Followed,
        bootstrap: str,
        group: str,
        kafka: Mapping[str, Any],
    ) -> None:
        self._keeper, self._followed = keeper, followed
        self._bootstrap, self._group, self._kafka = bootstrap, group, kafka
        self.names: dict[Partition, str] = {}  # that the keeper knows them by
        self.epochs: dict[Partition, int] = {}  # of the leader that wrote the record read last
        self.aside: dict[Partition, Aside] = {}  # ours, and not in `names`: it is not known where to go on
        self._ids: dict[str, str] = {}  # of their topics
        self._asking: AdminClient | None = None

    @property
    def asks(self) -> dict[str, Any]:
        """Settings of a client that asks."""
        return client_settings(self._bootstrap, **self._kafka)

    def forget(self) -> None:
        """None is ours."""
        self.names, self.epochs, self.aside = {}, {}, {}

    def ask_anew(self) -> None:
        """With the password of now."""
        self._asking = None

    def take(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """These are ours now, and no others; where to go on in each. Raises NotNow, BrokerError."""
        self.names = self._named(partitions)
        self.epochs, self.aside = {}, {}
        return self.starts(self.names)

    def begin_again(self, topics: Collection[str]) -> dict[Partition, int]:
        """Topics that were made again: where to begin in each of their partitions."""
        again = [partition for partition in self.names if partition.topic in topics]
        self.names |= self._named(again)
        return self.starts(again)

    def made_again(self, topics: Iterable[str]) -> set[str]:
        """Those that are not the topics any more whose partitions we took. Raises BrokerError."""
        now = topic_ids(self._admin(), topics, ASK_SECONDS)
        return {topic for topic, id_ in now.items() if id_ != self._ids[topic]}

    def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where to go on: the keeper's mark, the beginning for what is new. Of the epochs we know no more.

        What was deleted before it was kept is noted; so is a log that was cut below the mark, which is read
        from where it was cut. A partition that has no leader now, or does not answer for another reason, is
        set aside. Raises NotNow when none answers.
        """
        names = {partition: self.names[partition] for partition in partitions}
        starts = self._starts(names)
        if names and not starts:
            partition, aside = next(iter(self.aside.items()))
            raise NotNow(f"{partition}: {aside.why}")
        return starts

    def answers_again(self) -> bool:
        """Whether one of those that were set aside says now how far it reaches."""
        return any(not isinstance(told, KafkaError) for told in self._reach(list(self.aside)).values())

    def starts_of_all(self) -> dict[Partition, int]:
        """Where to go on in all that are ours, with those that were set aside. As `starts`."""
        self.names |= {partition: aside.name for partition, aside in self.aside.items()}
        return self.starts(self.names)

    def _starts(self, names: Mapping[Partition, str]) -> dict[Partition, int]:
        with told_while_slow(log, SLOW):
            marks = self._keeper.marks(names.values())
        self.epochs |= dict.fromkeys(names, -1)
        starts = {partition: OFFSET_BEGINNING for partition, name in names.items() if name not in marks}
        reach = self._reach([partition for partition in names if partition not in starts])
        stands, why = dict[Partition, Stand](), dict[Partition, str]()
        for partition, reached in reach.items():
            if isinstance(reached, KafkaError):
                why[partition] = sentence(reached)
            else:
                stands[partition] = self._within(partition, stand_at(marks[names[partition]]), *reached)
        known = {p: [Wanted(stand.offset, stand.offset, stand.epoch)] for p, stand in stands.items()}
        for partition, found in self.cut(known).items():
            if isinstance(found, Exception):
                why[partition] = str(found)
            else:
                stands[partition] = Stand(found)
        for partition, stand in stands.items():
            starts[partition], self.epochs[partition] = stand
        self._set_aside(names, why)
        return {partition: start for partition, start in starts.items() if partition not in why}

    def _set_aside(self, names: Mapping[Partition, str], why: Mapping[Partition, str]) -> None:
        """Of these partitions those for which there is a reason, and no others."""
        for partition, name in names.items():
            self.aside.pop(partition, None)
            if partition in why:
                self.aside[partition] = Aside(name, why[partition])
                self.names.pop(partition, None)

    def _reach(self, partitions: list[Partition]) -> dict[Partition, tuple[int, int] | KafkaError]:
        """The offsets of the first record of each and after its last; or why that is not known."""
        found: dict[Partition, tuple[int, int] | KafkaError] = {}
        admin, anything = self._admin(), IsolationLevel.READ_UNCOMMITTED
        first = offsets_or_why(admin, partitions, OffsetSpec.earliest(), anything, ASK_SECONDS)
        last = offsets_or_why(admin, partitions, OffsetSpec.latest(), anything, ASK_SECONDS)
        for partition in partitions:
            low, high = first[partition], last[partition]
            if isinstance(low, KafkaError):
                found[partition] = low
            else:
                found[partition] = high if isinstance(high, KafkaError) else (low, high)
        return found

    def cut(self, doubts: Mapping[Partition, Sequence[Wanted]]) -> dict[Partition, int | Exception]:
        """Of logs that were cut below where a range begins: the offset of the first record that was written
        since; or why that cannot be told now. Each that was cut is noted."""
        known = {p: [one for one in some if one.epoch >= 0] for p, some in doubts.items()}
        if not any(known.values()):
            return {}
        reader = SharedReader(self.asks, self._group)
        try:
            found = reader.cut(known)
        finally:
            reader.close()
        cut: dict[Partition, int | Exception] = {}
        for partition, why in found.items():
            cut[partition] = why.offset if isinstance(why, Cut) else why
            if isinstance(why, Cut):
                self.lost(partition, f"{why}: keeping it from there; what was kept of before stays")
        return cut

    def lost(self, partition: Partition, words: str) -> None:
        """Note and log what can no longer be read."""
        log.error("%s: %s", partition, words)
        self._followed.lost[str(partition)] = words

    def _within(self, partition: Partition, stand: Stand, low: int, high: int) -> Stand:
        """Where to go on of what is there."""
        if low > stand.offset:
            self.lost(partition, f"offsets {stand.offset} to {low - 1} were deleted before they were kept")
            return Stand(low)
        if high < stand.offset:
            words = f"the archive stands at offset {stand.offset}, beyond the end, {high}: going on there"
            self.lost(partition, words)
            return stand._replace(offset=high)
        return stand

    def _named(self, partitions: Collection[Partition]) -> dict[Partition, str]:
        """A name for each partition; a new broker or a topic that is created again gives another name."""
        topics = sorted({partition.topic for partition in partitions})
        if not topics:
            return {}
        admin = self._admin()
        try:
            # Not describe_cluster: librdkafka (2.16) aborts the process when a broker that has just begun
            # answers it, and knows of no brokers yet.
            if not (here := admin.list_topics(timeout=ASK_SECONDS).cluster_id):
                raise NotNow("the broker does not say what its cluster is called yet")
            self._ids |= topic_ids(admin, topics, ASK_SECONDS)
        except KafkaException as error:
            words = f"cannot tell the topics apart: {sentence(error.args[0])}"
            passes = fault_of(error.args[0], "admin") is Fault.ENVIRONMENT
            raise (NotNow if passes else BrokerError)(words) from None
        except BrokerError as error:
            raise NotNow(str(error)) from None
        return {
            partition: f"{here}/{self._ids[partition.topic]}/{self._group}/{partition}"
            for partition in partitions
            if partition.topic in self._ids
        }

    def _admin(self) -> AdminClient:
        if self._asking is None:
            self._asking = admin_client(self._bootstrap, **self._kafka)
        return self._asking
