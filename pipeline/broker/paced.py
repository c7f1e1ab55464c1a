"""Producing within a transaction without keeping a processor busy with waiting.

librdkafka 2.16 has one request a partition under way for an idempotent producer and, as long as a full batch
waits behind it, calls poll() without a pause, some 700,000 times a second: four fifths of what sending a
packet cost. So records wait here until they make a request, and what makes the next waits for its answer.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

REQUEST_BYTES = 4_000_000
PACED = {
    "batch.size": REQUEST_BYTES,
    # Until they are flushed, which a commit does too: no alert waits for this second.
    "linger.ms": 1000,
}
"""Settings of a producer that Paced sends through."""

_RECORD_OVERHEAD = 1_000
_KAFKA_SECONDS = 30.0


class Paced:
    """Hands records to a producer, never more to a topic than one request takes.

    Made for topics of one partition; with more of them requests are only smaller.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._waiting: Counter[str] = Counter()  # bytes by topic

    def produce(self, **record: Any) -> None:
        """As Producer.produce; raises KafkaException when the broker does not take what came before."""
        topic, size = record["topic"], len(record.get("value") or b"") + _RECORD_OVERHEAD
        if self._waiting[topic] and self._waiting[topic] + size > REQUEST_BYTES:
            self._flush()
        self._producer.produce(**record)
        self._waiting[topic] += size

    def _flush(self) -> None:
        if left := self._producer.flush(_KAFKA_SECONDS):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{left} records were not taken"))
        self._waiting.clear()
