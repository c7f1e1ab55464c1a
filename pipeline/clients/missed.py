"""Which of the offsets that an archive lacks held records: those it has missed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException

from pipeline.broker.client import BrokerError, client_settings, sentence, topic_names
from pipeline.broker.partition import Partition
from pipeline.broker.ranges import RangeReader


def missed(
    ranges: Iterable[tuple[str, int, int, int]], bootstrap: str = "localhost:9092", **kafka: Any
) -> list[tuple[str, int, int]]:
    """(topic, partition, offset) of the committed records in these (topic, partition, low, high).

    The rest of a range are transaction markers and what was aborted. Of a topic that is no longer there
    nothing can be said: it is left out. Raises BrokerError.
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
