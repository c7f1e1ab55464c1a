"""One partition of one Kafka topic: what offsets are counted in; and which one a key belongs to."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Partition(NamedTuple):
    """One partition of one Kafka topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


@lru_cache(maxsize=4096)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`, as Kafka's own Java clients choose it.

    Other tools then put the same key into the same partition.

    Source
    ------
    org.apache.kafka.common.utils.Utils.murmur2 and BuiltInPartitioner.partitionForKey; librdkafka's
    `partitioner=murmur2`.
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(key: bytes) -> int:
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    mixed = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        four = int.from_bytes(key[start : start + 4], "little") * factor & mask
        four = (four ^ four >> 24) * factor & mask
        mixed = (mixed * factor & mask) ^ four
    if rest := key[whole:]:
        mixed = (mixed ^ int.from_bytes(rest, "little")) * factor & mask
    mixed = (mixed ^ mixed >> 13) * factor & mask
    return mixed ^ mixed >> 15
