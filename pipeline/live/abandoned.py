"""Ends the transactions of work that nobody will do again.

A transaction that a worker leaves open is ended by the next holder of its partition, who fences it. Until
then no reader of committed records sees anything behind it, in any topic that it wrote to. Where no next
holder comes (the partition is gone with its topic, or the run stops), it would last for a minute
(TRANSACTION_SECONDS). So the coordinator fences it itself.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import KafkaException, Producer

from pipeline.broker.logs import about
from pipeline.broker.paced import fence
from pipeline.broker.partition import Partition
from pipeline.worker.lane import transactional_id

log = logging.getLogger(__name__)

_SECONDS = 5.0
_SIDE_BY_SIDE = 8


def end_transactions(kafka: Mapping[str, Any], group: str, partitions: Iterable[Partition]) -> None:
    """Fence whoever held these partitions last. One that cannot be fenced is told, and ends by itself.

    Parameters
    ----------
    kafka
        Settings of the client.
    group
        The consumer group.
    partitions
        Partitions whose work was dropped.
    """
    wanted = sorted(partitions)
    if wanted:
        with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(wanted)), thread_name_prefix="end") as threads:
            list(threads.map(lambda partition: _end(kafka, group, partition), wanted))


def _end(kafka: Mapping[str, Any], group: str, partition: Partition) -> None:
    producer = Producer({**kafka, "transactional.id": transactional_id(group, partition)})
    try:
        fence(producer, _SECONDS)
    except KafkaException as error:
        words = "%s: a transaction may be open for up to a minute, and hides what follows it in channels: %s"
        log.warning(words, partition, error, extra=about(partition))


def without_next_holder(
    dropped: Collection[Partition], there: Collection[Partition], ours: Collection[Partition]
) -> set[Partition]:
    """Of the partitions whose work was dropped, those that no one takes, or perhaps no one.

    Parameters
    ----------
    dropped
        Partitions whose work was dropped.
    there
        Partitions that exist now.
    ours
        Partitions that are ours now: of one made again it is not known whether records come.
    """
    return {partition for partition in dropped if partition in ours or partition not in there}
