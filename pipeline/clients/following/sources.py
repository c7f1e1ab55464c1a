"""The partitions that a follower reads: what each is called, and where it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.broker.client import BrokerError, admin_client, client_settings, sentence
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.logs import told_while_slow
from pipeline.broker.partition import Partition
from pipeline.broker.reading.shared_ranges import Cut, SharedReader, Wanted
from pipeline.broker.topics import topic_ids
from pipeline.clients.following.keeper import Followed, Keeper
from pipeline.clients.following.position import Stand, stand_at

log = logging.getLogger(__name__)

SLOW = "what the records are kept in does not answer yet, waiting"
ASK_SECONDS = 10.0


class NotNow(BrokerError):
    """The broker does not answer now."""


class Sources:
    """The partitions that are ours now.

    Parameters
    ----------
    keeper
        Remembers how far each is kept.
    followed
        Where it is noted what can no longer be read.
    reach
        The offsets of a partition's first record and after its last; raises NotNow, KafkaException.
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
        reach: Callable[[Partition], tuple[int, int]],
        bootstrap: str,
        group: str,
        kafka: Mapping[str, Any],
    ) -> None:
        self._keeper, self._followed, self._reach = keeper, followed, reach
        self._bootstrap, self._group, self._kafka = bootstrap, group, kafka
        self.names: dict[Partition, str] = {}  # that the keeper knows them by
        self.epochs: dict[Partition, int] = {}  # of the leader that wrote the record read last
        self._ids: dict[str, str] = {}  # of their topics
        self._asking: AdminClient | None = None

    @property
    def asks(self) -> dict[str, Any]:
        """Settings of a client that asks."""
        return client_settings(self._bootstrap, **self._kafka)

    def forget(self) -> None:
        """None is ours."""
        self.names, self.epochs = {}, {}

    def ask_anew(self) -> None:
        """With the password of now."""
        self._asking = None

    def take(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """These are ours now, and no others; where to go on in each. Raises NotNow, BrokerError."""
        self.names = self._named(partitions)
        self.epochs = {}
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
        from where it was cut.
        """
        names = {partition: self.names[partition] for partition in partitions}
        with told_while_slow(log, SLOW):
            marks = self._keeper.marks(names.values())
        starts, stands = dict.fromkeys(names, OFFSET_BEGINNING), dict[Partition, Stand]()
        self.epochs |= dict.fromkeys(names, -1)
        for partition, name in names.items():
            if name in marks:
                stands[partition] = self._within(partition, stand_at(marks[name]))
                starts[partition], self.epochs[partition] = stands[partition]
        known = {p: Wanted(stand.offset, stand.offset, stand.epoch) for p, stand in stands.items()}
        for partition, found in self.cut(known).items():
            if isinstance(found, Exception):
                raise NotNow(f"{partition}: {found}")
            starts[partition], self.epochs[partition] = found, -1
        return starts

    def cut(self, wanted: Mapping[Partition, Wanted]) -> dict[Partition, int | Exception]:
        """Of logs that were cut below where a range begins: the offset of the first record that was written
        since; or why that cannot be told now. Each that was cut is noted."""
        known = {partition: one for partition, one in wanted.items() if one.epoch >= 0}
        if not known:
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

    def _within(self, partition: Partition, stand: Stand) -> Stand:
        """Where to go on of what is there."""
        low, high = self._reach(partition)
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
