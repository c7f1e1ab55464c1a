"""What a topic had unread when it was deleted is a gap of each channel that would have read it.

Nobody can fill such a gap. It stands where an operator looks for what is missing, until they close it.
"""

from __future__ import annotations

import logging

from confluent_kafka import KafkaException, Producer

from pipeline.broker.client import BrokerError, producer_settings, words_of
from pipeline.broker.logs import NowAndThen
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.live.source import Unread
from pipeline.worker.deliver import loss_records
from pipeline.worker.holding.position import Standing

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 10.0
_WHY = "the topic was deleted before these records were read"


class GapsOfDeleted:
    """Writes these gaps; the same one twice is one.

    Parameters
    ----------
    config
        The broker.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._lasting = NowAndThen(log)

    def write(self, unread: list[Unread], channels: ChannelSet) -> None:
        """Make gaps of what is unread, and take it away; what cannot be written now stays, and this is said.

        Parameters
        ----------
        unread
            Of deleted topics.
        channels
            Those in force.
        """
        known = list(unread)  # more may come meanwhile
        if not known:
            return
        try:
            self._write(known, channels)
        except (BrokerError, KafkaException) as error:
            self._lasting.warn("gaps of a deleted topic cannot be written, trying again", words_of(error))
            return
        del unread[: len(known)]

    def _write(self, unread: list[Unread], channels: ChannelSet) -> None:
        producer = Producer(producer_settings(self._config.bootstrap_servers, **self._config.client))
        for one in unread:
            lost = Standing(one.high, loss=_WHY, low=one.low, high=one.high)
            for record in loss_records(channels, one.partition, lost, one.topic_id):
                producer.produce(**record)
        if producer.flush(_KAFKA_SECONDS):
            producer.purge()
            raise BrokerError("the broker does not take records")
