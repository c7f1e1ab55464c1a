"""Which jars Apache Kafka is made of: pinned in kafka.lock, kept in the cache."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.home import zads_cache

KAFKA_VERSION = "4.1.2"
LOCK = Path(__file__).with_name("kafka.lock")

Say = Callable[[str], None]


def to_stderr(message: str) -> None:
    """Say `message` to a person; stdout stays free for pipes."""
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Pin:
    """One jar: its Maven coordinate, its size in bytes and its SHA-256."""

    coordinate: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The jar's file name."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether `path` is this jar, by its size alone: the SHA-256 was checked when it was put there."""
        return path.is_file() and path.stat().st_size == self.size


def pins() -> list[Pin]:
    """The jars that kafka.lock names, in class path order."""
    lines = [line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return [Pin(coordinate, int(size), sha256) for coordinate, size, sha256 in lines]


def jar_folder() -> Path:
    """Where this version's jars (and class archives made from them) are kept."""
    return zads_cache() / "kafka" / KAFKA_VERSION
