"""Closing the gaps that nobody can fill any more, because their records are gone: else an operator is told of
them every night. The ledger goes on counting these records as gaps of the channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from confluent_kafka import KafkaException
from confluent_kafka.admin import OffsetSpec

from pipeline.broker.client import BrokerError, admin_client, sentence
from pipeline.broker.partition import Partition
from pipeline.broker.topics import offsets, topic_ids
from pipeline.channels.channel import Channel
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import Gap
from pipeline.worker.backfill import Backfill, gaps_of


def give_up(config: RunConfig, channel: Channel) -> list[str]:
    """Close what cannot be read any more of the gaps of a channel; what is still there stays open.

    Parameters
    ----------
    config
        With the broker.
    channel
        The channel.

    Returns
    -------
    list of str
        What was closed, and why.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    work = Backfill(config, channel)
    work.take()
    gaps = gaps_of(config, channel.name)
    ids, begins = _what_is_there(config, gaps)
    told = []
    for gap in gaps:
        why, left_from = _gone(gap, ids, begins.get(gap.source, 0))
        if why:
            work.narrow(gap, replace(gap, low=left_from) if left_from < gap.high else None)
            told.append(f"{gap.source} [{gap.low}, {min(left_from, gap.high)}): {why}")
    work.close()
    return told


def _what_is_there(config: RunConfig, gaps: Sequence[Gap]) -> tuple[Mapping[str, str], dict[Partition, int]]:
    """The ids of the topics, and the first offset of each partition. Raises BrokerError."""
    admin = admin_client(config.bootstrap_servers, **config.client)
    ids = topic_ids(admin, sorted({gap.topic for gap in gaps}))
    places = sorted({gap.source for gap in gaps if gap.topic in ids})
    try:
        return ids, offsets(admin, places, OffsetSpec.earliest())
    except KafkaException as error:
        raise BrokerError(f"where the topics begin is not known: {sentence(error.args[0])}") from None


def _gone(gap: Gap, ids: Mapping[str, str], begins: int) -> tuple[str, int]:
    """Why records of a gap are gone, "" where they are not, and the first offset that is not.

    Parameters
    ----------
    gap
        The gap.
    ids
        Of the topics that are there.
    begins
        The first offset of the gap's partition.
    """
    if gap.topic not in ids:
        return "the topic was deleted", gap.high
    if not gap.is_of(ids[gap.topic]):
        return "the topic was deleted and made again since", gap.high
    return ("retention has deleted them", begins) if begins > gap.low else ("", gap.low)
