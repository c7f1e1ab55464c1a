"""What a user may see of channels: their own, and those whose alerts they may read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.access.roles import COLLABORATION, Role
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry


class Refused(ZadsError):
    """A request that is not done."""


def refuse_what_role_forbids(definition: Definition, role: Role) -> None:
    """Raise Refused for a channel that needs another role."""
    if definition.access == "collaboration" and role not in COLLABORATION:
        raise Refused("a channel of the collaboration needs a role of the collaboration")


def may_read(user: str, role: Role, one: Definition) -> bool:
    """Whether a user may see a channel and what it delivers.

    Parameters
    ----------
    user, role
        Who, and as what.
    one
        The channel.
    """
    named = not one.owned_by or one.owned_by == user or bool({user, "*"} & set(one.readers))
    return named and (one.access == "public" or role in COLLABORATION)


def own(registry: Registry, name: str) -> Definition:
    """One's own channel. Raises Refused, without a word about others' channels."""
    if name not in registry.definitions:
        raise Refused(f"you have no channel {name}", hint="`zads channel list` shows yours")
    return registry.definitions[name]


def readable(settings: RunConfig, registry: Registry, user: str, role: Role, named: str) -> Definition:
    """A channel or filter that a user may read, of their own first.

    Parameters
    ----------
    settings
        The configuration.
    registry
        The registry.
    user, role
        Who, and as what.
    named
        Its name; one's own goes without the owner's.

    Raises
    ------
    Refused
        The same words for what is not there and what may not be read.
    """
    from pipeline.channels.changes import known_definition
    from pipeline.channels.definition import ChannelError

    unknown = Refused(f"no channel or filter {named} that you may read")
    found = registry.definitions.get(f"{user}.{named}")
    try:
        found = found or known_definition(settings, registry, named)
    except ChannelError:  # its words would name every channel
        raise unknown from None
    if not may_read(user, role, found):
        raise unknown
    return found


def listed(user: str, role: Role, registry: Registry, suspended: Mapping[str, str]) -> str:
    """One's own channels, and those that one may read.

    Parameters
    ----------
    user, role
        Who, and as what.
    registry
        The registry.
    suspended
        The channels that do not run now, and why: only their owners are told why.
    """
    seen = [one for one in registry.definitions.values() if may_read(user, role, one)]
    return "\n".join(_line(one, user, suspended) for one in seen) or "no channels"


def _line(one: Definition, user: str, suspended: Mapping[str, str]) -> str:
    waits = (
        f"; an operator is asked: {one.asks}"
        if one.asks and one.owned_by == user and one.state != "retired"
        else ""
    )
    stopped = ", suspended" if one.name in suspended else ""
    if stopped and one.owned_by == user:
        stopped += f" ({suspended[one.name]})"
    return f"{one.name}: {one.state}{stopped}, {one.written}{waits}"


def shown(definition: Definition) -> str:
    """All about one's own channel but its text and its backtest."""
    facts = definition.model_dump(exclude={"source", "report"}, exclude_defaults=True)
    facts["filter"] = definition.written
    return "\n".join(f"{key}: {value}" for key, value in facts.items())
