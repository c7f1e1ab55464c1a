"""What a user is told who looks at channels: why one has an alert or not, what a change has changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from commands.serve.seen import Refused, may_read, readable
from pipeline.access.roles import COLLABORATION, Role

if TYPE_CHECKING:
    from pipeline.access.requests import Request
    from pipeline.channels.config import RunConfig
    from pipeline.channels.registry import Registry

_MOST_ALERTS = 20
_ALERT = re.compile(r"[A-Za-z0-9]+")
"""A candid or an objectId: never the name of a file."""


def difference_told(
    settings: RunConfig, archive: str | None, registry: Registry, user: str, role: Role, request: Request
) -> str:
    """What `zads channel diff` prints, for a user who may read both channels.

    Parameters
    ----------
    settings, archive
        The configuration, and the address of the archive.
    registry
        The registry.
    user, role
        Who asks, and as what.
    request
        What is asked.

    Raises
    ------
    Refused
        For what the user may not read.
    ZadsError
        When there is nothing to compare with.
    """
    from commands.channel.diff import compared, former

    new = readable(settings, registry, user, role, request.channel)
    if request.revision is not None and new.owned_by != user:
        raise Refused(f"{new.name} is not yours: you may compare it with another channel as it is now")
    old = None
    if not request.source and new.owned_by == user:
        old = former(registry, new, request.revision)
    named = request.source or new.of.partition("@")[0]
    if old is None and not named:
        raise Refused("name a channel to compare with")
    old = old or readable(settings, registry, user, role, named)
    if not may_read(user, role, old):
        raise Refused(f"revision {old.revision} of {old.name} was of the collaboration: you may not read it")
    return "\n".join(compared(settings, old, new, archive))


def explanation(
    settings: RunConfig, archive: str | None, registry: Registry, user: str, role: Role, request: Request
) -> tuple[dict[str, Any], ...]:
    """What `zads explain` tells of a channel, of alerts that the user may see.

    Parameters
    ----------
    settings, archive, registry, user, role, request
        As for `difference_told`.

    Raises
    ------
    Refused
        For a channel that the user may not read, and for an alert that they may not see.
    """
    from archive.read.objects import NoSuchAlert
    from archive.tables.store import NoSuchArchive
    from commands.explain import brief, told_of
    from commands.shared.alerts import archived
    from commands.shared.why import asked_channels
    from filters.sandbox.errors import Raised

    found = readable(settings, registry, user, role, request.channel)
    if not _ALERT.fullmatch(request.alert):
        raise Refused("name an alert of the archive: a candid, or an objectId such as ZTF18abcdefg")
    try:
        packets = archived(request.alert, archive, public=role not in COLLABORATION)[-_MOST_ALERTS:]
    except (NoSuchAlert, NoSuchArchive):  # their words tell where the archive is
        raise Refused(f"no alert {request.alert} in the archive that you may see") from None
    (asked,) = asked_channels(settings, [found.name])
    try:
        told = told_of(settings, asked, packets, request.alert, archive)
    except Raised as error:
        if found.owned_by == user:
            raise
        raise Refused(f"the filter of {found.name} fails on this alert: {error.kind}") from None
    for one in told:
        for cut in one["cuts"]:
            cut["saw"] = {name: brief(value) for name, value in cut["saw"].items()}
    return tuple(told)
