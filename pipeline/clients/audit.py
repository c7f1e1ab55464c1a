"""The ledger of a night beside an independent count of the topics.

It counts what any consumer reads, read_committed, in the sources and in the channels' topics: spans of
offsets would not do, since they hold the markers of transactions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

from confluent_kafka.admin import OffsetSpec

from pipeline.broker.client import admin_client, topic_names
from pipeline.broker.listen import Alert, listen
from pipeline.broker.nightly import Published, Sorter
from pipeline.broker.partition import Partition
from pipeline.broker.topics import offsets, topic_ids
from pipeline.channels.channel import COLLABORATION_PREFIX, PUBLIC_PREFIX
from pipeline.channels.config import RunConfig
from pipeline.channels.counts import SourceCounts
from pipeline.channels.ledger import Entry, night_of_arrival, night_of_topic
from pipeline.clients.ledger import NightLedger, entries, ledger
from schemas.avro.framing import schema_source
from schemas.time import night_date

_AT_ONCE = 1000


def audit(config: RunConfig, told: NightLedger, found: Sequence[Entry]) -> list[str]:
    """What an independent count of the topics says differently, a sentence each.

    Parameters
    ----------
    config : RunConfig
        The broker, and the source of schemas that packets only name.
    told : NightLedger
        Of the night.
    found : sequence of Entry
        All of the group.

    Returns
    -------
    list of str

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    problems = []
    for topic, page in sorted(told.sources.items()):
        problems += _audit_source(
            config, told.night, page.source, [one for one in found if one.topic == topic]
        )
    return problems + _audit_channels(config, told)


def _audit_source(config: RunConfig, night: str, counts: SourceCounts, found: Sequence[Entry]) -> list[str]:
    """found: the entries of the source."""
    topic, live = found[0].topic, [entry for entry in found if entry.kind == "live"]
    admin = admin_client(config.bootstrap_servers, **config.client)
    if any(entry.topic_id != topic_ids(admin, [topic]).get(topic) for entry in live):
        return [f"{topic}: it was deleted since, its records cannot be counted any more"]
    spans = defaultdict(list)
    for entry in live:
        spans[entry.source].append((entry.low + _lost(entry), entry.high))
    beginnings = offsets(admin, list(spans), OffsetSpec.earliest())
    if any(low < beginnings[source] for source, some in spans.items() for low, _ in some):
        return [f"{topic}: records have been deleted since, and cannot be counted any more"]
    counted = 0
    for alert in of_night(config, topic, night):
        of_partition = spans[Partition(alert.topic, alert.partition)]
        counted += any(low <= alert.offset < high for low, high in of_partition)
    if counted == counts.received:
        return []
    return [f"{topic}: {counts.received:,} received by the ledger, {counted:,} are in the topic"]


def _lost(entry: Entry) -> int:
    return sum(page.source.lost for page in entry.pages.values())


def _audit_channels(config: RunConfig, told: NightLedger) -> list[str]:
    """A run that goes on delivers while we count: then the count lies between two ledgers."""
    counted = {name: _in_topic(config, told.night, name) for name in told.channels}
    wrong = {name: one.delivered for name, one in told.channels.items() if one.delivered != counted[name]}
    now = ledger(config, told.night, entries(config)).channels if wrong else {}
    return [
        f"channel {name}: {delivered:,} delivered by the ledger, {counted[name]:,} are in its topic"
        for name, delivered in wrong.items()
        if not delivered <= counted[name] <= now[name].delivered
    ]


def _in_topic(config: RunConfig, night: str, channel: str) -> int:
    there = topic_names(config.bootstrap_servers, **config.client)
    topics = [prefix + channel for prefix in (PUBLIC_PREFIX, COLLABORATION_PREFIX)]
    return sum(1 for topic in topics if topic in there for _ in of_night(config, topic, night))


def of_night(config: RunConfig, topic: str, night: str) -> Iterator[Alert]:
    """The records of a topic that are of a night: by the topic they came from, else by their packets.

    Parameters
    ----------
    config
        The broker, and the source of schemas that packets only name.
    topic
        Of a survey or a channel.
    night
        "2023-10-12".
    """
    if (named := night_of_topic(topic)) and named != night:
        return
    sorter = Sorter(schema_source(config.schemas) if config.schemas else None)
    alerts = listen(topic, config.bootstrap_servers, until_drained=True, **config.client)
    while some := list(islice(alerts, _AT_ONCE)):
        for alert, of in zip(some, _nights(sorter, some), strict=True):
            if of == night:
                yield alert


def _nights(sorter: Sorter, alerts: Sequence[Alert]) -> list[str]:
    named = [night_of_topic(alert.topic) or night_of_topic(_source_topic(alert)) for alert in alerts]
    if all(named):
        return named
    packets = sorter.sort([alert.raw for alert in alerts])
    return [
        name or _of_packet(read if isinstance(read, list) else []) or night_of_arrival(alert.timestamp)
        for name, read, alert in zip(named, packets, alerts, strict=True)
    ]


def _source_topic(alert: Alert) -> str:
    return alert.headers.get("source", "").rsplit("/", 2)[0]


def _of_packet(read: Sequence[Published]) -> str:
    known = [one.night for one in read if one.night is not None]
    try:
        return f"{night_date(int(known[-1]))}" if known else ""
    except (ValueError, OverflowError):
        return ""
