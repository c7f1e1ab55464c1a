"""Which parameters of a channel were in force where, as zads.applied and zads.exposures tell it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.broker.client import topic_names
from pipeline.broker.listen import listen
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import APPLIED_TOPIC, EXPOSURES_TOPIC
from pipeline.live.exposures.closings import CLOCK

Place = tuple[int, int]


@dataclass(frozen=True)
class InForce:
    """Offsets low <= offset < high of a partition (high None: until now), and how the channel was there.

    version: of its filter, "" where the channel was off. parameters: their values. external: name -> version
    of each catalogue, region or collection of sky maps that the run read, for this channel or another.
    late: of a channel of whole exposures, 0 for what was judged when its exposure was closed, else which of
    the later judgements of its exposure. beside: partition and offset of the records that were judged before
    in the exposure of a late one. made_again: the topic was deleted and made again since the channel first
    ran; only what ran on the present one is told.
    """

    topic: str
    partition: int
    low: int
    high: int | None
    version: str
    parameters: Mapping[str, Any]
    external: Mapping[str, str] = field(default_factory=dict)
    late: int = 0
    beside: tuple[Place, ...] = ()
    made_again: bool = False


def in_force(config: RunConfig, channel: str) -> list[InForce]:
    """Where which parameters of a channel were in force, by topic, partition and offset; none for a channel
    that never ran. Raises BrokerError."""
    applied = list(_told(config, APPLIED_TOPIC))
    return spans_of(applied, channel) or exposures_of(applied, _told(config, EXPOSURES_TOPIC), channel)


def _told(config: RunConfig, topic: str) -> Iterator[Mapping[str, Any]]:
    if topic in topic_names(config.bootstrap_servers, **config.client):
        for record in listen(topic, config.bootstrap_servers, until_drained=True, **config.client):
            if record.key != CLOCK:
                yield {"written": record.timestamp or 0, **json.loads(record.raw)}


def spans_of(applied: Iterable[Mapping[str, Any]], channel: str) -> list[InForce]:
    """The same from the records of zads.applied, in their order in each partition.

    Parameters
    ----------
    applied
        The records.
    channel
        Name of the channel.
    """
    placed, again = _of_the_last_topics([one for one in applied if "topic" in one])
    changes: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = {}
    for one in placed:
        told = {**_described(one, channel), "external": one.get("external", {})}
        changes.setdefault((one["topic"], one["partition"]), {})[one["offset"]] = told
    found = []
    for (topic, partition), at in sorted(changes.items()):
        offsets = sorted(at)
        for low, high in zip(offsets, [*offsets[1:], None], strict=True):
            mine = at[low]
            how = mine.get("version", ""), mine.get("parameters", {}), mine["external"]
            found.append(InForce(topic, partition, low, high, *how, made_again=topic in again))
    return found if any(one.version for one in found) else []


def _of_the_last_topics(told: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], set[str]]:
    """What is told of the topics that were there last, and the names of those that came after another.

    Offsets of a topic mean nothing in the one that was made after it. Records without a topic's id were
    written by an older zads: they are kept.
    """
    last: dict[str, str] = {}
    for one in sorted(told, key=lambda one: one.get("written", 0)):
        last[one["topic"]] = one.get("topic_id") or last.get(one["topic"], "")

    def is_former(one: Mapping[str, Any]) -> bool:
        return one.get("topic_id", "") not in ("", last[one["topic"]])

    return [one for one in told if not is_former(one)], {one["topic"] for one in told if is_former(one)}


def _described(applied: Mapping[str, Any], channel: str) -> Mapping[str, Any]:
    return next((each for each in applied["channels"] if each["name"] == channel), {})


def exposures_of(
    applied: Iterable[Mapping[str, Any]], closings: Iterable[Mapping[str, Any]], channel: str
) -> list[InForce]:
    """The same of a channel of whole exposures.

    Parameters
    ----------
    applied
        The records of zads.applied: they say what a version of the channels means.
    closings
        Those of zads.exposures, in order.
    channel
        Name of the channel.
    """
    meant = {one["version"]: _described(one, channel) for one in applied if "exposures" in one}
    placed, again = _of_the_last_topics(list(closings))
    before: dict[tuple[str, str, int], list[Place]] = {}
    turns: Counter[tuple[str, str, int]] = Counter()
    found: list[InForce] = []
    for closing in placed:
        key = closing["topic"], closing["survey"], closing["exposure"]
        places = [(int(n), offset) for n, offsets in closing["offsets"].items() for offset in offsets]
        known = before.setdefault(key, [])
        turns[key] += closing["reason"] == "late"
        mine = meant.get(closing["version"], {})
        late, beside = (turns[key], tuple(known)) if closing["reason"] == "late" else (0, ())
        what = mine.get("version", ""), mine.get("parameters", {}), closing["external"]
        made_again = closing["topic"] in again
        found += [
            InForce(key[0], number, at, at + 1, *what, late, beside, made_again) for number, at in places
        ]
        known += places
    joined = list(_joined(sorted(found, key=lambda one: (one.topic, one.partition, one.low))))
    return joined if any(one.version for one in joined) else []


def _joined(found: Iterable[InForce]) -> Iterator[InForce]:
    """Records that were judged alike and follow each other, as one range."""
    last: InForce | None = None
    for one in found:
        if last is not None and not one.late and replace(one, low=last.low, high=last.high) == last:
            last = replace(last, high=one.high)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last
