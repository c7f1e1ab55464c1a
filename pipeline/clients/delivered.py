"""What each channel has delivered in the newest night, as the ledger tells while the night goes on."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException

from pipeline.access.limits import Night
from pipeline.broker.client import BrokerError, topic_names
from pipeline.broker.listen import Alert, Listener, listen
from pipeline.channels.config import RunConfig
from pipeline.channels.ledger import LEDGER_TOPIC, ChannelCounts

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 2.0
Told = dict[str, dict[str, tuple[int, int]]]
"""Night -> channel -> alerts and bytes that were delivered."""


class Delivered:
    """The newest records of the ledger, added up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[bytes, Told] = {}

    def add(self, records: Iterable[Alert]) -> None:
        """Records of the ledger, in order: of one key the last counts."""
        latest = {record.key or b"": record.raw for record in records}
        told = {key: _told(json.loads(raw)) for key, raw in latest.items() if raw}
        with self._lock:
            self._entries |= told

    def newest(self) -> Night:
        """The newest night of any source."""
        with self._lock:
            night = max((night for told in self._entries.values() for night in told), default="")
            found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
            for told in self._entries.values():
                for channel, (alerts, size) in told.get(night, {}).items():
                    found[channel][0] += alerts
                    found[channel][1] += size
        return Night(night, {channel: (alerts, size) for channel, (alerts, size) in found.items()})

    def follow(self, config: RunConfig) -> None:
        """Take in what the ledger says from now on, in a thread that ends with the process."""
        threading.Thread(target=self._follow, args=(config,), name="ledger", daemon=True).start()

    def _follow(self, config: RunConfig) -> None:
        while True:
            try:
                with Listener(LEDGER_TOPIC, config.bootstrap_servers, **config.client) as ledger:
                    for batch in ledger.batches():
                        self.add(batch)
            except (BrokerError, KafkaException) as error:
                log.warning("the ledger cannot be followed, trying again: %s", error)
                time.sleep(_AGAIN_SECONDS)


def delivered_now(bootstrap: str, **kafka: Any) -> Night:
    """What the ledger says now of its newest night. Raises BrokerError."""
    found = Delivered()
    if LEDGER_TOPIC in topic_names(bootstrap, **kafka):
        found.add(listen(LEDGER_TOPIC, bootstrap, until_drained=True, **kafka))
    return found.newest()


def _told(entry: dict[str, Any]) -> Told:
    found: Told = {}
    for night, (_, channels) in entry["pages"].items():
        counts = {name: ChannelCounts(*numbers) for name, numbers in channels.items()}
        found[night] = {name: (one.delivered, one.bytes) for name, one in counts.items() if one.delivered}
    return found
