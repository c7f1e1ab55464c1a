"""One partition of one Kafka topic: what offsets are counted in."""

from __future__ import annotations

from typing import NamedTuple


class Partition(NamedTuple):
    """One partition of one Kafka topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"
