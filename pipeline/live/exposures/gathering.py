"""Which records belong to which exposure, and when an exposure is complete. Knows no Kafka.

A packet does not say how many alerts its exposure has, and its partition may bring others in between. So an
exposure is closed when the time of every partition has passed its newest member by `grace`. The time of a
partition is that of its newest record or, when everything in it has been read, the broker's clock.

What comes for a closed exposure is late: it is judged beside the members of then, and changes nothing of
theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pipeline.broker.partition import Partition


class Key(NamedTuple):
    """An exposure of one quadrant, as far as one topic has it."""

    topic: str
    survey: str
    exposure: int

    def __str__(self) -> str:
        return f"{self.topic}|{self.survey}|{self.exposure}"


class Place(NamedTuple):
    """Where a record is."""

    partition: int
    offset: int


What = Literal["open", "late", "judged"]
Reason = Literal["passed", "clock", "late"]
"""Why it was judged: newer records have come in every partition; some had no more, and the broker's clock
went on; or it came after its exposure was closed."""


@dataclass
class _Open:
    members: list[Place] = field(default_factory=list)
    newest: int = 0  # milliseconds, the greatest timestamp of a member


class Gathering:
    """The exposures that are open, and those that were closed; times in milliseconds since 1970.

    closed: what has been closed so far, late ones included -> members. grace: milliseconds.
    """

    def __init__(self, closed: Mapping[Key, Iterable[Place]], grace: int) -> None:
        self.closed = {key: list(members) for key, members in closed.items()}
        self._judged = {key: set(members) for key, members in self.closed.items()}
        self._grace, self._open = grace, dict[Key, _Open]()
        self._next: dict[Partition, int] = {}
        self._late: set[tuple[Key, Place]] = set()  # seen, and not yet judged

    def __len__(self) -> int:
        """How many exposures are open."""
        return len(self._open)

    def begin(self, partition: Partition, offset: int) -> None:
        """Records of a partition are seen from here on."""
        self._next[partition] = offset

    def reaches(self, partition: Partition, offset: int) -> None:
        """Nothing that is to be judged lies below this offset but what has been seen."""
        self._next[partition] = max(self._next.get(partition, 0), offset)

    def seen(self, key: Key, place: Place, time: int) -> What:
        """Take in a record. "judged": it was part of a closing already, before a restart.

        Parameters
        ----------
        key
            Its exposure.
        place
            Where it is.
        time
            Its timestamp, milliseconds since 1970.
        """
        if place in self._judged.get(key, ()):
            return "judged"
        if key in self.closed:
            self._late.add((key, place))
            return "late"
        one = self._open.setdefault(key, _Open())
        one.members.append(place)
        one.newest = max(one.newest, time)
        return "open"

    def due(self, times: Mapping[Partition, int]) -> list[Key]:
        """The exposures that every partition's time has passed by `grace`, the oldest first."""
        reached = min(times.values(), default=-1)
        found = [key for key, one in self._open.items() if one.newest + self._grace < reached]
        return sorted(found, key=lambda key: (self._open[key].newest, key))

    def members(self, key: Key) -> list[Place]:
        """Of an open exposure, in order of partition and offset."""
        return sorted(self._open[key].members)

    def close(self, key: Key) -> None:
        """It has been judged, and committed."""
        members = self.members(key)
        del self._open[key]
        self.judged(key, members)

    def judged(self, key: Key, places: Iterable[Place]) -> None:
        """These have been judged as part of a closed exposure."""
        places = list(places)
        self.closed.setdefault(key, []).extend(places)
        self._judged.setdefault(key, set()).update(self.closed[key])
        self._late -= {(key, place) for place in places}

    def positions(
        self, without: Iterable[Key] = (), late: Iterable[tuple[Key, Place]] = ()
    ) -> dict[Partition, int]:
        """The offset below which everything is judged, of each partition.

        Parameters
        ----------
        without
            Exposures that are judged as well.
        late
            Records that came late and are judged as well; others that came late hold their partition back.
        """
        gone, lowest = set(without), dict(self._next)
        for key, place in self._late - set(late):
            partition = Partition(key.topic, place.partition)
            lowest[partition] = min(lowest[partition], place.offset)
        for key, one in self._open.items():
            if key not in gone:
                for place in one.members:
                    partition = Partition(key.topic, place.partition)
                    lowest[partition] = min(lowest[partition], place.offset)
        return lowest

    def forget(self, topic: str) -> None:
        """The topic was made again: its records are others."""
        self._late = {(key, place) for key, place in self._late if key.topic != topic}
        for known in (self.closed, self._judged, self._open):
            for key in [key for key in known if key.topic == topic]:
                del known[key]
        self._next = {partition: at for partition, at in self._next.items() if partition.topic != topic}
