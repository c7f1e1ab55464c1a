"""Writes how a run is into zads.state, and keeps nobody waiting for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.broker.client import BrokerError, producer_settings, sentence, words_of
from pipeline.broker.logs import NowAndThen
from pipeline.broker.topics import ensure_topics
from pipeline.channels.config import RunConfig
from pipeline.channels.state import STATE_SECONDS, STATE_SETTINGS, STATE_TOPIC, RunState

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_END_SECONDS = 2.0
_TOO_OLD_MS = 10_000
_NOT_TOLD = f"how this run is does not reach {STATE_TOPIC}, so that `zads status` cannot tell it"


class Telling:
    """Tells the state of a run: every ten seconds, and within a second what is suspended or stuck.

    Parameters
    ----------
    config
        The broker.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._producer: Producer | None = None
        self._lasting = NowAndThen(log)
        self._told: RunState | None = None
        self._looked = 0.0

    async def go_on(self, now: Callable[[], RunState]) -> None:
        """Look once a second at how it is, and write what is due, until cancelled. Waits out every outage."""
        while True:
            state = now()
            if self._is_due(state):
                await asyncio.to_thread(self.write, state)
            await asyncio.sleep(_LOOK_SECONDS)

    def _is_due(self, state: RunState) -> bool:
        long_ago = time.monotonic() - self._looked >= STATE_SECONDS
        return long_ago or self._told is None or _urgent(self._told) != _urgent(state)

    def write(self, state: RunState) -> None:
        """Write, or say once a minute why that cannot be."""
        self._looked = time.monotonic()
        try:
            producer = self._producer or self._begun()
            producer.produce(STATE_TOPIC, state.model_dump_json(), state.key, on_delivery=self._delivered)
            producer.poll(0)
            self._told = state
        except (BrokerError, KafkaException, BufferError) as error:
            self._producer = None
            self._lasting.warn(_NOT_TOLD, words_of(error))

    def end(self, state: RunState) -> None:
        """Write the last one; returns within seconds, also without a broker."""
        if self._producer is not None:
            self.write(state)
        if self._producer is not None:
            self._producer.flush(_END_SECONDS)

    def _begun(self) -> Producer:
        """The topic and a producer, which shows the password that our profile has now."""
        bootstrap, kafka = self._config.bootstrap_servers, self._config.client
        ensure_topics(bootstrap, [STATE_TOPIC], partitions=1, config=STATE_SETTINGS, **kafka)
        quick = {"message.timeout.ms": _TOO_OLD_MS, "linger.ms": 0, "batch.size": 100_000}
        self._producer = Producer({**producer_settings(bootstrap, **kafka), **quick})
        return self._producer

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._producer = None  # another one, with what is known then
            self._lasting.warn(_NOT_TOLD, sentence(error))


def _urgent(state: RunState) -> object:
    """What is told at once when it changes."""
    return state.suspended, {one.state for one in state.stuck}
