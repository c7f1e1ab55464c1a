"""One piece of work on its way through a worker, and what becomes of it when something comes between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import cloudpickle
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.broker.client import BrokerError, admin_client
from pipeline.broker.paced import Paced
from pipeline.broker.profile import SERVERS
from pipeline.broker.reading.ranges import Stalled
from pipeline.broker.topics import unwritable
from pipeline.worker.deliver import Outgoing, applied_record, loss_records
from pipeline.worker.holding.lane import Behind, Lanes, Moved
from pipeline.worker.holding.remembered import Admission
from pipeline.worker.holding.slot import Slot
from pipeline.worker.judging.evaluate import Evaluator
from pipeline.worker.judging.verdicts import Refusal, Verdicts
from pipeline.worker.outcome import Stage, outcome_of
from pipeline.worker.tally import tally
from pipeline.worker.work import Refused, Report, Work
from schemas.avro.framing import schema_source
from schemas.errors import NoSchemaSource

_PATIENCE = 60.0  # seconds for a schema id that the registry does not have yet
KAFKA_SECONDS = 10.0

lanes = Lanes()
"""The partitions that this process holds."""


class Step:
    """One piece of work on its way; it goes on for as long as nothing has come between."""

    def __init__(self, work: Work) -> None:
        self.work, self.report, self.going = work, Report(work, "committed"), True
        self.stage: Stage = "take"

    def safely(self, function: Callable[[], None]) -> None:
        """Call one of our functions, unless something has come between before; note what does now."""
        if self.going:
            try:
                function()
            except Exception as error:
                self.stopped_by(error)

    def stopped_by(self, error: Exception) -> None:
        """Report why this work goes no further."""
        self.report, self.going = ended_by(self, error), False

    def take(self) -> None:
        """Make sure that the partition is ours."""
        self.lane = lanes.for_work(self.work)

    @property
    def own_slot(self) -> Slot | None:
        """The slot that the partition has for itself."""
        return self.lane.slot

    def read(self) -> None:
        """The records of the range."""
        self.stage = "read"
        with _timed(self.report, "read"):
            records = self.lane.read(self.work.low, self.work.high)
        self.has(records)

    def has(self, records: list[Message] | Exception) -> None:
        """Go on with these records. Raises what came in their place."""
        if isinstance(records, Exception):
            raise records
        self._records = records
        self.packets = [record.value() or b"" for record in self._records]
        self.report.records, self.report.bytes = len(self.packets), sum(map(len, self.packets))

    def judged(self, verdicts: Verdicts) -> None:
        """What the channels say of the records."""
        self.stage = "publish"
        self._verdicts = verdicts
        _fill(self.report, verdicts)

    def address(self) -> None:
        """Find out what goes where."""
        evaluator = evaluator_of(self.work.channels, self.work.schemas)
        self._admission = Admission(self.lane.memory)
        self._outgoing = Outgoing(
            evaluator.channels,
            self.work.partition.topic,
            self._verdicts,
            self._records,
            evaluator.schemas,
            self._admission,
            self.work.topic_id,
        )
        passing = [evaluator.channels.by_name[name] for name in self._verdicts.matches]
        self._remembering = [channel for channel in passing if channel.limits.once]

    @property
    def remembers(self) -> bool:
        """Whether a channel that passes something remembers objects."""
        return self.going and bool(self._remembering)

    def recall(self) -> None:
        """Have at hand what limits remember, before there is a transaction that others may wait for."""
        self._admission.read(self._remembering)

    def send(self, paced: Paced) -> TopicPartition:
        """Send what belongs to the batch, within a transaction; returns where the group then stands."""
        work, stood, outgoing = self.work, self.lane.stood, self._outgoing
        channels = evaluator_of(work.channels, work.schemas).channels
        outgoing.produce(paced, (work.partition, work.low, work.high))
        lost = stood.high - stood.low
        pages = tally(work.partition.topic, self._verdicts, self._records, outgoing, lost)
        self._entry = self.lane.entry.and_then(work.high, pages)
        paced.produce(**self._entry.record())
        if stood.loss:
            for record in loss_records(channels, work.partition, stood, work.topic_id):
                paced.produce(**record)
        if self.lane.version != work.version or stood.made_again:
            paced.produce(**applied_record(channels, work))
        return self.lane.position(work, self._admission.changes)

    def committed(self, seconds: float) -> None:
        """Note that it is. seconds: this batch's part of the time it took."""
        self.report.seconds["publish"] = seconds
        self.report.lost = self.lane.stood.loss
        self.lane.went_on(self.work, self._admission.changes)
        self.lane.entry = self._entry
        self.report.waited = _waited(self._records)
        _fill_delivered(self.report, self._outgoing, self._records)


def ended_by(step: Step, error: Exception, seconds: float = 0.0) -> Report:
    """The report on work that an exception has ended; its lane is not used again.

    Parameters
    ----------
    step
        Of the work.
    error
        The exception.
    seconds
        How long its transaction was open.
    """
    work = step.work
    if not isinstance(error, Moved | Behind | NoSchemaSource):
        lanes.drop(work)
    if step.stage in ("take", "read") and isinstance(error, KafkaException):
        lanes.reader_failed = True
    if isinstance(error, BrokerError | Stalled):
        lanes.all_stalled = True  # what has stalled once has stalled in all of them
        admin_of.cache_clear()  # our password may have been rotated
    outputs = _outputs(work) if step.stage == "publish" else {}
    return outcome_of(work, error, step.stage, seconds, outputs, lambda: _unwritable(work, outputs))


def _outputs(work: Work) -> dict[str, str]:
    """Topic -> channel, of those that run."""
    channels = evaluator_of(work.channels, work.schemas).channels.channels
    return {channel.topic: channel.name for channel in channels if channel.name not in work.suspended}


def _unwritable(work: Work, topics: Iterable[str]) -> dict[str, str] | None:
    """Which of these topics take no records from us, and why; None when the broker does not answer."""
    try:
        return unwritable(admin_of(tuple(work.kafka.items())), topics, KAFKA_SECONDS)
    except BrokerError:
        return None


@lru_cache(maxsize=2)
def admin_of(kafka: tuple[tuple[str, Any], ...]) -> AdminClient:
    """A client that asks about topics; made once. kafka: of the work, as items."""
    settings = dict(kafka)
    return admin_client(settings[SERVERS], **settings)


@lru_cache(maxsize=2)
def evaluator_of(channels: bytes, schemas: str) -> Evaluator:
    """Of a channel set, unpickled once. schemas: as in Work."""
    return Evaluator(cloudpickle.loads(channels), schema_source(schemas, _PATIENCE) if schemas else None)


@contextmanager
def _timed(report: Report, stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    report.seconds[stage] = time.perf_counter() - began


def _waited(records: Sequence[Message]) -> float | None:
    """Seconds since the first record was written; None where nobody knows."""
    kind, written = records[0].timestamp() if records else (TIMESTAMP_NOT_AVAILABLE, 0)
    return None if kind == TIMESTAMP_NOT_AVAILABLE else max(0.0, time.time() - written / 1000)


def _one_of_each(refused: Iterable[Refusal], records: Sequence[Message]) -> list[Refused]:
    """A dead letter of each reason and channel."""
    first = {(one.reason, one.channel): one for one in reversed(list(refused))}
    return [
        Refused(records[one.index].offset() or 0, one.reason, one.detail, one.channel, one.candid)
        for one in first.values()
    ]


def _fill_delivered(report: Report, outgoing: Outgoing, records: Sequence[Message]) -> None:
    """What went where, known when the transaction has been committed."""
    report.hidden, report.limited = outgoing.hidden, dict(outgoing.limited)
    report.matches = {name: [m.objectId for m in some] for name, some in outgoing.delivered.items() if some}
    report.dead_letters = dict(Counter(refusal.reason for refusal in outgoing.refused))
    report.refusals = _one_of_each(outgoing.refused, records)
    of_filters = (refusal.channel for refusal in outgoing.refused if refusal.stage == "filter")
    report.set_aside = dict(Counter(of_filters))


def _fill(report: Report, verdicts: Verdicts) -> None:
    report.alerts, report.objects = verdicts.alerts, verdicts.objects
    report.other_surveys, report.not_public = verdicts.other_surveys, verdicts.not_public
    report.failures, report.skipped = verdicts.failures, list(verdicts.gaps)
    report.chances = verdicts.chances
    report.seconds |= verdicts.seconds
    report.filter_seconds = verdicts.filter_seconds
