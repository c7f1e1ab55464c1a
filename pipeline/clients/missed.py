"""Finds which of the offsets that an archive lacks are records: those it has missed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException

from pipeline.broker.client import BrokerError, client_settings, sentence, topic_names
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import RangeReader


def missed(
    ranges: Iterable[tuple[str, int, int, int]], bootstrap: str = "localhost:9092", **kafka: Any
) -> list[tuple[str, int, int]]:
    """The committed records in some ranges of offsets: (topic, partition, offset) of each.

    The rest of a range are transaction markers and aborted records. Topics that no longer exist are left out.

    Parameters
    ----------
    ranges
        (topic, partition, first offset, offset after the last).
    bootstrap
        Address of the broker, host:port.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When a partition cannot be read.
    """
    there, found = set(topic_names(bootstrap, **kafka)), []
    for topic, number, low, high in ranges:
        if topic not in there:
            continue
        reader = RangeReader(
            client_settings(bootstrap, **kafka), "zads-archive-check", Partition(topic, number)
        )
        try:
            found += [(topic, number, message.offset()) for message in reader.read(low, high)]
        except KafkaException as error:
            raise BrokerError(f"cannot read {topic}/{number} from {low}: {sentence(error.args[0])}") from None
        finally:
            reader.close()
    return found
