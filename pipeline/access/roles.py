"""Who may do what: from users, their roles and the topics there are to every right that there is to be.

Nothing is allowed that is not written here. A topic is given by its whole name: what is public is told by
the end of a name (`_programid1`), and a prefix `channel.` would open private channels. Prefixes are for the
service account alone, which makes topics, and for the groups of each user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.channels.channel import COLLABORATION_PREFIX, PUBLIC_PREFIX
from pipeline.channels.gaps import APPLIED_TOPIC, EXPOSURES_TOPIC, GAPS_TOPIC, ONCE_TOPIC, RANKED_TOPIC
from pipeline.channels.groups import GROUPS_TOPIC
from pipeline.channels.ledger import LEDGER_TOPIC
from pipeline.channels.registry import CHANNELS_TOPIC
from pipeline.channels.state import STATE_TOPIC
from schemas.surveys import strangers
from schemas.surveys.registry import SURVEYS, survey_of_topic

Role = Literal["operator", "pipeline", "broker", "collaboration-broker", "collaboration", "public"]
ROLES: dict[Role, str] = {
    "operator": "may do everything",
    "pipeline": "the service account of `zads run`, `publish` and `archive follow`",
    "broker": "reads the public stream of every survey, and public channels",
    "collaboration-broker": "reads all that the surveys send, and every channel that is not private",
    "collaboration": "reads public and collaboration channels",
    "public": "reads public channels",
}
"""Role -> what it is for."""

EVERYBODY = "User:*"
Kind = Literal["TOPIC", "GROUP", "TRANSACTIONAL_ID", "BROKER"]
"""As Kafka's clients call them: BROKER is the whole cluster."""
REQUESTS, ANSWERS = "zads.requests.", "zads.answers."
"""The topics of a user, each followed by the user's name (pipeline.access.requests)."""

_CLUSTER = "kafka-cluster"
COLLABORATION: frozenset[Role] = frozenset({"collaboration", "collaboration-broker"})
"""Roles that may see data that are not public."""


class Right(NamedTuple):
    """That a principal ("User:ann") may do an operation ("READ") on what has a name, or begins with it."""

    principal: str
    kind: Kind
    name: str
    operation: str
    prefixed: bool = False


def every_right(
    roles: Mapping[str, Role], topics: Iterable[str], readers: Mapping[str, frozenset[str]]
) -> set[Right]:
    """All that is to be allowed.

    Parameters
    ----------
    roles
        User -> role.
    topics
        The topics there are.
    readers
        Topic of a channel that a user owns -> who may read it, "*" for everybody; one that is not there is
        read by nobody.

    Returns
    -------
    set of Right
    """
    found = {right for name, role in roles.items() for right in _of_role(f"User:{name}", name, role)}
    for topic in {*topics, *readers}:
        found |= {Right(who, "TOPIC", topic, "READ") for who in _readers(topic, roles, readers)}
    return found


def _of_role(who: str, name: str, role: Role) -> Iterator[Right]:
    """What a user has whatever topics there are."""
    if role == "operator":
        kinds: tuple[Kind, ...] = ("TOPIC", "GROUP", "TRANSACTIONAL_ID")
        yield from (Right(who, kind, "*", "ALL") for kind in kinds)
        yield Right(who, "BROKER", _CLUSTER, "ALL")
    elif role == "pipeline":
        yield from _of_pipeline(who)
    else:
        yield Right(who, "GROUP", name, "READ")
        yield Right(who, "GROUP", f"{name}.", "READ", prefixed=True)
        yield Right(who, "TOPIC", REQUESTS + name, "WRITE")
        yield Right(who, "TOPIC", ANSWERS + name, "READ")


def _of_pipeline(who: str) -> Iterator[Right]:
    """It makes and writes nightly topics and channels' topics; of the registry it is a reader."""
    for beginning in (*nightly_prefixes(), PUBLIC_PREFIX, COLLABORATION_PREFIX):
        for operation in ("READ", "WRITE", "CREATE"):
            yield Right(who, "TOPIC", beginning, operation, prefixed=True)
    for topic in (
        *(DEAD_LETTERS, GAPS_TOPIC, APPLIED_TOPIC, LEDGER_TOPIC, GROUPS_TOPIC),
        *(ONCE_TOPIC, EXPOSURES_TOPIC, RANKED_TOPIC, STATE_TOPIC),
    ):
        yield Right(who, "TOPIC", topic, "READ")
        yield Right(who, "TOPIC", topic, "WRITE")
    yield Right(who, "TOPIC", CHANNELS_TOPIC, "READ")
    yield Right(who, "GROUP", "zads", "READ")
    yield Right(who, "GROUP", "zads-", "READ", prefixed=True)
    for beginning in ("zads/", "zads-"):
        yield Right(who, "TRANSACTIONAL_ID", beginning, "WRITE", prefixed=True)


def nightly_prefixes() -> list[str]:
    """How the surveys' topics begin: the part of each pattern that stands for itself."""
    heads = [re.match(r"[\w-]*", survey.topics.pattern) for survey in SURVEYS.values()]
    return [head[0] for head in heads if head and head[0]] + [f"{name}_" for name in strangers.NAMES]


def _readers(topic: str, roles: Mapping[str, Role], readers: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """The principals that may read a topic because of what it is."""
    if topic in readers:
        for name in readers[topic]:
            yield EVERYBODY if name == "*" else f"User:{name}"
    elif re.fullmatch(rf"{re.escape(PUBLIC_PREFIX)}[^.]+", topic):
        yield EVERYBODY
    else:
        allowed = _roles_reading(topic)
        yield from (f"User:{name}" for name, role in roles.items() if role in allowed)


def _roles_reading(topic: str) -> frozenset[Role]:
    if re.fullmatch(rf"{re.escape(COLLABORATION_PREFIX)}[^.]+", topic):
        return COLLABORATION
    if is_public_stream(topic):
        return frozenset({"broker", "collaboration-broker"})
    if survey_of_topic(topic) or topic.startswith(tuple(f"{name}_" for name in strangers.NAMES)):
        return frozenset({"collaboration-broker"})
    return frozenset()


def is_public_stream(topic: str) -> bool:
    """Whether all that is published to a topic is public, by the rule of its survey."""
    survey = SURVEYS.get(survey_of_topic(topic) or "")
    return survey is not None and survey.public.holds(survey.topics.program_of(topic))


_KINDS = {
    "TOPIC": "topics",
    "GROUP": "groups",
    "TRANSACTIONAL_ID": "transactional ids",
    "BROKER": "the cluster",
}


def role_table() -> str:
    """What each role may do whatever topics there are, as lines of Markdown; NAME is the user's name."""
    lines = ["| role | what it is for | may |", "|---|---|---|"]
    for role, what in ROLES.items():
        lines.append(f"| {role} | {what} | {'; '.join(_summary(set(_of_role('User:NAME', 'NAME', role))))} |")
    return "\n".join(lines)


def _summary(some: set[Right]) -> Iterator[str]:
    """Rights of one principal, those with the same operations together."""
    operations: dict[tuple[Kind, str], list[str]] = {}
    for right in sorted(some):
        name = f"`{right.name}{'*' if right.prefixed else ''}`"
        operations.setdefault((right.kind, name), []).append(right.operation)
    names: dict[tuple[Kind, str], list[str]] = {}
    for (kind, name), which in operations.items():
        names.setdefault((kind, ", ".join(which)), []).append(name)
    for (kind, told), every in names.items():
        yield f"{told} on {_KINDS[kind]} {', '.join(every)}"
