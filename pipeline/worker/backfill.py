"""Delivering what a channel missed while it was suspended, exactly once.

Each gap is filled in one transaction: its alerts go to the channel and the gap is taken away. The
transactional id is the channel's, so of two backfills the later one fences the earlier; and the gaps
are read only after fencing, so that nothing which the earlier one has filled is filled again.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from confluent_kafka import KafkaException, Message, Producer

from filters.limits import Limits
from pipeline.broker.client import MESSAGE_MAX_BYTES, SIZED, client_settings, sentence, topic_names
from pipeline.broker.listen import listen
from pipeline.broker.paced import Paced, fence, paced_settings
from pipeline.broker.partition import Partition
from pipeline.broker.ranges import RangeReader, Stalled
from pipeline.broker.topics import ensure_topics
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.definition import ChannelError
from pipeline.channels.gaps import GAPS_TOPIC, Counted, Gap, open_gaps
from pipeline.channels.ledger import ChannelCounts, Entry, Page, SourceCounts
from pipeline.worker.deliver import Outgoing
from pipeline.worker.evaluate import Evaluator
from pipeline.worker.tally import tally
from pipeline.worker.verdicts import Verdicts
from pipeline.worker.work import ChannelFailure
from schemas.avro.framing import schema_source

_KAFKA_SECONDS = 30.0
_GROUP = "zads-backfill"


@dataclass
class Backfilled:
    """What a backfill did."""

    gaps: int = 0
    left: int = 0
    records: int = 0
    alerts: int = 0
    objects: set[str] = field(default_factory=set)
    failures: list[ChannelFailure] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # gaps whose records cannot be read, and why


class _TimeLimit:
    """Ends this process, with a traceback, when a filter overruns."""

    @contextmanager
    def running(self, channel: str, seconds: float) -> Iterator[None]:
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def gaps_of(config: RunConfig, channel: str | None = None) -> list[Gap]:
    """The open gaps, of one channel or of all, in order of topic, partition and offset."""
    bootstrap = config.bootstrap_servers
    if GAPS_TOPIC not in topic_names(bootstrap, **config.client):
        return []
    told = listen(GAPS_TOPIC, bootstrap, until_drained=True, **config.client)
    gaps = open_gaps((record.key or b"", record.raw) for record in told)
    wanted = [gap for gap in gaps if channel in (None, gap.channel)]
    return sorted(wanted, key=lambda gap: (gap.channel, gap.topic, gap.partition, gap.low))


def backfill(
    config: RunConfig, channel: Channel, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Backfilled:
    """Deliver everything that a channel missed, with the channel as it is now.

    A gap on which the filter still fails stays open.

    Parameters
    ----------
    config
        The configuration, with the broker.
    channel
        The channel.
    on_progress
        Called with the number of gaps done and of all gaps.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    if channel.limits.once:
        raise ChannelError(
            f"channel {channel.name} delivers an object once: what it missed has no place in its order"
            " any more",
            hint="the objects come again with their next alert; `zads replay` finds what was missed",
        )
    if channel.filter.scope != "alert":
        raise ChannelError(
            f"channel {channel.name} judges whole exposures, which no backfill brings together yet",
            hint="`zads replay` finds what was missed",
        )
    channel = _without_rate(channel)
    kafka = client_settings(config.bootstrap_servers, **config.client)
    ensure_topics(config.bootstrap_servers, [channel.topic], partitions=1, config=SIZED, **config.client)
    producer = Producer(
        {
            **paced_settings(kafka),
            "transactional.id": f"{_GROUP}/{channel.name}",
            "message.max.bytes": MESSAGE_MAX_BYTES,
        }
    )
    fence(producer, _KAFKA_SECONDS)
    gaps = gaps_of(config, channel.name)
    work = _Backfill(config, channel, kafka, producer)
    for number, gap in enumerate(gaps, start=1):
        work.fill(gap)
        on_progress(number, len(gaps))
    work.close()
    return work.done


def _moved(counts: ChannelCounts, counted: Counted) -> ChannelCounts:
    """The counts, less what the records were counted as until now."""
    moved = counts.received
    if not counted:
        return counts
    counts = counts._replace(received=0, **{counted: getattr(counts, counted) - moved})
    return counts._replace(passed=counts.passed - moved) if counted == "undeliverable" else counts


def _without_rate(channel: Channel) -> Channel:
    """What was missed comes at once, since somebody asked for it: a sample stays a sample."""
    return replace(channel, limits=Limits(sample=channel.limits.sample))


class _Backfill:
    def __init__(
        self, config: RunConfig, channel: Channel, kafka: dict[str, str], producer: Producer
    ) -> None:
        self.done = Backfilled()
        self._config, self._channel, self._kafka, self._producer = config, channel, kafka, producer
        self._channels = ChannelSet((channel,))
        self._evaluator = Evaluator(self._channels, schema_source(config.schemas) if config.schemas else None)
        self._readers: dict[Partition, RangeReader] = {}

    def fill(self, gap: Gap) -> None:
        """Deliver the gap's alerts and take it away, together or not at all."""
        try:
            records = self._reader(gap.source).read(gap.low, gap.high)
        except (KafkaException, Stalled) as error:
            self._cannot_be_read(gap, error)
            return
        verdicts = self._judge(gap, records)
        self.done.failures += verdicts.failures
        if verdicts.gaps or (verdicts.refused and gap.high - gap.low == 1):
            self.done.left += 1
            return
        verdicts.refused = [
            refusal for refusal in verdicts.refused if refusal.channel
        ]  # the rest was said live
        self._producer.begin_transaction()
        outgoing = Outgoing(self._channels, gap.topic, verdicts, records, self._evaluator.schemas)
        paced = Paced(self._producer)
        outgoing.produce(paced, (gap.source, gap.low, gap.high))
        paced.produce(**gap.tombstone())
        paced.produce(**self._entry(gap, tally(gap.topic, verdicts, records, outgoing)).record())
        paced.flush()
        self._producer.commit_transaction(_KAFKA_SECONDS)
        matches = outgoing.delivered.get(self._channel.name, [])
        self.done.gaps += 1
        self.done.records += len(records)
        self.done.alerts += len(matches)
        self.done.objects.update(match.objectId for match in matches)

    def _entry(self, gap: Gap, pages: dict[str, Page]) -> Entry:
        """For the ledger: what the gap's records have come to, in place of what they were counted as."""
        for page in pages.values():
            all_elsewhere = ChannelCounts(page.source.received, not_for_it=page.source.received)
            counts = page.channels.get(self._channel.name, all_elsewhere)
            page.channels[self._channel.name] = _moved(counts, gap.counted)
            page.source = SourceCounts()  # counted when they came
        place = gap.topic, gap.partition, "", gap.low, gap.high
        return Entry(self._config.group, *place, kind="backfill", pages=pages)

    def _cannot_be_read(self, gap: Gap, error: Exception) -> None:
        """It stays open, and the others are filled; what retention has deleted is read no more."""
        reason = sentence(error.args[0]) if isinstance(error, KafkaException) else str(error)
        self.done.left += 1
        self.done.unreadable.append(f"{gap.source} [{gap.low}, {gap.high}): {reason}")
        self._readers.pop(gap.source).close()

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def _judge(self, gap: Gap, records: list[Message]) -> Verdicts:
        limits = self._config.limits
        (verdicts,) = self._evaluator.evaluate(
            [[record.value() or b"" for record in records]],
            gap.topic,
            _TimeLimit(),
            suspended={},
            filter_seconds=limits.filter_seconds,
            failing_alerts=limits.failing_alerts,
        )
        return verdicts

    def _reader(self, source: Partition) -> RangeReader:
        if source not in self._readers:
            self._readers[source] = RangeReader(self._kafka, _GROUP, source)
        return self._readers[source]
