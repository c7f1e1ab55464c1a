"""What is written when an exposure is judged: a record of zads.exposures, with its verdicts.

After a restart records above the committed offsets are read again. These records say which of them were
judged; and they say beside whom a late record is to be judged, and which alerts were seen together.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.channels.channel import ChannelSet
from pipeline.channels.gaps import EXPOSURES_TOPIC as TOPIC
from pipeline.live.exposures.gathering import Key, Place, Reason

CLOCK = b"clock"
"""Key of a record that only asks for the broker's time."""


@dataclass(frozen=True)
class Closing:
    """Some records of an exposure were judged: all its members then, or late ones.

    topic_id: of the topic that they are in; another topic of its name has other records.
    """

    key: Key
    places: tuple[Place, ...]
    reason: Reason
    topic_id: str

    def record(self, channels: ChannelSet) -> dict[str, Any]:
        """Arguments for Producer.produce. channels: that judged it."""
        offsets: dict[int, list[int]] = defaultdict(list)
        for place in self.places:
            offsets[place.partition].append(place.offset)
        value = {
            **self.key._asdict(),
            "topic_id": self.topic_id,
            "offsets": offsets,
            "reason": self.reason,
            "version": channels.version,
            "external": dict(channels.externals.versions),
        }
        return {"topic": TOPIC, "key": str(self.key).encode(), "value": json.dumps(value).encode()}


def closing_of(value: bytes) -> Closing:
    """A record of the topic, read."""
    told = json.loads(value)
    places = (Place(int(p), offset) for p, offsets in told["offsets"].items() for offset in offsets)
    key = Key(told["topic"], told["survey"], told["exposure"])
    return Closing(key, tuple(places), told["reason"], told["topic_id"])


def closed_by(values: Iterable[bytes], topic_ids: Mapping[str, str]) -> dict[Key, list[Place]]:
    """What these records say has been judged, of the topics as they are now.

    Parameters
    ----------
    values : iterable of bytes
        Of the topic's records, in order.
    topic_ids : mapping
        Topic -> its id now; closings of other topics count no more.
    """
    found: dict[Key, list[Place]] = {}
    for value in values:
        one = closing_of(value)
        if topic_ids.get(one.key.topic) == one.topic_id:
            found.setdefault(one.key, []).extend(one.places)
    return found
