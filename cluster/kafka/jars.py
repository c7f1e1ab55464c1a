"""Apache Kafka's jars: pinned in kafka.lock, kept in the cache, fetched when they are not there."""

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


def kafka_jars(say: Say = to_stderr) -> list[Path]:
    """The jars of Apache Kafka in class path order; what is missing or cut short in the cache is fetched.

    Raises ClusterError without network, with a full disk, or when a fetched jar is not the pinned one.
    """
    folder, wanted = jar_folder(), pins()
    if not all(pin.is_at(folder / pin.name) for pin in wanted):
        from cluster.kafka.fetch import fetch

        fetch(wanted, folder, say)
    return [folder / pin.name for pin in wanted]
