"""What became of records, counted: of a source, and of each channel that reads it.

Of hundreds of channels nearly all say the same of a batch: they saw it and passed nothing. Such counts are
kept and added once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache, reduce
from operator import add, sub
from typing import NamedTuple


class SourceCounts(NamedTuple):
    """Records of a source. lost: offsets that were deleted before they were read, no part of `received`."""

    received: int = 0
    judged: int = 0
    unreadable: int = 0
    unknown: int = 0
    lost: int = 0

    @property
    def imbalances(self) -> list[str]:
        """What does not add up, a sentence each."""
        parts = self.judged + self.unreadable + self.unknown
        return _unequal(self.received, "received", parts, "judged, unreadable or of an unknown survey")


class ChannelCounts(NamedTuple):
    """Records of a source as one channel received them. bytes: of those that were delivered."""

    received: int = 0
    passed: int = 0
    rejected: int = 0
    not_for_it: int = 0
    failed: int = 0
    gaps: int = 0
    delivered: int = 0
    undeliverable: int = 0
    limited: int = 0
    bytes: int = 0

    @property
    def imbalances(self) -> list[str]:
        """What does not add up, a sentence each."""
        parts = self.passed + self.rejected + self.not_for_it + self.failed + self.gaps
        sent = self.delivered + self.undeliverable + self.limited
        return [
            *_unequal(self.received, "received", parts, "passed, rejected, not for it, failed or in gaps"),
            *_unequal(self.passed, "passed", sent, "delivered, undeliverable or limited"),
        ]


def _unequal(whole: int, name: str, parts: int, names: str) -> list[str]:
    return [] if whole == parts else [f"{whole:,} {name}, {parts:,} {names}"]


_NOTHING = ChannelCounts()

Names = tuple[str, ...]


class ByChannel(Mapping[str, ChannelCounts]):
    """Channel -> its counts: the sum over the groups that it is in, and what is its own.

    Parameters
    ----------
    counts
        Of single channels.
    """

    def __init__(self, counts: Mapping[str, ChannelCounts] | None = None) -> None:
        self._groups: dict[Names, ChannelCounts] = {}
        self._own = dict(counts or {})

    def add_to_each(self, names: Names, counts: ChannelCounts) -> None:
        """Add the same counts to many channels.

        Parameters
        ----------
        names
            Of the channels. Groups of exactly the same names are kept as one.
        counts
            To add; may be negative, for what another group counted.
        """
        if names:
            self._groups[names] = _sum(self._groups.get(names, _NOTHING), counts)

    def add(self, other: ByChannel) -> None:
        """Add the counts of others, channel by channel."""
        for names, counts in other._groups.items():
            self.add_to_each(names, counts)
        for name, counts in other._own.items():
            self._own[name] = _sum(self._own.get(name, _NOTHING), counts)

    def __getitem__(self, name: str) -> ChannelCounts:
        if name not in self._own and name not in _places(tuple(self._groups)):
            raise KeyError(name)
        return _sum(self._of_groups(name), self._own.get(name, _NOTHING))

    def __setitem__(self, name: str, counts: ChannelCounts) -> None:
        self._own[name] = ChannelCounts._make(map(sub, counts, self._of_groups(name)))

    def _of_groups(self, name: str) -> ChannelCounts:
        places = _places(tuple(self._groups)).get(name, ())
        return _total(places, tuple(self._groups.values()))

    def __iter__(self) -> Iterator[str]:
        return iter({**_places(tuple(self._groups)), **self._own})

    def __len__(self) -> int:
        return len(_places(tuple(self._groups)).keys() | self._own.keys())

    def __repr__(self) -> str:
        return f"ByChannel({dict(self)!r})"

    def as_json(self) -> str:
        """An object: channel -> list of its counts."""
        groups, own = tuple(self._groups.values()), frozenset(self._own)
        parts = [_key(name) + _text(self[name]) for name in self._own]
        for places, names in _cells(tuple(self._groups)):
            if each := _each(names, own, _total(places, groups)):
                parts.append(each)
        return f"{{{','.join(parts)}}}"


def _sum(one: ChannelCounts, other: ChannelCounts) -> ChannelCounts:
    return ChannelCounts._make(map(add, one, other))


def _total(places: tuple[int, ...], groups: tuple[ChannelCounts, ...]) -> ChannelCounts:
    return reduce(_sum, [groups[place] for place in places], _NOTHING)


@lru_cache(maxsize=256)
def _places(groups: tuple[Names, ...]) -> dict[str, tuple[int, ...]]:
    """Channel -> the places of the groups that it is in."""
    places: dict[str, tuple[int, ...]] = {}
    for place, names in enumerate(groups):
        for name in names:
            places[name] = (*places.get(name, ()), place)
    return places


@lru_cache(maxsize=256)
def _cells(groups: tuple[Names, ...]) -> list[tuple[tuple[int, ...], Names]]:
    """The channels that are in the same groups, and the places of these."""
    cells: dict[tuple[int, ...], list[str]] = {}
    for name, places in _places(groups).items():
        cells.setdefault(places, []).append(name)
    return [(places, tuple(names)) for places, names in cells.items()]


@lru_cache(maxsize=256)
def _each(names: Names, but: frozenset[str], counts: ChannelCounts) -> str:
    """A part of a JSON object: the same counts of many channels. Partitions that fill evenly say the same."""
    text = _text(counts)
    return ",".join([_key(name) + text for name in names if name not in but])


@lru_cache(maxsize=10_000)
def _key(name: str) -> str:
    return f"{json.dumps(name)}:"


@lru_cache(maxsize=10_000)
def _text(counts: ChannelCounts) -> str:
    return json.dumps(counts, separators=(",", ":"))
