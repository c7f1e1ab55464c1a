"""Where one alert is in Kafka: the records that it came as, and what the channels made of them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from itertools import islice

from pipeline.broker.client import NoSuchTopic, topic_names
from pipeline.broker.dead_letters import DeadLetter, dead_letters
from pipeline.broker.listen import Alert, listen, record_at, whole
from pipeline.broker.nightly import Sorter
from pipeline.channels.channel import COLLABORATION_PREFIX, PUBLIC_PREFIX
from pipeline.channels.config import RunConfig
from schemas.avro.framing import schema_source

_AT_ONCE = 1000
_CHANNELS = "|".join(prefix.replace(".", "[.]") for prefix in (PUBLIC_PREFIX, COLLABORATION_PREFIX))

Place = tuple[str, int, int]
"""Topic, partition, offset."""


def channel_topics(config: RunConfig) -> list[str]:
    """The topics of the channels that have ever run. Raises BrokerError."""
    return topic_names(config.bootstrap_servers, _CHANNELS, **config.client)


def deliveries(config: RunConfig, candids: Container[int], topics: Sequence[str]) -> list[Alert]:
    """The records of some channels' topics that hold one of the alerts.

    Parameters
    ----------
    config
        Of the run.
    candids
        Of the alerts.
    topics
        Some of `channel_topics`.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    if not topics:
        return []
    pattern = f"^({'|'.join(map(re.escape, topics))})$"
    every = listen(pattern, config.bootstrap_servers, until_drained=True, **config.client)
    return [alert for alert in every if whole(alert.headers.get("candid")) in candids]


def letters(config: RunConfig, candid: int) -> list[DeadLetter]:
    """The dead letters that name the alert. Raises BrokerError."""
    every = dead_letters(config.bootstrap_servers, **config.client)
    return [letter for letter in every if letter.candid == candid]


def arrivals(config: RunConfig, candid: int) -> Iterator[Alert]:
    """The records of the run's topics that hold the alert: each is read for it. Raises BrokerError."""
    if not topic_names(config.bootstrap_servers, config.topics, **config.client):
        return
    sorter = Sorter(schema_source(config.schemas) if config.schemas else None)
    every = listen(config.topics, config.bootstrap_servers, until_drained=True, **config.client)
    while some := list(islice(every, _AT_ONCE)):
        for alert, read in zip(some, sorter.sort([alert.raw for alert in some]), strict=True):
            if isinstance(read, list) and any(one.candid == candid for one in read):
                yield alert


def record(config: RunConfig, place: Place) -> Alert | None:
    """The record at a place; None when it is there no more. Raises BrokerError."""
    try:
        return record_at(*place, config.bootstrap_servers, **config.client)
    except NoSuchTopic:
        return None
