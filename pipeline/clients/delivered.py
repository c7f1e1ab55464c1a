"""What each channel has delivered in the newest night, as the ledger tells while the night goes on."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import KafkaException

from pipeline.access.limits import Night
from pipeline.broker.client import BrokerError, topic_names
from pipeline.broker.listen import Alert, Listener, listen
from pipeline.channels.config import RunConfig
from pipeline.channels.counts import ChannelCounts
from pipeline.channels.ledger import LEDGER_TOPIC

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 2.0
Told = tuple[str, dict[str, tuple[int, int]]]
"""The newest night of an entry, and for each channel the alerts and bytes that were delivered in it."""


class Delivered:
    """The entries of the ledger's newest night, added up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[bytes, Told] = {}

    def add(self, records: Iterable[Alert]) -> None:
        """Records of the ledger, in order: of one key the last counts."""
        latest = {record.key or b"": record.raw for record in records}
        told = {key: _told(json.loads(raw)) for key, raw in latest.items() if raw}
        with self._lock:
            every = self._entries | told
            newest = max((night for night, _ in every.values()), default="")
            self._entries = {key: one for key, one in every.items() if one[0] == newest}

    def newest(self) -> Night:
        """The newest night of any source."""
        with self._lock:
            every = list(self._entries.values())
        alerts, sizes = Counter[str](), Counter[str]()
        for _, channels in every:
            for channel, (count, size) in channels.items():
                alerts[channel] += count
                sizes[channel] += size
        return Night(every[0][0] if every else "", {name: (alerts[name], sizes[name]) for name in alerts})

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
            except Exception:  # else nobody would be counted any more
                log.exception("the ledger cannot be followed, trying again")
            time.sleep(_AGAIN_SECONDS)


def delivered_now(bootstrap: str, **kafka: Any) -> Night:
    """What the ledger says now of its newest night. Raises BrokerError."""
    found = Delivered()
    if LEDGER_TOPIC in topic_names(bootstrap, **kafka):
        found.add(listen(LEDGER_TOPIC, bootstrap, until_drained=True, **kafka))
    return found.newest()


def _told(entry: dict[str, Any]) -> Told:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    pages = {
        night: page for night, page in entry["pages"].items() if night <= tomorrow
    }  # later: a broken date
    if not pages:
        return "", {}
    night = max(pages)
    counts = {name: ChannelCounts(*numbers) for name, numbers in pages[night][1].items()}
    return night, {name: (one.delivered, one.bytes) for name, one in counts.items() if one.delivered}
