"""Publishes a past night again: packets to a topic at the pace at which they came, or faster.

Programs that read the topic can be tested with it. The packets come from anywhere, with their times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.broker.nightly import Published, Sorter
from pipeline.broker.sender import Delivery, NotDelivered, Outgoing

Timed = tuple[bytes, float]
_TOGETHER = 0.05
"""Seconds: packets that are due within them go out together, so that they are read in one batch."""
_MOST = 250


def rehearse(
    packets: Iterable[Timed],
    bootstrap: str,
    topic: str,
    speed: float | None = 1.0,
    partitions: int = 8,
    progress: Callable[[int], None] | None = None,
    **kafka: Any,
) -> int:
    """Publish packets at the pace of their times, keyed by exposure; return how many were sent.

    The first is sent at once, and each other one as long after it as their times differ.

    Parameters
    ----------
    packets
        Packets with their times in seconds, in order of time.
    bootstrap
        Address of the broker, host:port.
    topic
        Where they go.
    speed
        Factor by which it is faster than the times say; None: as fast as the broker takes them.
    partitions
        Partitions of the topic, if it is created.
    progress
        Called with how many were sent so far.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When no broker answers.
    NotDelivered
        When the broker stops taking alerts.
    """
    sorter = Sorter()
    delivery = Delivery(bootstrap, partitions, None, kafka)
    sent = 0
    try:
        for batch in _paced(packets, speed):
            for found in sorter.sort(batch):
                for alert in found if isinstance(found, list) else []:
                    delivery.send(_outgoing(topic, alert))
                    sent += 1
            delivery.settle()
            if progress is not None:
                progress(sent)
        delivery.finish()
    except NotDelivered:
        delivery.give_up()
        raise
    except BaseException:
        delivery.finish_soon()
        raise
    return sent


def _outgoing(topic: str, alert: Published) -> Outgoing:
    return Outgoing(topic, alert.key, alert.raw, "", alert.candid, alert.objectId)


def _paced(packets: Iterable[Timed], speed: float | None) -> Iterator[list[bytes]]:
    """Batches, each when it is due."""
    began, first = time.monotonic(), None
    batch: list[bytes] = []
    due = 0.0  # of the batch, seconds after the first packet went out
    for raw, moment in packets:
        first = moment if first is None else first
        after = (moment - first) / speed if speed else 0.0
        if batch and (after > due + _TOGETHER or len(batch) >= _MOST):
            yield _waited(batch, began + due)
            batch = []
        if not batch:
            due = after
        batch.append(raw)
    if batch:
        yield _waited(batch, began + due)


def _waited(batch: list[bytes], until: float) -> list[bytes]:
    left = until - time.monotonic()
    if left > 0:
        time.sleep(left)
    return batch
