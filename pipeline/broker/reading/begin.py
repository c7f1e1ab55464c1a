"""Where in a topic to begin: at some time, or so many records before its end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.broker.client import BrokerError, sentence
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import RangeReader
from schemas.errors import ZadsError

_ASK_SECONDS = 10.0
_WIDER = 4
_AGO = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d)")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}

Places = Mapping[tuple[str, int], int]
"""Topic and partition -> offset."""


class BadTime(ZadsError):
    """A time that cannot be understood."""


def moment_of(words: str) -> datetime:
    """ "2023-10-12T08:30" (UTC, unless it says otherwise), "90 s", "20 min", "3 h" or "2 d" ago.

    Raises BadTime.
    """
    if ago := _AGO.fullmatch(words.strip()):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    try:
        told = datetime.fromisoformat(words)
    except ValueError:
        hint = "write 2023-10-12T08:30 (UTC), or how long ago: 90s, 20min, 3h, 2d"
        raise BadTime(f"{words!r} is no time", hint=hint) from None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def starts_since(consumer: Consumer, ends: Places, moment: datetime) -> dict[tuple[str, int], int]:
    """The offset of the first record of each partition that was written at a moment or later, else its end.

    Parameters
    ----------
    consumer
        Asks the broker.
    ends
        Where each partition ends now.
    moment
        With its time zone.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    milliseconds = int(moment.timestamp() * 1000)
    asked = [TopicPartition(*place, milliseconds) for place in ends]
    try:
        found = consumer.offsets_for_times(asked, _ASK_SECONDS) if asked else []
    except KafkaException as error:
        raise BrokerError(f"the broker does not say where to begin: {sentence(error.args[0])}") from None
    return {
        (tp.topic, tp.partition): tp.offset if tp.offset >= 0 else ends[tp.topic, tp.partition]
        for tp in found
    }


def starts_of_last(
    settings: dict[str, Any], group: str, beginnings: Places, ends: Places, last: int
) -> dict[tuple[str, int], int]:
    """Where to begin in each partition to read the last so many records of all of them, by the time at which
    they were written.

    Offsets are no count: transaction markers take some too, so it reads backwards until there are enough.

    Parameters
    ----------
    settings, group
        Of a Kafka consumer.
    beginnings, ends
        Of each partition, now.
    last
        How many records.

    Raises
    ------
    Stalled, KafkaException
        When a partition cannot be read.
    """
    newest = []
    for place, end in ends.items():
        reader = RangeReader(settings, group, Partition(*place))
        try:
            newest += [(*when, place) for when in _newest(reader, beginnings[place], end, last)]
        finally:
            reader.close()
    starts = dict(ends)
    for _, offset, place in sorted(newest)[-last:]:
        starts[place] = min(starts[place], offset)
    return starts


def _newest(reader: RangeReader, beginning: int, end: int, last: int) -> list[tuple[int, int]]:
    """Time and offset of the last records before `end`: `last` of them, or all there are."""
    low, span = end, last
    while True:
        low = max(beginning, end - span)
        records = reader.read(low, end)
        if len(records) >= last or low == beginning:
            return [(record.timestamp()[1], record.offset()) for record in records[-last:]]
        span *= _WIDER
