"""What a user may see of channels: their own, and those whose alerts they may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.access.roles import COLLABORATION, Role
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.gaps import Gap
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


def records_in(gaps: Iterable[Gap]) -> Counter[str]:
    """How many records each channel has missed and not been given since."""
    missed: Counter[str] = Counter()
    for gap in gaps:
        missed[gap.channel] += gap.high - gap.low
    return missed


def listed(
    user: str, role: Role, registry: Registry, suspended: Mapping[str, str], missed: Mapping[str, int]
) -> str:
    """One's own channels, and those that one may read.

    Parameters
    ----------
    user, role
        Who, and as what.
    registry
        The registry.
    suspended
        The channels that do not run now, and why: only their owners are told why.
    missed
        Channel -> records that it has missed: only owners are told.
    """
    seen = [one for one in registry.definitions.values() if may_read(user, role, one)]
    return "\n".join(_line(one, user, suspended, missed) for one in seen) or "no channels"


def _line(one: Definition, user: str, suspended: Mapping[str, str], missed: Mapping[str, int]) -> str:
    waits = (
        f"; an operator is asked: {one.asks}"
        if one.asks and one.owned_by == user and one.state != "retired"
        else ""
    )
    stopped = ", suspended" if one.name in suspended else ""
    if stopped and one.owned_by == user:
        stopped += f" ({suspended[one.name]})"
    if one.owned_by == user and missed.get(one.name):
        stopped += f", {missed[one.name]:,} records missed (`zads channel show` says why)"
    return f"{one.name}: {one.state}{stopped}, {one.written}{waits}"


def shown(definition: Definition, gaps: Sequence[Gap] = ()) -> str:
    """All about one's own channel but its text and its backtest, and what it has missed.

    Parameters
    ----------
    definition
        The channel.
    gaps
        Its open gaps: those of one reason are told together.
    """
    facts = definition.model_dump(exclude={"source", "report"}, exclude_defaults=True)
    facts["filter"] = definition.written
    lines = [f"{key}: {value}" for key, value in facts.items()]
    for reason in dict.fromkeys(gap.reason for gap in gaps):
        alike = [gap for gap in gaps if gap.reason == reason]
        lines.append(f"missed: {records_in(alike)[definition.name]:,} records, because: {reason}")
        lines += [trace] if (trace := next((gap.traceback for gap in alike if gap.traceback), "")) else []
    if gaps:
        lines.append("an operator can bring what was missed: `zads channel backfill`")
    return "\n".join(lines)
