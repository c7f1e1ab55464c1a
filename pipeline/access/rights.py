"""Rights as the broker knows them (Kafka's ACLs): what there is, and making it what there is to be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from pipeline.access.roles import EVERYBODY, Right, Role, every_right
from pipeline.broker.client import BrokerError, admin_client, sentence
from pipeline.channels.channel import PUBLIC_PREFIX

_KAFKA_SECONDS = 20.0
_LOOK_SECONDS = 0.05


def enforce(
    roles: Mapping[str, Role],
    ours: Iterable[str],
    topics: Iterable[str],
    bootstrap: str,
    readers: Mapping[str, frozenset[str]] | None = None,
    **kafka: Any,
) -> list[str]:
    """Make the broker's rights those of `every_right`; return when it goes by them.

    Parameters
    ----------
    roles, topics, readers
        As for `every_right`.
    ours
        Users whose rights are ours to set, those that were removed among them. What others have on the same
        cluster stays, and whatever was forbidden by hand.
    bootstrap, kafka
        The broker, and librdkafka's own keys.

    Returns
    -------
    list of str
        What was changed: "+ User:ann READ TOPIC channel.x", "- ...".

    Raises
    ------
    BrokerError
        When the broker refuses, or does not go by it within 20 s.
    """
    admin = admin_client(bootstrap, **kafka)
    wanted = every_right(roles, topics, readers or {})
    principals = {f"User:{name}" for name in ours}
    there = {right for right in rights(admin) if _is_ours(right, principals)}
    taken, given = there - wanted, wanted - there
    _take(admin, taken)
    _give(admin, given)
    deadline = time.monotonic() + _KAFKA_SECONDS
    while there != wanted:
        there = {right for right in rights(admin) if _is_ours(right, principals)}
        if there != wanted and time.monotonic() > deadline:
            raise BrokerError(f"the broker does not go by {len(there ^ wanted)} rights that were changed")
        time.sleep(_LOOK_SECONDS)
    return [f"- {_words(right)}" for right in sorted(taken)] + [
        f"+ {_words(right)}" for right in sorted(given)
    ]


def rights(admin: AdminClient) -> set[Right]:
    """All that is allowed to anybody, from whichever machine. Raises BrokerError."""
    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ALLOW
    )
    try:
        found = admin.describe_acls(every, request_timeout=_KAFKA_SECONDS).result()
    except KafkaException as error:
        raise BrokerError(
            f"the rights cannot be looked at: {sentence(error.args[0])}",
            hint="that is an operator's: --as operator on the broker's machine",
        ) from None
    return {
        Right(
            acl.principal,
            acl.restype.name,
            acl.name,
            acl.operation.name,
            acl.resource_pattern_type is ResourcePatternType.PREFIXED,
        )
        for acl in found
        if acl.host == "*"
    }


def _is_ours(right: Right, principals: set[str]) -> bool:
    of_everybody = right.principal == EVERYBODY and right.name.startswith(PUBLIC_PREFIX)
    return right.principal in principals or of_everybody


def _words(right: Right) -> str:
    star = "*" if right.prefixed else ""
    return f"{right.principal} {right.operation} {right.kind} {right.name}{star}"


def _fields(right: Right) -> tuple[Any, ...]:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    return (
        ResourceType[right.kind],
        right.name,
        pattern,
        right.principal,
        "*",
        AclOperation[right.operation],
        AclPermissionType.ALLOW,
    )


def _give(admin: AdminClient, some: set[Right]) -> None:
    if some:
        asked = [AclBinding(*_fields(right)) for right in some]
        _await(admin.create_acls(asked, request_timeout=_KAFKA_SECONDS))


def _take(admin: AdminClient, some: set[Right]) -> None:
    if some:
        asked = [AclBindingFilter(*_fields(right)) for right in some]
        _await(admin.delete_acls(asked, request_timeout=_KAFKA_SECONDS))


def _await(answers: Mapping[Any, Any]) -> None:
    for asked, answer in answers.items():
        try:
            answer.result()
        except KafkaException as error:
            raise BrokerError(
                f"{asked.principal} on {asked.name}: the right was not changed: {sentence(error.args[0])}"
            ) from None
