"""Apache Kafka's jars: pinned in kafka.lock, kept in the cache, fetched when they are not there."""

from __future__ import annotations

from pathlib import Path

from cluster.kafka.pins import Say, jar_folder, pins, to_stderr


def kafka_jars(say: Say = to_stderr) -> list[Path]:
    """The jars of Apache Kafka in class path order; what is missing or cut short in the cache is fetched.

    Raises ClusterError without network, with a full disk, or when a fetched jar is not the pinned one.
    """
    folder, wanted = jar_folder(), pins()
    if not all(pin.is_at(folder / pin.name) for pin in wanted):
        from cluster.kafka.fetch import fetch  # jgo and requests: only where a jar is missing

        fetch(wanted, folder, say)
    return [folder / pin.name for pin in wanted]
