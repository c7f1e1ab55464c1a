"""What channels of whole exposures have judged, and what still waits for the rest of its exposure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confluent_kafka.admin import OffsetSpec

from pipeline.broker.client import admin_client, client_settings, topic_names
from pipeline.broker.listen import Alert, committed_ends, everything_in
from pipeline.broker.members import committed
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import RangeReader
from pipeline.broker.topics import offsets, partitions_of, topic_ids
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import EXPOSURES_TOPIC
from pipeline.channels.groups import judged_whole
from pipeline.live.exposures.closings import CLOCK, Closing, closing_of
from pipeline.live.exposures.gathering import Place


@dataclass(frozen=True)
class Judgement:
    """When (Unix ms) an exposure was judged, the places of its records then, and whether some came late."""

    when: int | None
    places: tuple[Place, ...]
    late: bool


def judgement(config: RunConfig, topic: str, place: Place) -> Judgement | None:
    """Of which judgement a record of a topic was a part; None when it has not been judged.

    Parameters
    ----------
    config
        Of the run.
    topic
        That the record is in.
    place
        Its partition and offset.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    before: dict[object, tuple[Place, ...]] = {}
    found = None
    for record, closing in closings(config):
        if closing.key.topic != topic:
            continue
        known = before.get(closing.key, ()) if closing.reason == "late" else ()
        if place in closing.places:
            places = (*known, *closing.places)
            found = Judgement(record.timestamp, places, closing.reason == "late")
        before[closing.key] = (*known, *closing.places)
    return found


def records(config: RunConfig, topic: str, places: Sequence[Place]) -> dict[Place, bytes]:
    """The records at some places of a topic, of those that are still there.

    Parameters
    ----------
    config
        The broker.
    topic
        That they are in.
    places
        Partitions and offsets.

    Raises
    ------
    BrokerError, KafkaException, Stalled
        When the broker does not answer.
    """
    found: dict[Place, bytes] = {}
    numbers = sorted({place.partition for place in places})
    admin = admin_client(config.bootstrap_servers, **config.client)
    partitions = set(partitions_of(admin, [topic])) & {Partition(topic, number) for number in numbers}
    beginnings = offsets(admin, list(partitions), OffsetSpec.earliest()) if partitions else {}
    for partition, beginning in sorted(beginnings.items()):
        kafka = client_settings(config.bootstrap_servers, **config.client)
        reader = RangeReader(kafka, f"{config.group}-exposures", partition)
        try:
            for place in sorted(p for p in places if p.partition == partition.number):
                if place.offset >= beginning:
                    for record in reader.read(place.offset, place.offset + 1):
                        found[place] = record.value() or b""
        finally:
            reader.close()
    return found


def in_open_exposures(config: RunConfig, topics: Sequence[str]) -> Counter[str]:
    """Topic -> records that the group's channels of whole exposures have not judged.

    Parameters
    ----------
    config
        Its group.
    topics
        Of them only those are told that such channels read: none where the group has no such channel.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    if EXPOSURES_TOPIC not in topic_names(config.bootstrap_servers, **config.client):
        return Counter()
    topics = judged_whole(config.group, config.bootstrap_servers, topics, **config.client)
    if not topics:
        return Counter()
    admin = admin_client(config.bootstrap_servers, **config.client)
    ids, places = topic_ids(admin, topics), partitions_of(admin, topics)
    group = f"{config.group}-exposures"
    stands = committed(group, places, config.bootstrap_servers, **config.client)
    stood = {Partition(one.topic, one.partition): one.offset for one in stands}
    ends = committed_ends(config.bootstrap_servers, [(p.topic, p.number) for p in places], **config.client)
    left: Counter[str] = Counter()
    for topic, number in ends:
        left[topic] += max(0, ends[topic, number] - max(0, stood[Partition(topic, number)]))
    for _, closing in closings(config):
        topic = closing.key.topic
        if ids.get(topic) == closing.topic_id:
            above = [p for p in closing.places if p.offset >= stood.get(Partition(topic, p.partition), 0)]
            left[topic] -= len(above)
    return left


def closings(config: RunConfig) -> Iterator[tuple[Alert, Closing]]:
    """Everything that was judged, in order: the record of zads.exposures, and what it says."""
    for record in everything_in(EXPOSURES_TOPIC, config.bootstrap_servers, **config.client):
        if record.key != CLOCK:
            yield record, closing_of(record.raw)
