"""The best alerts of a night by a value: which they are, whoever asks, however often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Ranking(BaseModel):
    """What is best.

    by: a value. top: so many. lowest: the smallest values are best, not the greatest. repeats: an object may
    be there with several of its alerts, not with its best one only.
    """

    model_config = ConfigDict(extra="forbid")

    by: str
    top: int = Field(default=50, ge=1)
    lowest: bool = False
    repeats: bool = False


class Ranked(NamedTuple):
    """An alert to be ranked. source: topic, partition, offset of its record, "" and -1 where not known."""

    value: Any
    candid: int
    objectId: str
    source: tuple[str, int, int] = ("", -1, -1)


def best(ranking: Ranking, alerts: Sequence[Ranked]) -> list[int]:
    """The numbers of the best alerts, the best first.

    Of equal values the smaller candid comes first, of equal candids the earlier record. An alert whose value
    is missing has no rank.

    Parameters
    ----------
    ranking
        What is best.
    alerts
        In any order.
    """

    def place(number: int) -> tuple[Any, ...]:
        one = alerts[number]
        return one.value if ranking.lowest else -one.value, one.candid, one.source

    usable = [number for number, one in enumerate(alerts) if _is_number(one.value)]
    found: list[int] = []
    objects: set[str] = set()
    for number in sorted(usable, key=place):
        name = alerts[number].objectId
        if ranking.repeats or name not in objects:
            objects.add(name)
            found.append(number)
    return found[: ranking.top]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not math.isnan(value)
