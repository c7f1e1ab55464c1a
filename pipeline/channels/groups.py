"""Which groups deliver to which channels: two of them would deliver every alert twice.

Each run writes into the compacted topic zads.groups what it delivers, under its group and replica.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from confluent_kafka import KafkaException, Producer

from pipeline.broker.client import BrokerError, producer_settings, sentence
from pipeline.broker.listen import everything_in
from pipeline.broker.topics import ensure_topics
from schemas.errors import ZadsError

GROUPS_TOPIC = "zads.groups"
GROUPS_SETTINGS = {"cleanup.policy": "compact"}
_KAFKA_SECONDS = 30.0


class SecondGroup(ZadsError):
    """Another group has delivered to these channels."""


@dataclass(frozen=True)
class Delivering:
    """What a replica of a group delivers, or has delivered.

    topics: the pattern of the topics that it reads. whole: patterns of the topics whose exposures it judges
    whole; none where it has no channel that does. slots: the numbers of the transactional producers of its
    workers that may have something open, now or soon. numbered: the first number that none has had.
    """

    group: str
    replica: str
    channels: tuple[str, ...]
    topics: str
    whole: tuple[str, ...] = ()
    slots: tuple[int, ...] = ()
    numbered: int = 0


def groups(bootstrap: str, **kafka: Any) -> list[Delivering]:
    """Every replica of every group that has ever run, the one last that announced itself last. Raises
    BrokerError."""
    latest: dict[bytes | None, Delivering] = {}
    for record in everything_in(GROUPS_TOPIC, bootstrap, **kafka):
        latest.pop(record.key, None)
        latest[record.key] = _delivering(json.loads(record.raw))
    return list(latest.values())


def _delivering(told: dict[str, Any]) -> Delivering:
    """What stands in a record; what another version of zads has added to it is left out."""
    known = {one.name: told[one.name] for one in fields(Delivering) if one.name in told}
    lists = {name: tuple(told.get(name, ())) for name in ("channels", "whole", "slots")}
    return Delivering(**{**known, **lists})


def judged_whole(group: str, bootstrap: str, topics: Iterable[str], **kafka: Any) -> list[str]:
    """Those of some topics whose exposures a group judges whole: by the newest word of any of its replicas.

    Parameters
    ----------
    group
        The group.
    bootstrap
        Address of the broker, host:port.
    topics
        To choose from.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    of_group = [one for one in groups(bootstrap, **kafka) if one.group == group]
    patterns = of_group[-1].whole if of_group else ()
    return [topic for topic in topics if any(re.match(pattern, topic) for pattern in patterns)]


def announce(mine: Delivering, bootstrap: str, **kafka: Any) -> None:
    """Write what this replica delivers from now on.

    Parameters
    ----------
    mine
        What it delivers.
    bootstrap
        Address of the broker, host:port.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When it cannot be written.
    """
    ensure_topics(bootstrap, [GROUPS_TOPIC], partitions=1, config=GROUPS_SETTINGS, **kafka)
    producer = Producer(producer_settings(bootstrap, **kafka))
    key = f"{mine.group}/{mine.replica}".encode()
    try:
        producer.produce(GROUPS_TOPIC, json.dumps(asdict(mine)).encode(), key)
        left = producer.flush(_KAFKA_SECONDS)
    except KafkaException as error:
        raise BrokerError(f"cannot write to {GROUPS_TOPIC}: {sentence(error.args[0])}") from None
    if left:
        raise BrokerError(f"{GROUPS_TOPIC} does not take records")


def refuse_second_group(mine: Delivering, known: Iterable[Delivering], topics: Sequence[str]) -> None:
    """Raise SecondGroup when another group has delivered to these channels what this one would deliver.

    A group that was allowed once has announced itself, and is not asked again.

    Parameters
    ----------
    mine
        What this replica is to deliver.
    known
        All that have been announced.
    topics
        The topics there are.
    """
    before = {name for one in known if one.group == mine.group for name in one.channels}
    for other in known:
        shared = set(other.channels) & set(mine.channels) - before
        if other.group == mine.group or not shared or not _overlap(mine.topics, other.topics, topics):
            continue
        raise SecondGroup(
            f"group {other.group} delivers to channel {min(shared)} already"
            f"{f' and {len(shared) - 1} more' if len(shared) > 1 else ''}:"
            f" group {mine.group} would deliver every alert again into the same topics",
            hint=f"run with --group {other.group}, or choose other channels; --again delivers all the same",
        )


def _overlap(pattern: str, other: str, topics: Iterable[str]) -> bool:
    return pattern == other or any(re.match(pattern, name) and re.match(other, name) for name in topics)


def differences(mine: Delivering, known: Iterable[Delivering], running: Iterable[str]) -> list[str]:
    """How the channels of other replicas of the group differ from these, a sentence each.

    Parameters
    ----------
    mine
        What this replica is to deliver.
    known
        All that have been announced.
    running
        Names of the replicas of the group that run now.
    """
    here, words = set(mine.channels), []
    others = [one for one in known if one.group == mine.group and one.replica != mine.replica]
    for other in [one for one in others if one.replica in set(running)]:
        there = set(other.channels)
        if only := sorted(here ^ there):
            words.append(
                f"replica {other.replica} of group {mine.group} runs other channels than this one:"
                f" {', '.join(only)} would get the alerts of some partitions only"
            )
    return words
