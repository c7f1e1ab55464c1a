"""How a group stands in its topics, by what Kafka says."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.broker.client import client_settings, sentence
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.members import committed, replicas
from pipeline.broker.partition import Partition
from pipeline.broker.topics import offsets_or_why, partitions_of, topic_ids
from pipeline.channels.config import RunConfig
from pipeline.channels.state import Lasting
from pipeline.worker.holding.position import standing

State = (
    Literal["up to date", "behind", "made again", "beyond the end", "deleted unread", "unreadable"] | Lasting
)
_ASK_SECONDS = 10.0
_AGE_SECONDS = 5.0
_MOST_AGES = 64
"""Partitions whose oldest waiting record is looked at."""


@dataclass(frozen=True)
class PartitionStatus:
    """One partition of a group.

    offset: of the next record, None before the first commit. end: the last stable offset. age: seconds since
    the oldest record that waits was written, None when none does or it is not known. since (Unix time, s),
    attempts and why: as the run tells it of what lasts.
    """

    partition: Partition
    state: State
    offset: int | None
    end: int
    lag: int
    age: float | None = None
    since: float | None = None
    attempts: int = 0
    why: str = ""


@dataclass
class GroupStatus:
    """What Kafka knows of a group: the names of the replicas that run now, and its partitions."""

    group: str
    replicas: list[str] = field(default_factory=list)
    partitions: list[PartitionStatus] = field(default_factory=list)

    @property
    def lag(self) -> int:
        return sum(one.lag for one in self.partitions)

    @property
    def age(self) -> float | None:
        """Of the record that waits longest, s."""
        return max((one.age for one in self.partitions if one.age is not None), default=None)


def group_status(
    config: RunConfig, admin: AdminClient, group: str, topics: list[str], patience: float
) -> GroupStatus:
    """How a group stands in some topics.

    Parameters
    ----------
    config
        The broker.
    admin
        A client of it.
    group
        The group.
    topics
        Names of topics that are there.
    patience
        After so long a partition with something that waits is behind, s.

    Raises
    ------
    KafkaException
        When the broker does not say.
    """
    places = partitions_of(admin, topics)
    told = GroupStatus(group, _replicas(config, group))
    if not places:
        return told
    beginnings = offsets_or_why(admin, places, OffsetSpec.earliest())
    ends = offsets_or_why(admin, places, OffsetSpec.latest())
    ids = topic_ids(admin, topics)
    refused = [one for one in (*beginnings.values(), *ends.values()) if isinstance(one, KafkaError)]
    if len(refused) == len(places) * 2:
        raise KafkaException(refused[0])
    for stands in committed(group, places, config.bootstrap_servers, **config.client):
        place = Partition(stands.topic, stands.partition)
        told.partitions.append(_told(stands, ids.get(place.topic, ""), beginnings[place], ends[place]))
    ages = _ages(config, [one for one in told.partitions if one.lag])
    told.partitions = [_with_age(one, ages.get(one.partition), patience) for one in told.partitions]
    return told


def _told(
    stands: TopicPartition, topic_id: str, beginning: int | KafkaError, end: int | KafkaError
) -> PartitionStatus:
    for refused in (beginning, end):
        if isinstance(refused, KafkaError):
            place = Partition(stands.topic, stands.partition)
            return PartitionStatus(place, "unreadable", None, 0, 0, why=sentence(refused))
    assert not isinstance(beginning, KafkaError)
    assert not isinstance(end, KafkaError)
    return _of(stands, topic_id, beginning, end)


def _of(stands: TopicPartition, topic_id: str, beginning: int, end: int) -> PartitionStatus:
    place = Partition(stands.topic, stands.partition)
    stood = standing(stands, topic_id, beginning)
    offset = stands.offset if stands.offset >= 0 else None
    state: State = "waiting" if stood.offset < end else "up to date"
    if stood.made_again:
        state = "made again"
    elif stood.loss:
        state = "deleted unread"
    elif stood.offset > end:
        state = "beyond the end"
    return PartitionStatus(place, state, offset, end, abs(end - stood.offset))


def _with_age(one: PartitionStatus, age: float | None, patience: float) -> PartitionStatus:
    is_behind = one.state == "waiting" and age is not None and age > patience
    return replace(one, age=age, state="behind" if is_behind else one.state)


def _replicas(config: RunConfig, group: str) -> list[str]:
    """Who runs for the group now; a broker that has just begun may have to look for it."""
    deadline = time.monotonic() + _ASK_SECONDS
    asks = client_settings(config.bootstrap_servers, **config.client)
    while True:
        try:
            return replicas(asks, group, _ASK_SECONDS)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            passes = fault_of(reason, "admin") is Fault.ENVIRONMENT
            if not passes or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _ages(config: RunConfig, waiting: list[PartitionStatus]) -> dict[Partition, float]:
    """Seconds since the first record that waits in each partition was written."""
    chosen = waiting[:_MOST_AGES]
    if not chosen:
        return {}
    quick: dict[str, Any] = {
        "group.id": "zads-status",
        "max.partition.fetch.bytes": 1,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer({**client_settings(config.bootstrap_servers, **config.client), **quick})
    ages: dict[Partition, float] = {}
    try:
        consumer.assign([TopicPartition(*one.partition, one.offset or 0) for one in chosen])
        deadline = time.monotonic() + _AGE_SECONDS
        while len(ages) < len(chosen) and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                place = Partition(message.topic(), message.partition())
                ages.setdefault(place, max(0.0, time.time() - message.timestamp()[1] / 1000))
        return ages
    finally:
        consumer.close()
