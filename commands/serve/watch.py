"""Pauses channels whose owners are gone, have lost the role, or have had more than they may."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from commands.serve.lists import refuse_unreadable
from commands.serve.seen import Refused, refuse_what_role_forbids
from commands.serve.writer import Writer
from pipeline.access.limits import Night, use_of
from pipeline.access.users import User
from pipeline.broker.client import BrokerError
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from filters.external import Externals
    from pipeline.channels.definition import Definition
    from pipeline.clients.delivered import Delivered

log = logging.getLogger(__name__)

Notice = tuple[str, bool, str]
"""What to tell somebody who has not asked: the user, whether it is good news, the words."""


class Watch:
    """Looks at the channels that users own, and says what their owners are to be told.

    Parameters
    ----------
    registry
        Reads and writes the registry.
    delivered
        What the channels have delivered in the newest night.
    externals
        Where the lists are that channels read.
    """

    def __init__(self, registry: Writer, delivered: Delivered, externals: Externals) -> None:
        self._registry, self._delivered, self._externals = registry, delivered, externals
        self._over: dict[str, tuple[object, ...]] = {}
        self._asking: set[str] = set()

    def pause_unfit(self, users: Mapping[str, User]) -> list[Notice]:
        """Pause what runs for somebody who is gone, or has lost the role or the list that it needs; what to
        tell owners.

        Raises BrokerError.
        """
        notices = []
        for one in self._owned_and_enabled():
            try:
                if one.owned_by not in users:
                    raise Refused(f"user {one.owned_by} is removed")
                refuse_what_role_forbids(one, users[one.owned_by].role)
                refuse_unreadable(one, self._externals)
            except Refused as error:
                notices += self._pause(one, str(error))
        return notices

    def pause_overrun(self, users: Mapping[str, User]) -> list[Notice]:
        """Pause the channels of who has had more in the newest night than they may; what to tell owners.

        Those that an operator has enabled go on. Raises BrokerError.
        """
        last = self._delivered.newest()
        over = {name: beyond for name, user in users.items() if (beyond := _beyond(user, last))}
        news = {name: beyond for name, beyond in over.items() if self._over.get(name) != beyond}
        self._over = over
        if not news:
            return []
        every = self._registry.read().definitions.values()
        words = {name: use_of(name, every, last).overrun(users[name].limits) for name in news}
        running = [one for one in every if words.get(one.owned_by) and one.state == "enabled"]
        return [
            notice
            for one in running
            if not one.granted
            for notice in self._pause(one, "; ".join(words[one.owned_by]))
        ]

    def granted(self) -> list[Notice]:
        """What to tell owners whose channel an operator has changed, as they wished. Raises BrokerError."""
        every = self._registry.read().definitions
        done = [every[name] for name in self._asking if name in every and not every[name].asks]
        self._asking = {one.name for one in every.values() if one.asks}
        return [
            (
                one.owned_by,
                True,
                f"{one.name} is {one.state}, {one.limits}: an operator, {one.who}, has done it",
            )
            for one in done
            if one.who not in (one.owned_by, "zads serve")
        ]

    def _owned_and_enabled(self) -> list[Definition]:
        every = self._registry.read().definitions.values()
        return [one for one in every if one.owned_by and one.state == "enabled"]

    def _pause(self, one: Definition, why: str) -> list[Notice]:
        """Pause a channel; what to tell its owner."""
        log.warning("channel %s is paused: %s", one.name, why)
        try:
            self._registry.save(one.becoming("paused"), why, "zads serve")
        except BrokerError:
            raise
        except ZadsError as error:  # its owner was faster: it is looked at again
            log.warning("channel %s is not paused: %s", one.name, error)
            self._over.pop(one.owned_by, None)
            return []
        return [(one.owned_by, False, f"{one.name} is paused: {why}")]


def _beyond(user: User, last: Night) -> tuple[object, ...]:
    """What a user has had in the newest night, granted channels too, if that may be too much."""
    own = [sent for name, sent in last.delivered.items() if name.startswith(f"{user.name}.")]
    alerts, size = sum(n for n, _ in own), sum(n for _, n in own)
    within = alerts <= user.limits.alerts_a_night and size <= user.limits.bytes_a_day
    return () if within else (last.night, alerts, size, user.limits)
