"""What a user reads, and how far they have come."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from pipeline.access.rights import rights
from pipeline.access.roles import EVERYBODY
from pipeline.access.users import User
from pipeline.broker.client import BrokerError, admin_client, sentence, topic_names
from pipeline.broker.listen import committed_ends

_KAFKA_SECONDS = 20.0


class Read(NamedTuple):
    """How far one group has come in one topic, in records: read, and behind the end."""

    group: str
    topic: str
    read: int
    behind: int


def topics_of(user: User, bootstrap: str, **kafka: Any) -> list[str]:
    """The topics that a user may read now. Raises BrokerError.

    Parameters
    ----------
    user
        As recorded.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    """
    mine = {f"User:{user.name}", EVERYBODY}
    allowed = [
        right
        for right in rights(admin_client(bootstrap, **kafka))
        if right.principal in mine and right.kind == "TOPIC" and right.operation in ("READ", "ALL")
    ]
    return [
        topic
        for topic in topic_names(bootstrap, **kafka)
        if any(
            right.name in ("*", topic) or (right.prefixed and topic.startswith(right.name))
            for right in allowed
        )
    ]


def groups_of(user: User, bootstrap: str, **kafka: Any) -> list[Read]:
    """How far each of a user's groups has come. Raises BrokerError.

    Parameters
    ----------
    user
        As recorded.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    """
    admin = admin_client(bootstrap, **kafka)
    try:
        every = admin.list_consumer_groups(request_timeout=_KAFKA_SECONDS).result().valid
        names = [
            g.group_id for g in every if g.group_id == user.name or g.group_id.startswith(f"{user.name}.")
        ]
        found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for name in names:
            asked = [ConsumerGroupTopicPartitions(name)]
            answer = admin.list_consumer_group_offsets(asked, request_timeout=_KAFKA_SECONDS)[name].result()
            places = {(p.topic, p.partition): p.offset for p in answer.topic_partitions if p.offset >= 0}
            for place, end in committed_ends(bootstrap, places, **kafka).items():
                counted = found[name, place[0]]
                counted[0] += places[place]
                counted[1] += max(0, end - places[place])
    except KafkaException as error:
        raise BrokerError(f"the groups of {user.name} are not known: {sentence(error.args[0])}") from None
    return [Read(group, topic, read, behind) for (group, topic), (read, behind) in sorted(found.items())]
