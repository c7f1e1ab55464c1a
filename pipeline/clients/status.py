"""How a group stands, from any machine that reaches the broker: is tonight all right?

Nothing is asked of the run itself: only Kafka is asked, so it also works when nothing runs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.broker.client import BrokerError, admin_client, client_settings, sentence, topic_names
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.members import committed, described, replicas
from pipeline.broker.partition import Partition
from pipeline.broker.topics import offsets, partitions_of, topic_ids
from pipeline.channels.config import RunConfig
from pipeline.channels.groups import groups as groups_known
from pipeline.clients.ranked_nights import lacking
from pipeline.worker.backfill import gaps_of
from pipeline.worker.holding.position import standing

State = Literal["up to date", "waiting", "made again", "beyond the end", "deleted unread"]
_ASK_SECONDS = 10.0
_AGE_SECONDS = 5.0
_MOST_PROBLEMS = 5
_MOST_AGES = 64
"""Partitions whose oldest waiting record is looked at."""


@dataclass(frozen=True)
class PartitionStatus:
    """One partition of a group.

    offset: of the next record, None before the first commit. end: the last stable offset. age: seconds since
    the oldest record that waits was written, None when none does or it is not known.
    """

    partition: Partition
    state: State
    offset: int | None
    end: int
    lag: int
    age: float | None = None


@dataclass
class GroupStatus:
    """What Kafka knows of a group: members that run now, and its partitions."""

    group: str
    members: int = 0
    partitions: list[PartitionStatus] = field(default_factory=list)

    @property
    def lag(self) -> int:
        return sum(one.lag for one in self.partitions)

    @property
    def age(self) -> float | None:
        """Of the record that waits longest, s."""
        return max((one.age for one in self.partitions if one.age is not None), default=None)


@dataclass
class Status:
    """gaps: channel -> open gaps; dead_letters: how many there are; problems: a sentence for each; notes:
    what is not wrong now, and may not be meant."""

    groups: list[GroupStatus] = field(default_factory=list)
    gaps: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def status(config: RunConfig, groups: Iterable[str], patience: float = 60.0) -> Status:
    """How the groups stand in the topics of `config`, and what channels miss.

    Parameters
    ----------
    config : RunConfig
        The broker and the topics.
    groups : iterable of str
        Consumer groups; of those that have never committed only the first is told.
    patience : float
        A record may wait so long before that is a problem, s.

    Returns
    -------
    Status

    Raises
    ------
    BrokerError
        When no broker answers.
    """
    bootstrap, kafka, asked = config.bootstrap_servers, config.client, list(groups)
    topics = topic_names(bootstrap, config.topics, **kafka)
    admin = admin_client(bootstrap, **kafka)
    found = Status()
    try:
        for number, group in enumerate(asked):
            told = _group(config, admin, group, topics)
            if number == 0 or any(one.offset is not None for one in told.partitions):
                found.groups.append(told)
        found.gaps = Counter(gap.channel for gap in gaps_of(config))
        found.dead_letters = _records(admin, DEAD_LETTERS)
    except KafkaException as error:
        raise BrokerError(f"the broker at {bootstrap} does not say: {sentence(error.args[0])}") from None
    found.notes = _notes(asked, found.groups)
    found.problems = [problem for group in found.groups for problem in _problems(group, patience)]
    stopped = suspended_channels(config, asked)
    problems = [f"channel {name} is suspended: {why}" for name, why in stopped.items()]
    found.problems += _shortened(problems, "suspended channels")
    found.problems += [f"channel {name} misses records: {n} open gaps" for name, n in found.gaps.items()]
    late = [str(one) for one in lacking(config) if one.late]
    found.problems += _shortened(late, "nights of ranked channels")
    return found


def suspended_channels(config: RunConfig, asked: Collection[str]) -> dict[str, str]:
    """The channels that the replicas that run now have suspended, and why, by name.

    Parameters
    ----------
    config
        The broker.
    asked
        Consumer groups.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    kafka = config.client
    known = [one for one in groups_known(config.bootstrap_servers, **kafka) if one.group in asked]
    asks = client_settings(config.bootstrap_servers, **kafka)
    running = [one for one in known if one.suspended and one.replica in replicas(asks, one.group)]
    return dict(sorted(pair for one in running for pair in one.suspended))


def _group(config: RunConfig, admin: AdminClient, group: str, topics: list[str]) -> GroupStatus:
    places = partitions_of(admin, topics)
    told = GroupStatus(group, _members(config, group))
    if not places:
        return told
    beginnings = offsets(admin, places, OffsetSpec.earliest())
    ends = offsets(admin, places, OffsetSpec.latest())
    ids = topic_ids(admin, topics)
    for stands in committed(group, places, config.bootstrap_servers, **config.client):
        place = Partition(stands.topic, stands.partition)
        told.partitions.append(_of(stands, ids[place.topic], beginnings[place], ends[place]))
    ages = _ages(config, [one for one in told.partitions if one.lag])
    told.partitions = [_with_age(one, ages.get(one.partition)) for one in told.partitions]
    return told


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


def _with_age(one: PartitionStatus, age: float | None) -> PartitionStatus:
    return PartitionStatus(one.partition, one.state, one.offset, one.end, one.lag, age)


def _members(config: RunConfig, group: str) -> int:
    """Who runs for the group now; a broker that has just begun may have to look for it."""
    deadline = time.monotonic() + _ASK_SECONDS
    asks = client_settings(config.bootstrap_servers, **config.client)
    while True:
        try:
            return len(described(asks, group, _ASK_SECONDS).members)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
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


def _records(admin: AdminClient, topic: str) -> int:
    places = partitions_of(admin, [topic])
    if not places:
        return 0
    beginnings = offsets(admin, places, OffsetSpec.earliest())
    ends = offsets(admin, places, OffsetSpec.latest())
    return sum(ends[place] - beginnings[place] for place in places)


def _notes(asked: Iterable[str], groups: Collection[GroupStatus]) -> list[str]:
    idle = [one.group for one in groups if not one.members and not one.lag]
    told = {one.group for one in groups}
    never = [f"group {group} has never kept anything here" for group in asked if group not in told]
    return [f"nobody runs for group {group}: what comes from now on waits" for group in idle] + never


def _problems(group: GroupStatus, patience: float) -> list[str]:
    problems = []
    if group.lag and not group.members:
        problems.append(f"nobody runs for group {group.group}, and {group.lag:,} records wait")
    if group.age is not None and group.age > patience:
        problems.append(f"group {group.group}: a record has waited for {group.age:,.0f} s")
    wrong = [one for one in group.partitions if one.state not in ("up to date", "waiting")]
    of = f"group {group.group}: "
    told = [f"{of}{one.partition} is {one.state} (offset {one.offset}, end {one.end})" for one in wrong]
    return problems + _shortened(told, "partitions", of)


def _shortened(problems: list[str], what: str, of: str = "") -> list[str]:
    """The first of some problems, and how many more there are. of: begins that sentence."""
    more = len(problems) - _MOST_PROBLEMS
    return problems if more <= 0 else [*problems[:_MOST_PROBLEMS], f"{of}and {more} {what} more"]
