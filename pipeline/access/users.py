"""The users of a secured broker: the compacted topic zads.users, their passwords, and their rights.

A user is in three places of the broker: a record here, a SCRAM credential, and rights (Kafka's ACLs). The
record comes first and the rights follow from it, so whatever is cut short is completed by doing it again.
Who is removed loses the rights first. A name is not used twice: it would inherit channels and groups.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

from confluent_kafka import KafkaError, Producer
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.access.limits import UserLimits
from pipeline.access.passwords import delete_password, new_password
from pipeline.access.requests import ensure_request_topics
from pipeline.access.rights import enforce
from pipeline.access.roles import COLLABORATION, Role
from pipeline.broker.client import BrokerError, producer_settings, sentence, topic_names
from pipeline.broker.dead_letters import SETTINGS as DEAD_LETTERS_SETTINGS
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS_TOPIC
from pipeline.broker.listen import committed_ends, everything_in
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
    RANKED_SETTINGS,
    RANKED_TOPIC,
)
from pipeline.channels.groups import GROUPS_SETTINGS, GROUPS_TOPIC
from pipeline.channels.ledger import LEDGER_SETTINGS, LEDGER_TOPIC
from pipeline.channels.registry import CHANNELS_TOPIC, Registry, ensure_registry, read_registry
from pipeline.channels.state import STATE_SETTINGS, STATE_TOPIC
from schemas.errors import ZadsError, near_names

log = logging.getLogger(__name__)

USERS_TOPIC = "zads.users"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RESERVED = re.compile(r"zads.*|any|all|everybody|anonymous|kafka|root|admin|operator|owner|me")
_KAFKA_SECONDS = 20.0


class UserError(ZadsError):
    """A user that is not there, is there already, or cannot be called so."""


class User(BaseModel):
    """One user as last changed. limits: of the user's channels. by: who did that; when: UTC, ISO 8601."""

    model_config = ConfigDict(frozen=True)

    name: str
    role: Role
    removed: bool = False
    limits: UserLimits = UserLimits()
    by: str = ""
    when: str = ""


def read_users(bootstrap: str, **kafka: Any) -> dict[str, User]:
    """Every user that there is or was, by name. Raises BrokerError."""
    users = {}
    for record in everything_in(USERS_TOPIC, bootstrap, **kafka):
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
    password = new_password(name, bootstrap, **kafka)
    ensure_request_topics([name], bootstrap, **kafka)
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
    delete_password(name, bootstrap, **kafka)


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
    return new_password(name, bootstrap, **kafka)


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


def change_limits(
    name: str, changes: Mapping[str, float | int], bootstrap: str, *, by: str, **kafka: Any
) -> User:
    """Give a user other limits; the user as recorded then.

    Parameters
    ----------
    name
        Of the user.
    changes
        Fields of `UserLimits`; others stay as they are.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    by
        Who asks for it.

    Raises
    ------
    UserError
        When there is no such user, or a limit is less than nothing.
    BrokerError
        When the broker refuses.
    """
    user = known_user(name, bootstrap, **kafka)
    try:
        limits = UserLimits.model_validate({**user.limits.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"
        ) from None
    changed = user.model_copy(update={"limits": limits})
    _record(changed, bootstrap, by, kafka)
    return changed


def enforce_rights(bootstrap: str, **kafka: Any) -> list[str]:
    """Make the broker's rights those that users, topics and channels ask for; what was changed, in words."""
    users = read_users(bootstrap, **kafka)
    topics, roles = topic_names(bootstrap, **kafka), present(users)
    readers = channel_readers(read_registry(bootstrap, **kafka), roles)
    return enforce(roles, users.keys(), topics, bootstrap, readers, **kafka)


def channel_readers(registry: Registry, roles: Mapping[str, Role]) -> dict[str, frozenset[str]]:
    """Topic of each channel that a user owns -> the users who may read it, "*" for everybody."""
    found = {}
    for one in registry.definitions.values():
        if not one.owned_by:
            continue
        named = {one.owned_by, *one.readers}
        if one.access == "public":
            found[one.topic] = frozenset(name for name in named if name == "*" or name in roles)
        else:
            members = (name for name, role in roles.items() if role in COLLABORATION)
            found[one.topic] = frozenset(name for name in members if named & {name, "*"})
    return found


def stand(bootstrap: str, **kafka: Any) -> object:
    """Differs from what it was when topics, users or channels have changed. Raises BrokerError."""
    topics = topic_names(bootstrap, **kafka)
    told = [(topic, 0) for topic in (USERS_TOPIC, CHANNELS_TOPIC) if topic in topics]
    return topics, committed_ends(bootstrap, told, **kafka)


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
        (STATE_TOPIC, STATE_SETTINGS),
        (ONCE_TOPIC, ONCE_SETTINGS),
        (EXPOSURES_TOPIC, EXPOSURES_SETTINGS),
        (RANKED_TOPIC, RANKED_SETTINGS),
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
