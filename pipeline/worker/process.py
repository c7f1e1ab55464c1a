"""The one task of the live stream: read, decode, filter and publish some ranges, each exactly once.

Runs on a Dask worker and never raises: whatever happens comes back as a Report, since an exception
inside a task would silently end the stream behind it. Ranges of several partitions are read in one request,
the filters see all of their alerts in one pass, and one transaction delivers them. Where that cannot be
committed, nothing of it is, and its halves are tried.
"""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

import psutil
from confluent_kafka import KafkaException, Message
from distributed import Worker, get_worker

from filters.sandbox.trials import in_a_hurry
from pipeline.broker import logs
from pipeline.broker.client import client_settings, sentence
from pipeline.broker.partition import Partition
from pipeline.broker.profile import SERVERS
from pipeline.broker.topics import topic_ids
from pipeline.worker.deliver import UNREADABLE
from pipeline.worker.holding.slot import Slot, Slots
from pipeline.worker.judging.running import RunningNote, scratch_folder
from pipeline.worker.judging.verdicts import Failed, Refusal, Verdicts
from pipeline.worker.outcome import MadeAgain
from pipeline.worker.step import KAFKA_SECONDS, Step, admin_of, ended_by, evaluator_of, lanes
from pipeline.worker.work import Report, Work, again_together

_SIDE_BY_SIDE = 8
_slots, _failed = Slots(), Failed()


def prepare(channels: bytes, schemas: str) -> None:
    """Load the code, the filters and the compiled decoder into this worker before there is work."""
    _begin()
    _failed.forget()
    evaluator_of(channels, schemas).prepare()


@cache
def _begin() -> None:
    """Once in each worker: log in the form that is asked for, have Dask told what we hold, and be allowed as
    many open files as the system lets anybody have: each client takes some."""
    if logs.wanted():
        logs.log_as_json(logging.WARNING)
    with suppress(ValueError):  # not in a worker
        get_worker().metrics["zads"] = _held
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _held(_: Worker) -> dict[str, int]:
    """What Dask does not measure itself: told with each heartbeat."""
    return {"threads": psutil.Process().num_threads(), "lanes": len(lanes)}


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
    steps = [Step(work) for work in works]
    lanes.begin_bundle(works)
    _side_by_side(steps, Step.take)
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
    _side_by_side([step for step in going if step.remembers], Step.recall)
    _publish([step for step in steps if step.going], slot)
    return [step.report for step in steps]


def _read(steps: Sequence[Step]) -> None:
    """Those with a consumer of their own side by side, the others together beside them."""
    alone = [step for step in steps if step.lane.reads_alone]
    together = [step for step in steps if not step.lane.reads_alone]
    others = _threads().submit(_read_together, together)
    _side_by_side(alone, Step.read)
    others.result()


def _read_together(steps: Sequence[Step]) -> None:
    if not steps:
        return
    began = time.perf_counter()
    for step in steps:
        step.stage = "read"
    found: Mapping[Partition, list[Message] | Exception]
    try:
        found = lanes.read([step.work for step in steps])
    except Exception as error:  # of their client: each says it
        found = dict.fromkeys((step.work.partition for step in steps), error)
    seconds = (time.perf_counter() - began) / len(steps)
    for step in steps:
        step.report.seconds["read"] = seconds
        step.safely(partial(step.has, found[step.work.partition]))


def _publish(steps: Sequence[Step], slot: str) -> None:
    """One transaction for all, and one for each that has a slot of its own, side by side."""
    shared = [step for step in steps if step.own_slot is None]
    groups = [(shared, _slots.get(slot))] if shared else []
    groups += [([step], step.own_slot) for step in steps if step.own_slot is not None]
    ended = _all_of([partial(_commit, some, its) for some, its in groups])
    for (some, _), one in zip(groups, ended, strict=True):
        for step in some:
            step.safely(one.result)


def _commit(steps: Sequence[Step], slot: Slot | None) -> None:
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


def _not_committed(steps: Sequence[Step], slot: Slot, error: Exception) -> None:
    """The report on each: what is said of one is said of all, unless it may be another's fault."""
    first, seconds = steps[0], time.monotonic() - slot.began
    for step in steps:
        lanes.drop(step.work)
    report = replace(ended_by(first, error, seconds), open=not slot.open)
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
    return topic_ids(admin_of(tuple(work.kafka.items())), topics, KAFKA_SECONDS) if topics else {}


def _refuse_another_topic(work: Work, now: Future[Mapping[str, str]]) -> None:
    """Raise MadeAgain unless the topic, after its records were read, is still the one that the work is of."""
    topic = work.partition.topic
    if work.topic_id and now.result().get(topic) != work.topic_id:
        raise MadeAgain(f"{topic} was deleted, or deleted and made again")


def _by_kind(steps: Sequence[Step]) -> list[list[Step]]:
    """Those together whose records the same channels read: they are judged in one pass."""
    if not steps:
        return []
    evaluator = evaluator_of(steps[0].work.channels, steps[0].work.schemas)  # of all: they are kin
    kind_of = cache(evaluator.kind_of)
    kinds: dict[tuple[object, ...], list[Step]] = {}
    for step in steps:
        kinds.setdefault(kind_of(step.work.partition.topic), []).append(step)
    return list(kinds.values())


def _judge(steps: list[Step], note: RunningNote) -> None:
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
        found = evaluator_of(work.channels, work.schemas).evaluate(
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


def _side_by_side(steps: Sequence[Step], function: Callable[[Step], None]) -> None:
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
