"""Making topics, and knowing when one can be written to."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from pipeline.broker.client import (
    PASSING,
    BrokerError,
    admin_client,
    passes_by_itself,
    sentence,
    topic_names,
    unreachable,
)
from pipeline.broker.faults import Fault, fault_of
from pipeline.broker.members import described
from pipeline.broker.partition import Partition

Part = TypeVar("Part")
NO_LEADER_YET = {KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION}
"""What a broker answers for a partition that was just made, or whose leader has just gone."""
_NOT_YET = {
    *NO_LEADER_YET,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.KAFKA_STORAGE_ERROR,
}
"""What a broker answers for a partition whose leader does not know yet that it leads, or that has none."""
_SOONEST_SECONDS, _LATEST_SECONDS = 0.02, 0.5
_ASK_SECONDS = 5.0


class TopicRefused(BrokerError):
    """Kafka does not make this topic, whatever one waits."""


def ensure_topics(
    bootstrap: str,
    names: Iterable[str],
    partitions: int = 8,
    config: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    **extra: Any,
) -> list[str]:
    """Create those of `names` that are not there, and return when all of them can be written to.

    A topic that is there stays as it is, and is not asked for: whoever may not create topics can go on. The
    broker's own default decides how many replicas.

    Parameters
    ----------
    bootstrap, extra : str, Any
        The broker, and librdkafka's own keys.
    names : iterable of str
        The topics that are wanted.
    partitions, config : int, mapping
        Of those that have to be created.
    timeout : float
        Seconds for creating them, and again for their leaders.

    Returns
    -------
    list of str
        Those that were created.

    Raises
    ------
    BrokerError
        Naming the topic that was refused, or the partition whose leader does not answer.
    """
    admin = admin_client(bootstrap, **extra)
    wanted = list(names)
    if not wanted:
        return []
    created = []
    there = topic_names(bootstrap, timeout=timeout, **extra)
    new = [
        NewTopic(n, num_partitions=partitions, config=dict(config or {})) for n in wanted if n not in there
    ]
    futures = admin.create_topics(new, operation_timeout=timeout, request_timeout=timeout) if new else {}
    for name, future in futures.items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() in PASSING:
                raise unreachable(bootstrap, reason, kafka=extra) from None
            if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicRefused(f"topic {name!r} cannot be created: {sentence(reason)}") from None
    _await_leaders(admin, wanted, timeout)
    return created


def configure_topics(
    bootstrap: str, names: Iterable[str], config: Mapping[str, str], **extra: Any
) -> list[str]:
    """Give topics that are there some settings, where theirs are others; the topics that were changed.

    Parameters
    ----------
    bootstrap, extra : str, Any
        The broker, and librdkafka's own keys.
    names : iterable of str
        The topics.
    config : mapping
        The settings; others stay as they are.

    Returns
    -------
    list of str

    Raises
    ------
    BrokerError
        Naming the topic whose settings cannot be seen or changed.
    """
    admin = admin_client(bootstrap, **extra)
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    changed: dict[str, ConfigResource] = {}
    try:
        for resource, told in (admin.describe_configs(asked) if asked else {}).items():
            now = told.result(_ASK_SECONDS)
            entries = [
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in config.items()
                if now[key].value != value
            ]
            if entries:
                of = ConfigResource(ConfigResource.Type.TOPIC, resource.name, incremental_configs=entries)
                changed[resource.name] = of
        for one in (admin.incremental_alter_configs([*changed.values()]) if changed else {}).values():
            one.result(_ASK_SECONDS)
    except KafkaException as error:
        raise BrokerError(f"the settings of topics cannot be changed: {sentence(error.args[0])}") from None
    return sorted(changed)


def partitions_of(admin: AdminClient, names: Iterable[str], timeout: float = 10.0) -> list[Partition]:
    """Every partition of some topics in the broker's metadata; a topic that does not exist has none.

    All topics are asked for, because asking for one by name may create it.

    Parameters
    ----------
    admin
        Client.
    names
        Topics.
    timeout
        Seconds to wait.

    Raises
    ------
    KafkaException
        When the broker does not answer in time.
    """
    known = admin.list_topics(timeout=timeout).topics
    return [Partition(name, number) for name in names if name in known for number in known[name].partitions]


def left_out(
    kafka: Mapping[str, Any], pattern: str, group: str, assigned: Iterable[Partition], timeout: float = 10.0
) -> set[Partition]:
    """The partitions of a pattern's topics that no member of the group has.

    Ask once after a start. A static member that returns within its session is given its former partitions,
    without a rebalance. Topics and partitions that were made meanwhile were known to the client when it
    joined, so it does not report them as new, and no member would ever read them. Subscribing a second time
    causes a rebalance.

    Parameters
    ----------
    kafka
        Settings of a client.
    pattern
        Regular expression for the topics (`re.match`).
    group
        Consumer group.
    assigned
        The partitions of the member that asks.
    timeout
        Seconds to wait.

    Raises
    ------
    KafkaException
        When the broker does not answer in time.
    """
    admin = AdminClient(dict(kafka))
    known = admin.list_topics(timeout=timeout).topics
    there = set(partitions_of(admin, [name for name in known if re.match(pattern, name)], timeout))
    if not (missing := there - set(assigned)):
        return set()
    members = described(kafka, group, timeout).members
    return missing.difference(*(member.places for member in members))


def topic_ids(admin: AdminClient, names: Iterable[str], timeout: float = 10.0) -> dict[str, str]:
    """The id that Kafka gave each topic when it was created; a topic that is created again gets another.

    A topic that does not exist, or that we may not describe, is left out.

    Parameters
    ----------
    admin
        Client.
    names
        Topics.
    timeout
        Seconds to wait.

    Raises
    ------
    BrokerError
        When the broker does not answer in time.
    """
    wanted = list(names)
    if not wanted:
        return {}
    ids = {}
    for name, told in _answers(admin.describe_topics(TopicCollection(wanted), request_timeout=timeout)):
        if not isinstance(told, KafkaError):
            ids[name] = str(told.topic_id)
        elif fault_of(told, "read") is not Fault.INPUT:
            raise BrokerError(f"cannot look at {name}: {sentence(told)}")
    return ids


def _answers(futures: Mapping[Part, Any]) -> Iterator[tuple[Part, Any | KafkaError]]:
    """What the broker answers to each part of a request, or why it does not."""
    for part, future in futures.items():
        try:
            yield part, future.result()
        except KafkaException as error:
            yield part, error.args[0]


def not_there(admin: AdminClient, names: Iterable[str], timeout: float = 10.0) -> set[str]:
    """Of some topics those that the broker says do not exist; one that we may not describe is none of them.

    Parameters
    ----------
    admin
        Client.
    names
        Topics.
    timeout
        Seconds to wait.
    """
    wanted = list(names)
    if not wanted:
        return set()
    answers = _answers(admin.describe_topics(TopicCollection(wanted), request_timeout=timeout))
    unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
    return {name for name, told in answers if isinstance(told, KafkaError) and told.code() == unknown}


def unwritable(admin: AdminClient, names: Iterable[str], timeout: float = 10.0) -> dict[str, str]:
    """The topics that are not there or may not be written to by us, each with the reason.

    Parameters
    ----------
    admin
        Asks the broker.
    names
        Topics.
    timeout
        Seconds to wait.

    Raises
    ------
    BrokerError
        When the broker does not answer in time.
    """
    wanted, reasons = TopicCollection(list(names)), {}
    asked = admin.describe_topics(wanted, request_timeout=timeout, include_authorized_operations=True)
    for name, told in _answers(asked):
        if isinstance(told, KafkaError):
            if fault_of(told, "read") is not Fault.INPUT:
                raise BrokerError(f"cannot look at {name}: {sentence(told)}")
            reasons[name] = "not there"
            continue
        rights = told.authorized_operations
        if rights and not {AclOperation.WRITE, AclOperation.ALL} & set(rights):
            reasons[name] = "no right to write"
    return reasons


def offsets(
    admin: AdminClient, places: list[Partition], which: OffsetSpec, timeout: float = 10.0
) -> dict[Partition, int]:
    """The first or the last stable offset of each partition.

    Parameters
    ----------
    admin
        Asks the broker.
    places
        The partitions.
    which
        OffsetSpec.earliest() or latest().
    timeout
        For the answer, s.

    Raises
    ------
    KafkaException
        When the broker does not say.
    """
    found = {}
    for place, told in offsets_or_why(admin, places, which, timeout=timeout).items():
        if isinstance(told, KafkaError):
            raise KafkaException(told)
        found[place] = told
    return found


def offsets_or_why(
    admin: AdminClient,
    places: list[Partition],
    which: OffsetSpec,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    timeout: float = 10.0,
) -> dict[Partition, int | KafkaError]:
    """The same partition by partition: one of which the broker does not say it keeps none of the others.

    Parameters
    ----------
    admin
        Asks the broker.
    places
        The partitions.
    which
        OffsetSpec.earliest() or latest().
    isolation
        Whether the last offset is the last stable one.
    timeout
        For the answer, s.
    """
    asked = {TopicPartition(*place): which for place in places}
    if not asked:
        return {}
    found: dict[Partition, int | KafkaError] = {}
    # When the broker goes away in the middle, librdkafka (2.16) reports success without an offset.
    nobody = KafkaError(KafkaError.LEADER_NOT_AVAILABLE, "no leader said how far it reaches")
    answers = admin.list_offsets(asked, isolation_level=isolation, request_timeout=timeout)
    for tp, told in _answers(answers):
        place = Partition(tp.topic, tp.partition)
        if isinstance(told, KafkaError):
            found[place] = told
        else:
            found[place] = told.offset if told.offset >= 0 else nobody
    return found


def _await_leaders(admin: AdminClient, names: list[str], timeout: float) -> None:
    """Return when the leader of every partition has said where the partition ends.

    Until then it refuses what is written. That a topic was created, or is in the metadata, does not say so.
    """
    deadline, pause = time.monotonic() + timeout, _SOONEST_SECONDS
    while (waits_for := _without_leader(admin, names)) is not None:
        if time.monotonic() > deadline:
            raise BrokerError(
                f"{waits_for} within {timeout:g} s",
                hint="is a broker down that has the partition?",
            )
        time.sleep(pause)
        pause = min(2 * pause, _LATEST_SECONDS)


def _without_leader(admin: AdminClient, names: list[str]) -> str | None:
    """What is not ready of these topics, as the beginning of a sentence. Raises BrokerError for a refusal."""
    try:
        places = partitions_of(admin, names, _ASK_SECONDS)
    except KafkaException as error:
        if not passes_by_itself(error.args[0]):
            raise BrokerError(f"the topics cannot be listed: {sentence(error.args[0])}") from None
        return "no broker said which topics there are"
    if missing := set(names) - {place.topic for place in places}:
        return f"topic {min(missing)} did not appear"
    asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    waits_for = None
    for place, told in _answers(admin.list_offsets(asked, request_timeout=_ASK_SECONDS)):
        if isinstance(told, KafkaError):
            where = Partition(place.topic, place.partition)
            if told.code() not in _NOT_YET and not passes_by_itself(told):
                raise BrokerError(f"{where} cannot be looked at: {sentence(told)}")
            waits_for = f"no leader of {where} answered ({told.name()})"
    return waits_for
