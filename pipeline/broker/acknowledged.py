"""An idempotent producer: at the end each record is known to be in its partition, or is refused.

An acknowledgement without an offset is unknown, not success (see pipeline.broker.paced). An unknown record is
searched in its partition, between the records acknowledged before and after it, and sent again only when it
is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.broker.client import BrokerError, admin_client, client_settings, producer_settings, words_of
from pipeline.broker.listen import committed_ends
from pipeline.broker.paced import Paced, has_offset, paced_settings
from pipeline.broker.partition import Partition, partition_of
from pipeline.broker.reading.ranges import RangeReader, Stalled
from pipeline.broker.topics import partitions_of, topic_ids

# Kafka's default limit of a batch is 1 MB, and foreign topics have it.
_REQUEST_BYTES = 1_000_000


@dataclass(frozen=True)
class Record:
    """One record on its way.

    ended: called once, with None when the record is known to be there, else with why it is not.
    """

    topic: str
    key: bytes | None
    value: bytes = field(repr=False)
    ended: Callable[[KafkaError | None], None] = field(repr=False)
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class _Place:
    """What is known of a partition: its end when we began, and the last offset that is ours."""

    last: int

    def took(self, offset: int) -> bool:
        """Note an acknowledged offset; False when it is not larger than those before."""
        in_order, self.last = offset > self.last, max(offset, self.last)
        return in_order


@dataclass
class _Unknown:
    """A record that may be in its partition, at an offset larger than `after`."""

    record: Record
    partition: Partition
    after: int


class AcknowledgedProducer:
    """Sends records to topics that are ready (pipeline.broker.topics), each key to its partition.

    Parameters
    ----------
    bootstrap, kafka : str, dict
        The broker, and librdkafka's own keys.
    meanwhile : callable
        Called twice a second while the broker has not answered; may raise.
    """

    def __init__(self, bootstrap: str, kafka: dict[str, Any], meanwhile: Callable[[], None]) -> None:
        self._bootstrap, self._kafka = bootstrap, kafka
        self._producer = Producer(paced_settings(producer_settings(bootstrap, **kafka), _REQUEST_BYTES))
        self._paced = Paced(self._producer, _REQUEST_BYTES, seconds=0, meanwhile=meanwhile)
        self._admin = admin_client(bootstrap, **kafka)
        self._places: dict[Partition, _Place] = {}
        self._ids: dict[str, str] = {}
        self._partitions: dict[str, int] = {}
        self._unkeyed = 0
        self._unknown: list[_Unknown] = []

    def open(self, topic: str) -> None:
        """Prepare a topic before its first record is sent. Raises BrokerError."""
        places = partitions_of(self._admin, [topic])
        ends = committed_ends(self._bootstrap, places, **self._kafka)
        self._places |= {place: _Place(ends[place] - 1) for place in places}
        self._ids |= topic_ids(self._admin, [topic])
        self._partitions[topic] = len(places)

    def send(self, record: Record) -> None:
        """Hand a record over; it goes out with the next flush(), or when a request is full.

        Raises KafkaException for what the client itself refuses (a record that is too large).
        """
        if record.key is None:
            self._unkeyed += 1
            number = self._unkeyed % self._partitions[record.topic]
        else:
            number = partition_of(record.key, self._partitions[record.topic])
        self._paced.produce(
            topic=record.topic,
            partition=number,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            on_delivery=partial(self._answered, record),
        )

    def poll(self, seconds: float) -> None:
        """Wait, and handle callbacks meanwhile."""
        self._producer.poll(seconds)

    def flush(self) -> None:
        """Return when each record has ended, or was sent again because a search did not find it.

        Raises BrokerError when a partition cannot be read to look.
        """
        self._paced.flush()
        while self._unknown:
            unknown, self._unknown = self._unknown, []
            for missing in self._missing(unknown):
                self.send(missing)
            self._paced.flush()

    def flush_soon(self, seconds: float) -> None:
        """Send what waits, if that takes no longer than `seconds`; what is unknown then stays unknown."""
        self._producer.flush(seconds)

    def give_up(self) -> None:
        """Drop all records that are in flight."""
        self._producer.purge()
        self._producer.flush(1)

    def check(self) -> None:
        """Compare what was acknowledged with what is there.

        The topics must still be the same ones, and reach beyond the last record acknowledged.

        Raises
        ------
        BrokerError
            Naming the topic or partition, when acknowledged records cannot be there any more.
        """
        now = topic_ids(self._admin, self._ids)
        for topic, began_with in self._ids.items():
            if now.get(topic) != began_with:
                what = "was deleted" if topic not in now else "was made again"
                raise BrokerError(f"topic {topic}: it {what} while it was written to, records are lost")
        ends = committed_ends(self._bootstrap, self._places, **self._kafka)
        for partition, place in self._places.items():
            if ends[partition] <= place.last:
                raise BrokerError(
                    f"{partition} ends at offset {ends[partition]}, but {place.last} was acknowledged:"
                    " records are lost"
                )

    def _answered(self, record: Record, error: KafkaError | None, message: Message) -> None:
        partition = Partition(record.topic, message.partition())
        if error is not None:
            record.ended(error)
        elif not has_offset(message) or self._in_doubt(partition):
            self._unknown.append(_Unknown(record, partition, self._places[partition].last))
        elif not self._places[partition].took(message.offset()):
            words = f"acknowledged at offset {message.offset()}, not behind those before: it was made again"
            record.ended(KafkaError(KafkaError._INCONSISTENT, words))
        else:
            record.ended(None)

    def _in_doubt(self, partition: Partition) -> bool:
        """Whether a record before, in the same partition, was acknowledged without an offset.

        The others of its request are then counted from there (-1, 0, 1, ...): such offsets mean nothing.
        """
        return any(unknown.partition == partition for unknown in self._unknown)

    def _missing(self, unknown: list[_Unknown]) -> list[Record]:
        """Of the records that may be in their partitions, those that are not; the others have ended."""
        missing = []
        for partition in dict.fromkeys(one.partition for one in unknown):
            of_it = [one for one in unknown if one.partition == partition]
            there = self._read(partition, of_it)
            for one in of_it:
                offset = there.find(one)
                if offset is None:
                    missing.append(one.record)
                else:
                    self._places[partition].took(offset)
                    one.record.ended(None)
        return missing

    def _read(self, partition: Partition, unknown: list[_Unknown]) -> _There:
        low = min(one.after for one in unknown) + 1
        high = committed_ends(self._bootstrap, [partition], **self._kafka)[partition]
        settings = client_settings(self._bootstrap, **self._kafka)
        reader = RangeReader(settings, "zads-publish", partition)
        try:
            return _There(reader.read(low, high) if high > low else [])
        except (Stalled, KafkaException) as error:
            raise BrokerError(
                f"{len(unknown)} records may or may not be in {partition}: they were acknowledged without an"
                f" offset, and the partition cannot be read ({words_of(error)})"
            ) from None
        finally:
            reader.close()


class _There:
    """Records that were read to look for others among them; each stands for one."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    def find(self, unknown: _Unknown) -> int | None:
        """The offset of a record like it where it would be; such a record is not found again."""
        for index, message in enumerate(self._messages):
            offset = message.offset()
            if unknown.after < offset and (message.key(), message.value()) == (
                unknown.record.key,
                unknown.record.value,
            ):
                del self._messages[index]
                return offset
        return None
