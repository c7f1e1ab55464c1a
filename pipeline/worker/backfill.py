"""Delivering what a channel missed while it was suspended, exactly once.

Each gap is filled in one transaction: its alerts go to the channel and the gap is taken away. The
transactional id is the channel's, so of two backfills the later one fences the earlier; and the gaps
are read only after fencing, so that nothing which the earlier one has filled is filled again.
"""

from __future__ import annotations

import faulthandler
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from confluent_kafka import KafkaException, Message, Producer

from filters.limits import Limits
from pipeline.broker.client import (
    MESSAGE_MAX_BYTES,
    SIZED,
    admin_client,
    client_settings,
    sentence,
    words_of,
)
from pipeline.broker.faults import FENCED_PRODUCER
from pipeline.broker.listen import everything_in
from pipeline.broker.paced import Paced, fence, paced_settings
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import RangeReader, Stalled, ahead_of, epoch_of, offset_of
from pipeline.broker.topics import ensure_topics, topic_ids
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.counts import ChannelCounts, SourceCounts
from pipeline.channels.definition import ChannelError
from pipeline.channels.gaps import GAPS_TOPIC, Counted, Gap, open_gaps
from pipeline.channels.ledger import Entry, Page
from pipeline.worker.deliver import Outgoing
from pipeline.worker.holding.remembered import NOTHING_REMEMBERED, Admission, memory_of
from pipeline.worker.holding.slot import transactional_id
from pipeline.worker.judging.evaluate import Evaluator
from pipeline.worker.judging.verdicts import Verdicts
from pipeline.worker.tally import tally
from pipeline.worker.work import ChannelFailure
from schemas.avro.framing import schema_source

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 30.0
_GROUP = "zads-backfill"
_BUSY_SECONDS, _LONGEST_PAUSE = 600.0, 5.0  # for a partition that a run takes back each time
_MOST_OTHERS = 5  # errors of another kind, such as a commit whose outcome the broker does not tell


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


@dataclass(frozen=True)
class Judged:
    """What a filter says of the records of some gaps; the first `beside` records are of no gap."""

    gaps: Sequence[Gap]
    records: Sequence[Message]
    beside: int
    verdicts: Verdicts


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
    told = everything_in(GAPS_TOPIC, config.bootstrap_servers, **config.client)
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
    if channel.filter.scope != "alert":
        raise ChannelError(f"channel {channel.name} judges whole exposures: pipeline.clients.backfill does")
    if channel.limits.once:
        return _once(config, channel, on_progress)
    work = Backfill(config, channel)
    work.take()
    gaps = gaps_of(config, channel.name)
    for number, gap in enumerate(gaps, start=1):
        work.fill(gap)
        on_progress(number, len(gaps))
    work.close()
    return work.done


def _once(config: RunConfig, channel: Channel, on_progress: Callable[[int, int], None]) -> Backfilled:
    """The same for a channel that delivers an object once.

    What it remembers of objects is the run's, which goes on: so each partition is taken from the worker that
    holds it, as another worker would take it, and that worker takes it back with its next batch. Everything
    is judged before, so that it is ours for a moment only; where that is too long, it is tried again.
    """
    work = Backfill(config, channel)
    gaps = gaps_of(config, channel.name)
    for source in sorted({gap.source for gap in gaps}):
        mine = [gap for gap in gaps if gap.source == source]
        found = [work.judged([gap], work.read(source, gap.low, gap.high, [gap])) for gap in mine]
        ready, pause, until = [one for one in found if one], 0.1, time.monotonic() + _BUSY_SECONDS
        others = 0
        while ready:
            try:
                work.take(source)
                still = {gap.key for gap in gaps_of(config, channel.name)}
                while ready:
                    if ready[0].gaps[0].key in still:
                        work.deliver(ready[0])
                    ready.pop(0)
                    on_progress(len(gaps) - len(ready), len(gaps))
            except KafkaException as error:  # delivered or not: the next look at the gaps tells
                others += error.args[0].code() not in FENCED_PRODUCER
                if others > _MOST_OTHERS or time.monotonic() > until:
                    raise
                log.info("%s, again: %s", source, sentence(error.args[0]))
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
    work.close()
    return work.done


def _moved(counts: ChannelCounts, counted: Counted) -> ChannelCounts:
    """The counts, less what the records were counted as until now."""
    moved = counts.received
    if not counted:
        return counts
    counts = counts._replace(received=0, **{counted: getattr(counts, counted) - moved})
    return counts._replace(passed=counts.passed - moved) if counted == "undeliverable" else counts


def written_since(gap: Gap, records: Iterable[Message]) -> bool:
    """Whether other records stand under a gap's offsets now, after the log was cut.

    Parameters
    ----------
    gap
        The gap.
    records
        Of its partition, as they are now.
    """
    epochs = [epoch_of(record) for record in records if gap.low <= offset_of(record) < gap.high]
    return 0 <= gap.epoch < max(epochs, default=-1)


def _without_rate(channel: Channel) -> Channel:
    """What was missed comes without delay, since somebody asked for it: a sample stays a sample."""
    kept = channel.limits
    return replace(channel, limits=Limits(sample=kept.sample, once=kept.once, again_days=kept.again_days))


class Backfill:
    """Delivers what one channel has missed, after `take`.

    Parameters
    ----------
    config
        With the broker.
    channel
        The channel, as it is now.

    Attributes
    ----------
    done
        What was done so far.
    """

    def __init__(self, config: RunConfig, channel: Channel) -> None:
        channel = _without_rate(channel)
        self.done = Backfilled()
        self._memory = NOTHING_REMEMBERED
        self._config, self._channel = config, channel
        self._kafka = client_settings(config.bootstrap_servers, **config.client)
        ensure_topics(config.bootstrap_servers, [channel.topic], partitions=1, config=SIZED, **config.client)
        self._channels = ChannelSet((channel,))
        self._evaluator = Evaluator(self._channels, schema_source(config.schemas) if config.schemas else None)
        self._admin = admin_client(config.bootstrap_servers, **config.client)
        self._readers: dict[Partition, RangeReader] = {}
        self._producer: Producer | None = None

    def take(self, source: Partition | None = None) -> None:
        """Fence every earlier backfill of the channel; or whoever holds a partition for the run, and learn
        what is remembered there of objects.

        source: the partition, for a channel that delivers an object once. Raises KafkaException.
        """
        name = f"{_GROUP}/{self._channel.name}"
        self._producer = Producer(
            {
                **paced_settings(self._kafka),
                "transactional.id": transactional_id(self._config.group, source) if source else name,
                "message.max.bytes": MESSAGE_MAX_BYTES,
            }
        )
        fence(self._producer, _KAFKA_SECONDS)
        if source is not None:
            self._memory = memory_of(self._kafka, _GROUP, "")

    def fill(self, gap: Gap) -> None:
        """Deliver the gap's alerts and take it away, together or not at all."""
        records = self.read(gap.source, gap.low, gap.high, [gap])
        if records is not None:
            self.fill_together([gap], records)

    def read(self, source: Partition, low: int, high: int, gaps: Sequence[Gap]) -> list[Message] | None:
        """The records with low <= offset < high; None when they cannot be read, and the gaps stay open.

        Parameters
        ----------
        source
            The partition.
        low
            First offset.
        high
            Offset after the last.
        gaps
            That these records are needed for.
        """
        try:
            found = self._reader(source).read(low, high)
        except (KafkaException, Stalled) as error:  # what retention has deleted is read no more
            self.leave(gaps, f"{source} [{low}, {high}): {words_of(error)}")
            self._readers.pop(source).close()
            return None
        if self._made_again(source.topic, gaps):
            self.leave(gaps, f"{source} [{low}, {high}): the topic was deleted and made again since")
            return None
        if any(written_since(gap, found) for gap in gaps if gap.source == source):
            self.leave(gaps, f"{source} [{low}, {high}): the log was cut, and has other records there since")
            return None
        return found

    def _made_again(self, topic: str, gaps: Sequence[Gap]) -> bool:
        """Whether what was just read is of another topic than the gaps are: one that came after it."""
        if not any(gap.topic_id for gap in gaps):
            return False
        now = topic_ids(self._admin, [topic], _KAFKA_SECONDS).get(topic)
        return not all(gap.is_of(now) for gap in gaps)

    def leave(self, gaps: Sequence[Gap], why: str = "") -> None:
        """They stay open. why: a sentence, where their records cannot be read."""
        self.done.left += len(gaps)
        if why:
            self.done.unreadable.append(why)

    def narrow(self, gap: Gap, rest: Gap | None) -> None:
        """Take a gap away, and leave another in its place. Raises KafkaException.

        Parameters
        ----------
        gap
            The gap.
        rest
            What stays open of it; None: nothing.
        """
        assert self._producer is not None
        self._producer.begin_transaction()
        paced = Paced(self._producer)
        paced.produce(**gap.tombstone())
        if rest is not None:
            paced.produce(**rest.record())
        paced.flush()
        self._producer.commit_transaction(_KAFKA_SECONDS)

    def fill_together(self, gaps: Sequence[Gap], records: Sequence[Message], beside: int = 0) -> None:
        """Deliver the alerts of some gaps and take these away, together or not at all.

        Parameters
        ----------
        gaps
            Of one topic.
        records
            Theirs, and first those that the filter is to see beside them.
        beside
            How many these are.
        """
        judged = self.judged(gaps, records, beside)
        if judged is not None:
            self.deliver(judged)

    def judged(
        self, gaps: Sequence[Gap], records: Sequence[Message] | None, beside: int = 0
    ) -> Judged | None:
        """What the filter says of the records of some gaps; None when they stay open.

        Parameters
        ----------
        gaps
            Of one topic.
        records
            Theirs, and first those that the filter is to see beside them; None: they cannot be read.
        beside
            How many these are.
        """
        if records is None:
            return None
        verdicts = self._judge(gaps[0].topic, records)
        if beside:
            verdicts.leave_out_before(beside)
        self.done.failures += verdicts.failures
        single = all(gap.high - gap.low == 1 for gap in gaps)
        if verdicts.gaps or (verdicts.refused and single):
            self.leave(gaps)
            self._note_refused(verdicts)
            return None
        # The rest was said live.
        verdicts.refused = [refusal for refusal in verdicts.refused if refusal.channel]
        return Judged(gaps, records, beside, verdicts)

    def _note_refused(self, verdicts: Verdicts) -> None:
        """Alerts on which the filter fails still: each reason once."""
        known = {failure.message for failure in self.done.failures}
        for one in verdicts.refused:
            if one.channel and one.detail not in known:
                known.add(one.detail)
                self.done.failures.append(ChannelFailure(one.channel, one.detail, ""))

    def deliver(self, judged: Judged) -> None:
        """One transaction. Raises KafkaException: then nothing was delivered, or it is not known."""
        assert self._producer is not None
        gaps, records, verdicts = judged.gaps, judged.records, judged.verdicts
        topic, schemas, admission = gaps[0].topic, self._evaluator.schemas, Admission(self._memory)
        self._producer.begin_transaction()
        outgoing = Outgoing(self._channels, topic, verdicts, records, schemas, admission, gaps[0].topic_id)
        paced = Paced(self._producer)
        outgoing.produce(paced, *((gap.source, gap.low, gap.high) for gap in gaps))
        for gap in gaps:
            paced.produce(**gap.tombstone())
        pages = tally(topic, verdicts, records, outgoing, first=judged.beside)
        paced.produce(**self._entry(gaps[0], pages).record())
        paced.flush()
        self._producer.commit_transaction(_KAFKA_SECONDS)
        if admission.changes:
            self._memory.learn(admission.changes)
        matches = outgoing.delivered.get(self._channel.name, [])
        self.done.gaps += len(gaps)
        self.done.records += len(records) - judged.beside
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

    def close(self) -> None:
        """Let go of the partitions that were read."""
        for reader in self._readers.values():
            reader.close()

    def _judge(self, topic: str, records: Sequence[Message]) -> Verdicts:
        limits = self._config.limits
        (verdicts,) = self._evaluator.evaluate(
            [[record.value() or b"" for record in records]],
            topic,
            _TimeLimit(),
            suspended={},
            filter_seconds=limits.filter_seconds,
            failing_alerts=limits.failing_alerts,
        )
        return verdicts

    def _reader(self, source: Partition) -> RangeReader:
        if source not in self._readers:
            ahead = ahead_of(len(self._readers))
            self._readers[source] = RangeReader(self._kafka, _GROUP, source, ahead)
        return self._readers[source]
