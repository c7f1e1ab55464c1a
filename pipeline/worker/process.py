"""The one task of the live stream: read, decode, filter and publish some ranges, each exactly once.

Runs on a Dask worker and never raises: whatever happens comes back as a Report, since an exception
inside a task would silently end the stream behind it. Ranges of several partitions are read each by itself;
the filters see all of their alerts in one pass, and one transaction delivers them. Where that cannot be
committed, nothing of it is, and its halves are tried.
"""

from __future__ import annotations

import logging
import resource
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, lru_cache, partial
from typing import Any

import cloudpickle
import psutil
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from distributed import Worker, get_worker

from filters.sandbox.trials import in_a_hurry
from pipeline.broker import logs
from pipeline.broker.client import BrokerError, admin_client, client_settings, sentence
from pipeline.broker.paced import Paced
from pipeline.broker.profile import SERVERS
from pipeline.broker.ranges import Stalled
from pipeline.broker.topics import topic_ids, unwritable
from pipeline.worker.deliver import UNREADABLE, Outgoing, applied_record, loss_records
from pipeline.worker.evaluate import Evaluator
from pipeline.worker.lane import Behind, Lanes, Moved
from pipeline.worker.outcome import MadeAgain, Stage, outcome_of
from pipeline.worker.remembered import Admission
from pipeline.worker.running import RunningNote, scratch_folder
from pipeline.worker.slot import Slot, Slots
from pipeline.worker.tally import tally
from pipeline.worker.verdicts import Failed, Refusal, Verdicts
from pipeline.worker.work import Refused, Report, Work, again_together
from schemas.avro.framing import schema_source
from schemas.errors import NoSchemaSource

_SIDE_BY_SIDE = 8
_PATIENCE = 60.0  # seconds for a schema id that the registry does not have yet
_KAFKA_SECONDS = 10.0
_lanes, _slots, _failed = Lanes(), Slots(), Failed()


def prepare(channels: bytes, schemas: str) -> None:
    """Load the code, the filters and the compiled decoder into this worker before there is work."""
    _begin()
    _failed.forget()
    _evaluator(channels, schemas).prepare()


@cache
def _begin() -> None:
    """Once in each worker: log in the form that is asked for, have Dask told what we hold, and be allowed as
    many open files as the system lets anybody have: each partition's client takes some."""
    if logs.wanted():
        logs.log_as_json(logging.WARNING)
    with suppress(ValueError):  # not in a worker
        get_worker().metrics["zads"] = _held
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _held(_: Worker) -> dict[str, int]:
    """What Dask does not measure itself: told with each heartbeat."""
    return {"threads": psutil.Process().num_threads(), "lanes": len(_lanes)}


def open_slot(kafka: Mapping[str, Any], name: str) -> str:
    """Take a slot, for work that comes later; "", or why it cannot be taken.

    Parameters
    ----------
    kafka
        Of [kafka] and the broker: no secret.
    name
        The slot's.
    """
    try:
        _slots.open(client_settings(kafka[SERVERS], **kafka), name)
    except KafkaException as error:
        return sentence(error.args[0])
    return ""


def process(works: Sequence[Work], slot: str) -> list[Report]:
    """Process compatible pieces of work (see Work.kin); return one report for each.

    Parameters
    ----------
    works
        The work.
    slot
        Name of the worker's slot, opened before.
    """
    _begin()
    if _slots.get(slot) is None and not all(work.own_slot for work in works):
        return again_together(works, f"slot {slot} is not open here", is_open=True)
    note = RunningNote(works[0])  # one names the filter that is running; the others are just done again
    if (culprit := note.left_by_an_attempt_before()) is not None:
        note.remove()
        channel, words = culprit
        return [Report(work, "culprit", culprit=channel, traceback=words) for work in works]
    steps = [_Step(work) for work in works]
    _lanes.begin_bundle(works)
    _side_by_side(steps, _Step.take)
    if works[0].control:
        with note:
            _verdicts(works[0], [[]], note)
        return [Report(work, "control") for work in works]
    with note:
        _read([step for step in steps if step.going])
        going = [step for step in steps if step.going]
        known = {step.work.partition.topic for step in going if step.work.topic_id}
        ids = _threads().submit(_topic_ids, works[0], known)
        for kind in _by_kind(going):
            _judge(kind, note)
    for step in going:
        step.safely(partial(_refuse_another_topic, step.work, ids))
        step.safely(step.address)
    _side_by_side([step for step in going if step.remembers], _Step.recall)
    _publish([step for step in steps if step.going], slot)
    return [step.report for step in steps]


def _read(steps: Sequence[_Step]) -> None:
    """Those with a consumer of their own side by side, the others together beside them."""
    alone = [step for step in steps if step.lane.reads_alone]
    together = [step for step in steps if not step.lane.reads_alone]
    others = _threads().submit(_read_together, together)
    _side_by_side(alone, _Step.read)
    others.result()


def _read_together(steps: Sequence[_Step]) -> None:
    if not steps:
        return
    began = time.perf_counter()
    for step in steps:
        step.stage = "read"
    found = _lanes.read([step.work for step in steps])
    seconds = (time.perf_counter() - began) / len(steps)
    for step in steps:
        step.report.seconds["read"] = seconds
        step.safely(partial(step.has, found[step.work.partition]))


def _publish(steps: Sequence[_Step], slot: str) -> None:
    """One transaction for all, and one for each that has a slot of its own, side by side."""
    shared = [step for step in steps if step.own_slot is None]
    groups = [(shared, _slots.get(slot))] if shared else []
    groups += [([step], step.own_slot) for step in steps if step.own_slot is not None]
    ended = _all_of([partial(_commit, some, its) for some, its in groups])
    for (some, _), one in zip(groups, ended, strict=True):
        for step in some:
            step.safely(one.result)


def _commit(steps: Sequence[_Step], slot: Slot | None) -> None:
    """Deliver, and go on in all partitions, in one transaction."""
    began = time.perf_counter()
    assert slot is not None
    try:
        slot.commit([step.send for step in steps], steps[0].work.membership)
    except Exception as error:
        _not_committed(steps, slot, error)
        return
    seconds = (time.perf_counter() - began) / len(steps)
    for step in steps:
        step.safely(partial(step.committed, seconds))


def _not_committed(steps: Sequence[_Step], slot: Slot, error: Exception) -> None:
    """The report on each: what is said of one is said of all, unless it may be another's fault."""
    first, seconds = steps[0], time.monotonic() - slot.began
    for step in steps:
        _lanes.drop(step.work)
    report = replace(_ended_by(first, error, seconds), open=not slot.open)
    if len(steps) > 1 and report.outcome not in ("stale", "output"):
        report = replace(report, outcome="together", traceback="")
    for step, party in zip(steps, _halves([step.work for step in steps]), strict=True):
        step.report, step.going = replace(report, work=step.work, party=party), False


def _halves(works: Sequence[Work]) -> list[str]:
    """The name of the half that each belongs to; "" where that is one alone."""
    first = (len(works) + 1) // 2
    halves = works[:first], works[first:]
    return [half[0].key if len(half) > 1 else "" for half in halves for _ in half]


def _topic_ids(work: Work, topics: Collection[str]) -> Mapping[str, str]:
    """Of the topics as they are now. Raises BrokerError."""
    return topic_ids(_admin(tuple(work.kafka.items())), topics, _KAFKA_SECONDS) if topics else {}


def _refuse_another_topic(work: Work, now: Future[Mapping[str, str]]) -> None:
    """Raise MadeAgain unless the topic, after its records were read, is still the one that the work is of."""
    topic = work.partition.topic
    if work.topic_id and now.result().get(topic) != work.topic_id:
        raise MadeAgain(f"{topic} was deleted, or deleted and made again")


def _by_kind(steps: Sequence[_Step]) -> list[list[_Step]]:
    """Those together whose records the same channels read: they are judged in one pass."""
    if not steps:
        return []
    evaluator = _evaluator(steps[0].work.channels, steps[0].work.schemas)  # of all: they are kin
    kind_of = cache(evaluator.kind_of)
    kinds: dict[tuple[object, ...], list[_Step]] = {}
    for step in steps:
        kinds.setdefault(kind_of(step.work.partition.topic), []).append(step)
    return list(kinds.values())


@lru_cache(maxsize=2)
def _admin(kafka: tuple[tuple[str, Any], ...]) -> AdminClient:
    settings = dict(kafka)
    return admin_client(settings[SERVERS], **settings)


class _Step:
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
        self.report, self.going = _ended_by(self, error), False

    def take(self) -> None:
        """Make sure that the partition is ours."""
        self.lane = _lanes.for_work(self.work)

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
        evaluator = _evaluator(self.work.channels, self.work.schemas)
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
        channels = _evaluator(work.channels, work.schemas).channels
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


def _judge(steps: list[_Step], note: RunningNote) -> None:
    """Have the channels see the records of all steps in one pass."""
    if not steps:
        return
    for step in steps:
        step.stage = "judge"
    try:
        verdicts = _verdicts(steps[0].work, [step.packets for step in steps], note)
    except Exception as error:
        fails_on_nothing = not _judges_nothing(steps[0].work, note)
        for step in steps:
            step.stopped_by(error)
            if fails_on_nothing and step.report.outcome == "raised":
                step.report.outcome = "setup"  # no record's fault: none was there
        return
    for step, found in zip(steps, verdicts, strict=True):
        step.judged(found)


def _judges_nothing(work: Work, note: RunningNote) -> bool:
    """Whether the channels can be run at all, on no packet."""
    try:
        _verdicts(work, [[]], note)
    except Exception:
        return False
    return True


def _verdicts(work: Work, batches: list[list[bytes]], note: RunningNote) -> list[Verdicts]:
    if work.unreadable:
        (packets,) = batches
        every = range(len(packets))
        return [Verdicts(refused=[Refusal(i, "decode", UNREADABLE, work.unreadable) for i in every])]
    failed = _failed.under((work.run, work.version))
    with in_a_hurry(scratch_folder()):
        found = _evaluator(work.channels, work.schemas).evaluate(
            batches,
            work.partition.topic,
            note,
            suspended={**{channel: failure.message for channel, failure in failed.items()}, **work.suspended},
            filter_seconds=work.filter_seconds,
            failing_alerts=work.failing_alerts,
        )
    for verdicts in found:  # who has failed says so until the coordinator knows
        before = [failed[name] for name in verdicts.gaps if name in failed and name not in work.suspended]
        verdicts.failures += before
    _failed.note(failure for verdicts in found for failure in verdicts.failures)
    return found


def _side_by_side(steps: Sequence[_Step], function: Callable[[_Step], None]) -> None:
    """Have each step that goes on do the next thing: they wait for the broker side by side.

    What fails is looked at when all have ended: a lane must not be dropped while another thread is in it.
    """
    going = [step for step in steps if step.going]
    outcomes = _all_of([partial(function, step) for step in going])
    for step, one in zip(going, outcomes, strict=True):
        step.safely(one.result)


def _all_of(calls: Sequence[Callable[[], None]]) -> list[Future[None]]:
    """Call all of them, several at a time in threads; returns when all have ended."""
    done = [_threads().submit(call) for call in calls]
    wait(done)
    return done


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="step")


def _ended_by(step: _Step, error: Exception, seconds: float = 0.0) -> Report:
    """The report on work that an exception has ended; its lane is not used again.

    seconds: how long its transaction was open.
    """
    work = step.work
    if not isinstance(error, Moved | Behind | NoSchemaSource):
        _lanes.drop(work)
    if isinstance(error, BrokerError | Stalled):
        _lanes.all_stalled = True  # what has stalled once has stalled in all of them
        _admin.cache_clear()  # our password may have been rotated
    outputs = _outputs(work) if step.stage == "publish" else {}
    return outcome_of(work, error, step.stage, seconds, outputs, lambda: _unwritable(work, outputs))


def _outputs(work: Work) -> dict[str, str]:
    """Topic -> channel, of those that run."""
    channels = _evaluator(work.channels, work.schemas).channels.channels
    return {channel.topic: channel.name for channel in channels if channel.name not in work.suspended}


def _unwritable(work: Work, topics: Iterable[str]) -> dict[str, str] | None:
    """Which of these topics take no records from us, and why; None when the broker does not answer."""
    try:
        return unwritable(_admin(tuple(work.kafka.items())), topics, _KAFKA_SECONDS)
    except BrokerError:
        return None


@contextmanager
def _timed(report: Report, stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    report.seconds[stage] = time.perf_counter() - began


@lru_cache(maxsize=2)
def _evaluator(channels: bytes, schemas: str) -> Evaluator:
    return Evaluator(cloudpickle.loads(channels), schema_source(schemas, _PATIENCE) if schemas else None)


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
