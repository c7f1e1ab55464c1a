"""What has arrived of our partitions, until it is proved that topic and log are still the same ones.

A topic that is deleted and created again has the same name and offsets. What was read belongs to the former
topic only if that still exists; otherwise the new one is read from its beginning. A log that was cut below
what was read is read again from there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import Message

from pipeline.broker.partition import Partition
from pipeline.broker.reading.shared_ranges import Wanted, changes
from pipeline.clients.following.keeper import Keeper, Received, received_of
from pipeline.clients.following.position import Stand
from pipeline.clients.following.sources import Sources


class _Arrived(NamedTuple):
    """Records of one partition, or none where it ended. first, next: offsets where they begin, and where the
    partition goes on."""

    partition: Partition
    source: str
    records: list[Received]
    first: int
    next: int


class Proved(NamedTuple):
    """What was found. read: records that the keeper has now. made_again: topics. cut: where to read on in
    partitions whose log was cut."""

    read: int
    made_again: set[str]
    cut: dict[Partition, int]


class Arrivals:
    """Records that the keeper does not have yet, in the order in which they arrived.

    Parameters
    ----------
    keeper
        Gets what is proved.
    sources
        Whose records they are.
    """

    def __init__(self, keeper: Keeper, sources: Sources) -> None:
        self._keeper, self._sources = keeper, sources
        self._unproved: list[_Arrived] = []
        self._proved = time.monotonic()
        self.reached: dict[Partition, int] = {}  # offset up to which each has been read

    def forget(self) -> None:
        """What was read is read again."""
        self._unproved, self.reached = [], {}

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be proved."""
        return bool(self._unproved)

    def due(self, seconds: float) -> bool:
        """Whether there is something to prove, and that was not done for so long."""
        return self.waiting and time.monotonic() - self._proved >= seconds

    def add(self, messages: Iterable[Message]) -> None:
        """Take records and ends of partitions; what is not of our partitions is left out."""
        arrived: dict[Partition, list[Received]] = {}
        before = dict(self.reached)
        for message in messages:
            partition = Partition(message.topic() or "", message.partition() or 0)
            if partition not in self._sources.names:
                continue
            records = arrived.setdefault(partition, [])
            self.reached[partition] = message.offset() or 0
            if message.error() is None:
                records.append(received_of(message))
                self.reached[partition] += 1
        for partition, records in arrived.items():
            reached = self.reached[partition]
            first = before.get(partition, records[0].offset if records else reached)
            name = self._sources.names[partition]
            self._unproved.append(_Arrived(partition, name, records, first, reached))

    def prove(self) -> Proved:
        """Hand to the keeper what is proved. A partition of which that cannot be told waits alone.

        Raises
        ------
        BrokerError
            When the broker does not say which topics there are; everything waits then.
        """
        made_again = self._sources.made_again({arrived.partition.topic for arrived in self._unproved})
        found = self._sources.cut(self._doubts(made_again))
        cut = {partition: at for partition, at in found.items() if not isinstance(at, Exception)}
        self._proved, unproved = time.monotonic(), self._unproved
        self._unproved = [one for one in unproved if one.partition in found.keys() - cut.keys()]
        read = 0
        for one in unproved:
            if one.partition in cut:
                cut[one.partition] = min(cut[one.partition], one.first)  # no record between is left out
            elif one.partition not in found and one.partition.topic not in made_again:
                self._keep(one)
                read += len(one.records)
        self._sources.epochs |= dict.fromkeys(cut, -1)
        return Proved(read, made_again, cut)

    def _keep(self, one: _Arrived) -> None:
        epochs = self._sources.epochs
        if one.records:
            epochs[one.partition] = one.records[-1].epoch
        position = Stand(one.next, epochs[one.partition]).position
        self._keeper.append(one.source, one.records, position)

    def _doubts(self, made_again: set[str]) -> dict[Partition, list[Wanted]]:
        """Where a record arrived that another leader wrote than the record before it."""
        written: dict[Partition, list[tuple[int, int]]] = defaultdict(list)
        for one in self._unproved:
            if one.partition.topic not in made_again:
                written[one.partition] += [(record.offset, record.epoch) for record in one.records]
        return {p: changes(some, self._sources.epochs[p]) for p, some in written.items()}
