"""The users of a secured broker: the compacted topic zads.users, their passwords, and their rights.

A user is in three places of the broker: a record here, a SCRAM credential, and rights (Kafka's ACLs). The
record comes first and the rights follow from it, so whatever is cut short is completed by doing it again.
Who is removed loses the rights first. A name is not used twice: it would inherit channels and groups.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, get_args

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.access.rights import enforce
from pipeline.access.roles import Role
from pipeline.broker.client import BrokerError, admin_client, producer_settings, sentence, topic_names
from pipeline.broker.dead_letters import SETTINGS as DEAD_LETTERS_SETTINGS
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS_TOPIC
from pipeline.broker.listen import listen
from pipeline.broker.topics import ensure_topics
from pipeline.channels.gaps import (
    APPLIED_SETTINGS,
    APPLIED_TOPIC,
    EXPOSURES_SETTINGS,
    EXPOSURES_TOPIC,
    GAPS_SETTINGS,
    GAPS_TOPIC,
    ONCE_SETTINGS,
    ONCE_TOPIC,
)
from pipeline.channels.groups import GROUPS_SETTINGS, GROUPS_TOPIC
from pipeline.channels.ledger import LEDGER_SETTINGS, LEDGER_TOPIC
from pipeline.channels.registry import ensure_registry
from schemas.errors import ZadsError, near_names

log = logging.getLogger(__name__)

USERS_TOPIC = "zads.users"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RESERVED = re.compile(r"zads.*|any|all|everybody|anonymous|kafka|root|admin|operator|owner|me")
_ITERATIONS = 8192
_KAFKA_SECONDS = 20.0


class UserError(ZadsError):
    """A user that is not there, is there already, or cannot be called so."""


class User(BaseModel):
    """One user as last changed. by: who did that; when: UTC, ISO 8601."""

    model_config = ConfigDict(frozen=True)

    name: str
    role: Role
    removed: bool = False
    by: str = ""
    when: str = ""


def read_users(bootstrap: str, **kafka: Any) -> dict[str, User]:
    """Every user that there is or was, by name. Raises BrokerError."""
    if USERS_TOPIC not in topic_names(bootstrap, **kafka):
        return {}
    users = {}
    for record in listen(USERS_TOPIC, bootstrap, until_drained=True, **kafka):
        try:
            user = User.model_validate_json(record.raw)
        except ValidationError:
            log.error("%s/%d is no record of a user", USERS_TOPIC, record.offset)
            continue
        users[user.name] = user
    return users


def present(users: dict[str, User]) -> dict[str, Role]:
    """User -> role, of those that have not been removed."""
    return {user.name: user.role for user in users.values() if not user.removed}


def add_user(name: str, role: Role, bootstrap: str, *, by: str, **kafka: Any) -> str:
    """Make a user; returns the password, which is kept nowhere.

    Parameters
    ----------
    name
        Small letters, digits and "-".
    role
        What the user may do.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    by
        Who asks for it.

    Raises
    ------
    UserError
        When the name is taken, was taken, is reserved or cannot be.
    BrokerError
        When the broker refuses.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"user name {name!r}: small letters, digits and -, beginning with a letter")
    if _RESERVED.fullmatch(name):
        raise UserError(f"the user name {name} is reserved", hint="take another")
    lay_out(bootstrap, **kafka)
    if (old := read_users(bootstrap, **kafka).get(name)) is not None:
        was = (
            f"was removed by {old.by} at {old.when}: a name is not used again" if old.removed else "is there"
        )
        raise UserError(
            f"a user {name} {was}",
            hint="take another name" if old.removed else "`zads user rotate` gives a new password",
        )
    _record(User(name=name, role=checked_role(role)), bootstrap, by, kafka)
    password = _set_password(name, bootstrap, kafka)
    enforce_rights(bootstrap, **kafka)
    return password


def remove_user(name: str, bootstrap: str, *, by: str, **kafka: Any) -> None:
    """Take rights and password away: open connections end within seconds.

    Parameters
    ----------
    name
        Of the user.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    by
        Who asks for it.

    Raises
    ------
    UserError
        When there is no such user.
    BrokerError
        When the broker refuses.
    """
    user = known_user(name, bootstrap, **kafka)
    _record(user.model_copy(update={"removed": True}), bootstrap, by, kafka)
    enforce_rights(bootstrap, **kafka)
    _alter([UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512)], bootstrap, kafka)


def rotate_password(name: str, bootstrap: str, **kafka: Any) -> str:
    """Give a user a new password and return it; the old one is void.

    Parameters
    ----------
    name
        Of the user.
    bootstrap, kafka
        The broker, and librdkafka's own keys.

    Raises
    ------
    UserError
        When there is no such user.
    BrokerError
        When the broker refuses.
    """
    known_user(name, bootstrap, **kafka)
    return _set_password(name, bootstrap, kafka)


def change_role(name: str, role: Role, bootstrap: str, *, by: str, **kafka: Any) -> None:
    """Give a user another role.

    Parameters
    ----------
    name
        Of the user.
    role
        The new one.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    by
        Who asks for it.

    Raises
    ------
    UserError
        When there is no such user or role.
    BrokerError
        When the broker refuses.
    """
    user = known_user(name, bootstrap, **kafka)
    _record(user.model_copy(update={"role": checked_role(role)}), bootstrap, by, kafka)
    enforce_rights(bootstrap, **kafka)


def enforce_rights(bootstrap: str, **kafka: Any) -> list[str]:
    """Make the broker's rights those that users, roles and topics ask for; what was changed, in words."""
    users = read_users(bootstrap, **kafka)
    topics = topic_names(bootstrap, **kafka)
    return enforce(present(users), users.keys(), topics, bootstrap, **kafka)


def checked_role(role: str) -> Role:
    """Raises UserError for a role that there is not."""
    if role not in get_args(Role):
        raise UserError(f"no role {role}; {near_names(role, get_args(Role))}")
    return role  # type: ignore[return-value]


def lay_out(bootstrap: str, **kafka: Any) -> None:
    """Make the topics of zads' own, so that the service account need not be able to. Raises BrokerError."""
    compact = {"cleanup.policy": "compact"}
    for topic, settings in (
        (USERS_TOPIC, compact),
        (DEAD_LETTERS_TOPIC, DEAD_LETTERS_SETTINGS),
        (GAPS_TOPIC, GAPS_SETTINGS),
        (APPLIED_TOPIC, APPLIED_SETTINGS),
        (LEDGER_TOPIC, LEDGER_SETTINGS),
        (GROUPS_TOPIC, GROUPS_SETTINGS),
        (ONCE_TOPIC, ONCE_SETTINGS),
        (EXPOSURES_TOPIC, EXPOSURES_SETTINGS),
    ):
        ensure_topics(bootstrap, [topic], partitions=1, config=settings, **kafka)
    ensure_registry(bootstrap, **kafka)


def known_user(name: str, bootstrap: str, **kafka: Any) -> User:
    """A user that has not been removed.

    Parameters
    ----------
    name
        Of the user.
    bootstrap, kafka
        The broker, and librdkafka's own keys.

    Raises
    ------
    UserError
        With near names.
    BrokerError
        When the broker does not answer.
    """
    users = read_users(bootstrap, **kafka)
    if not users:
        raise UserError(
            "there are no users that you may see",
            hint="operators see them: --as operator on the broker's machine",
        )
    if name not in users or users[name].removed:
        raise UserError(f"no user {name}; {near_names(name, sorted(present(users)))}")
    return users[name]


def _record(user: User, bootstrap: str, by: str, kafka: dict[str, Any]) -> None:
    changed = user.model_copy(update={"by": by, "when": datetime.now(UTC).isoformat(timespec="seconds")})
    failed: list[KafkaError] = []
    producer = Producer(producer_settings(bootstrap, **kafka))
    producer.produce(
        USERS_TOPIC,
        changed.model_dump_json().encode(),
        key=user.name.encode(),
        on_delivery=lambda error, _: failed.append(error) if error else None,
    )
    if producer.flush(_KAFKA_SECONDS) or failed:
        why = sentence(failed[0]) if failed else "it does not answer"
        raise BrokerError(f"user {user.name} cannot be written down: {why}")


def _set_password(name: str, bootstrap: str, kafka: dict[str, Any]) -> str:
    password = secrets.token_urlsafe(32)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
    _alter([UserScramCredentialUpsertion(name, info, password.encode())], bootstrap, kafka)
    return password


def _alter(changes: Iterable[UserScramCredentialAlteration], bootstrap: str, kafka: dict[str, Any]) -> None:
    admin: AdminClient = admin_client(bootstrap, **kafka)
    asked = admin.alter_user_scram_credentials(list(changes), request_timeout=_KAFKA_SECONDS)
    for name, answer in asked.items():
        try:
            answer.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.RESOURCE_NOT_FOUND:  # a removal that is done again
                raise BrokerError(f"the password of {name}: {sentence(error.args[0])}") from None
