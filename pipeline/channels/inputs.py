"""Channels that read what another channel delivers: which may read which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from filters.limits import Limits
from pipeline.channels.channel import Access
from schemas.errors import ZadsError, near_names


class InputError(ZadsError):
    """A channel that cannot read from what it names as its input."""


class Reading(Protocol):
    """As much of a channel's definition or configuration as says what it reads."""

    @property
    def input(self) -> str: ...
    @property
    def access(self) -> Access: ...
    @property
    def topics(self) -> str: ...
    @property
    def limits(self) -> Limits: ...


def refuse_wrong_inputs(names: Iterable[str], channels: Mapping[str, Reading]) -> None:
    """Raise InputError for the first of `names` that cannot read from its input; channels: all there are."""
    for name in names:
        channel = channels[name]
        if channel.limits.once and not channel.input:
            raise InputError(
                f"channel {name} delivers an object once: its alerts must come in one order,"
                " from another channel",
                hint=f"make a channel of its filter without this limit, and let {name} read it (input)",
            )
        if not channel.input:
            continue
        if channel.topics:
            raise InputError(
                f"channel {name} reads from channel {channel.input}: `topics` has no meaning for it",
                hint="leave out one of the two",
            )
        if channel.input not in channels:
            raise InputError(
                f"channel {name} reads from channel {channel.input}, which is not there;"
                f" {near_names(channel.input, sorted(channels))}"
            )
        if channel.access == "public" and channels[channel.input].access != "public":
            raise InputError(
                f"channel {name} is public: it may not read from {channel.input}, a collaboration channel",
                hint=f"make {name} a collaboration channel too (access = collaboration)",
            )
        _refuse_a_circle(name, channels)


def _refuse_a_circle(name: str, channels: Mapping[str, Reading]) -> None:
    chain = [name]
    while (following := channels[chain[-1]].input) in channels:
        chain.append(following)
        if following in chain[:-1]:
            raise InputError(f"channels read from each other in a circle: {' from '.join(chain)}")
