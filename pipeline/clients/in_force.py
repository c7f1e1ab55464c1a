"""Which parameters of a channel were in force where, as zads.applied tells it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.broker.client import topic_names
from pipeline.broker.listen import listen
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import APPLIED_TOPIC


@dataclass(frozen=True)
class InForce:
    """Offsets low <= offset < high of a partition (high None: until now), and how the channel was there.

    version: of its filter, "" where the channel was off. parameters: their values.
    """

    topic: str
    partition: int
    low: int
    high: int | None
    version: str
    parameters: Mapping[str, Any]


def in_force(config: RunConfig, channel: str) -> list[InForce]:
    """Where which parameters of a channel were in force, by topic, partition and offset; none for a channel
    that never ran. Raises BrokerError."""
    if APPLIED_TOPIC not in topic_names(config.bootstrap_servers, **config.client):
        return []
    told = listen(APPLIED_TOPIC, config.bootstrap_servers, until_drained=True, **config.client)
    return spans_of((json.loads(record.raw) for record in told), channel)


def spans_of(applied: Iterable[Mapping[str, Any]], channel: str) -> list[InForce]:
    """The same from the records of zads.applied, in their order in each partition.

    Parameters
    ----------
    applied
        The records.
    channel
        Name of the channel.
    """
    changes: dict[tuple[str, int], dict[int, Mapping[str, Any]]] = {}
    for one in applied:
        mine: Mapping[str, Any] = next((each for each in one["channels"] if each["name"] == channel), {})
        changes.setdefault((one["topic"], one["partition"]), {})[one["offset"]] = mine
    found = []
    for (topic, partition), at in sorted(changes.items()):
        offsets = sorted(at)
        for low, high in zip(offsets, [*offsets[1:], None], strict=True):
            mine = at[low]
            found.append(
                InForce(topic, partition, low, high, mine.get("version", ""), mine.get("parameters", {}))
            )
    return found if any(one.version for one in found) else []
