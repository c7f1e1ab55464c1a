"""The process of the exposure channels: reads, waits until exposures are whole, judges and delivers them.

It is a child of `zads run`, so that a filter that loops or eats memory ends this process alone, and nobody
else waits for an exposure. It tells its parent what it has done, and ends when the parent is gone.
"""

from __future__ import annotations

import faulthandler
import logging
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
from confluent_kafka import KafkaException, Message

from pipeline.broker import logs
from pipeline.broker.client import BrokerError, client_settings
from pipeline.broker.partition import Partition
from pipeline.broker.profile import SERVERS
from pipeline.broker.reading.ranges import Stalled
from pipeline.channels.channel import ChannelSet
from pipeline.channels.gaps import EXPOSURES_TOPIC as TOPIC
from pipeline.live.exposures.gathering import Key
from pipeline.live.exposures.keys import ExposureKeys
from pipeline.live.exposures.lane import ExposureLane, Judged, by_topic, place_of
from pipeline.live.membership import Membership
from pipeline.worker.deliver import Outgoing
from pipeline.worker.judging.evaluate import Evaluator
from pipeline.worker.work import ChannelFailure
from schemas.avro.framing import schema_source

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_ASK_SECONDS = 5.0
_TELL_SECONDS = 0.25
_COMMIT_SECONDS = 2.0
_MOST_BYTES = 16_000_000  # of alerts judged in one transaction
NAME_BYTES = 256


@dataclass(frozen=True)
class Task:
    """What the process is to do.

    kafka, group, replica, topics, schemas: as of the run; no secret. grace: milliseconds to wait for the
    rest of an exposure. seconds: for a filter. memory: bytes of data that this process may have, 0 for any.
    traceback: a file for where a filter was when its time was up.
    """

    kafka: dict[str, str]
    group: str
    replica: str
    topics: str
    schemas: str
    grace: int
    seconds: float
    memory: int
    traceback: str


@dataclass(frozen=True)
class Orders:
    """What the parent wants: these channels (cloudpickled), and to be told when `targets` are reached."""

    channels: bytes
    suspended: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[Partition, int] | None = None


@dataclass
class Told:
    """What has been done since it was told last.

    closed, late: exposures and records. waiting: records of open exposures. reached: the targets.
    """

    closed: int = 0
    late: int = 0
    waiting: int = 0
    reached: bool = False
    matches: dict[str, list[str]] = field(default_factory=dict)
    limited: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    failures: list[ChannelFailure] = field(default_factory=list)


class _Guard:
    """Notes where the parent can see it which filter runs; ends this process when its time is up."""

    def __init__(self, running: Any, traceback: str) -> None:
        self._running, self._file = running, open(traceback, "w")  # noqa: SIM115 (for as long as we live)

    @contextmanager
    def running(self, channel: str, seconds: float) -> Iterator[None]:
        self._running.value = channel.encode()[: NAME_BYTES - 1]
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._running.value = b""


def run(task: Task, orders: Orders, parent: Connection, running: Any) -> None:
    """The process.

    Parameters
    ----------
    task
        What it is to do.
    orders
        What the parent wants at the beginning.
    parent
        New orders come from there, None ends it; what was done goes there.
    running
        Shared bytes: the name of the channel whose filter runs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    if logs.wanted():
        logs.log_as_json(logging.WARNING)
    else:
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if task.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (task.memory, resource.RLIM_INFINITY))
    work = _Work(task, orders, running)
    while (new := _newest_orders(parent)) is not False:
        work.follow(new)
        try:
            work.step()
        except (KafkaException, BrokerError, Stalled) as error:
            log.warning("exposures: %s: beginning anew", error)
            work.begin_anew()
            time.sleep(_AGAIN_SECONDS)
        work.tell(parent)
    work.end()


def _newest_orders(parent: Connection) -> Orders | bool | None:
    """None for nothing new, False when it is time to end."""
    new = None
    try:
        while parent.poll(0):
            new = parent.recv()
            if new is None:
                return False
    except (EOFError, OSError):
        return False
    return new


class _Work:
    """What the process is at."""

    def __init__(self, task: Task, orders: Orders, running: Any) -> None:
        self._task, self._orders = task, orders
        self._guard = _Guard(running, task.traceback)
        self._set(orders)
        self._group = f"{task.group}-exposures"
        self._kafka = client_settings(task.kafka[SERVERS], **task.kafka)  # who we are, of this process
        self._membership = Membership(
            self._kafka, self._group, task.replica, f"^{TOPIC.replace('.', '[.]')}$"
        )
        self._lane: ExposureLane | None = None
        self._asked = time.monotonic()
        self._told, self._said, self._moved = Told(), 0.0, time.monotonic()

    def _set(self, orders: Orders) -> None:
        self._channels: ChannelSet = cloudpickle.loads(orders.channels)
        schemas = schema_source(self._task.schemas) if self._task.schemas else None
        self._evaluator = Evaluator(self._channels, schemas)
        self._keys = ExposureKeys(self._channels.surveys, schemas)

    def follow(self, orders: Orders | bool | None) -> None:
        """Take in new orders, between two transactions."""
        if not isinstance(orders, Orders):
            return
        if orders.channels != self._orders.channels:
            self._set(orders)
        self._orders = orders

    def begin_anew(self) -> None:
        """Let go of everything, and take it again."""
        if self._lane is not None:
            self._lane.close()
        self._lane = None
        self._kafka = client_settings(self._task.kafka[SERVERS], **self._task.kafka)
        self._membership.reconnect()

    def end(self) -> None:
        """Leave the group."""
        self.begin_anew()
        self._membership.close()

    def step(self) -> None:
        """A look at what has come. Raises KafkaException, BrokerError, Stalled."""
        if Partition(TOPIC, 0) not in self._membership.poll():
            if self._lane is not None:
                self.begin_anew()
            time.sleep(0.1)  # another replica has them
            if time.monotonic() - self._asked > _ASK_SECONDS:
                self._asked = time.monotonic()
                self._membership.ask()
            return
        if self._lane is None:
            patterns = "|".join([self._task.topics, *(f"^{name}$" for name in self._channels.inputs)])
            lane = ExposureLane(self._kafka, self._group, patterns, self._task.grace)
            lane.take(self._membership)
            self._lane = lane
        self._lane.look_for_topics(self._membership)
        late = self._take_in(self._lane, self._lane.read())
        self._judge(self._lane, late)

    def _take_in(self, lane: ExposureLane, records: Sequence[Message]) -> list[tuple[Key, Message]]:
        """Gather records; those that are late come back."""
        late = []
        for topic, some in by_topic(records).items():
            packets = [record.value() or b"" for record in some]
            for key, record in zip(self._keys.of(topic, packets), some, strict=True):
                if key is None:
                    continue  # the run's other half says what is wrong with it
                what = lane.gathering.seen(key, place_of(record), record.timestamp()[1])
                if what == "late":
                    late.append((key, record))
                elif what == "open":
                    lane.records[topic, place_of(record)] = record
        return late

    def _judge(self, lane: ExposureLane, late: Sequence[tuple[Key, Message]]) -> None:
        """Judge what is late and what is whole, some in each transaction."""
        judged, size = [], 0
        for key, record in late:
            before = lane.again(key, lane.gathering.closed[key])
            judged.append(self._judged(lane, key, [*before, record], late_from=len(before)))
            self._commit(lane, judged)
            judged = []
        for key in lane.gathering.due(lane.times()):
            members = [lane.records[key.topic, place] for place in lane.gathering.members(key)]
            judged.append(self._judged(lane, key, members))
            size += sum(len(record.value() or b"") for record in members)
            if size > _MOST_BYTES:
                self._commit(lane, judged)
                judged, size = [], 0
        if judged or time.monotonic() - self._moved > _COMMIT_SECONDS or self._orders.targets is not None:
            self._commit(lane, judged)

    def _judged(self, lane: ExposureLane, key: Key, records: list[Message], late_from: int = 0) -> Judged:
        """Ask the channels about an exposure; only of the records from `late_from` on is anything said."""
        (verdicts,) = self._evaluator.evaluate(
            [[record.value() or b"" for record in records]],
            key.topic,
            self._guard,
            suspended=dict(self._orders.suspended),
            filter_seconds=self._task.seconds,
            failing_alerts=0,
        )
        verdicts.leave_out_before(late_from)
        self._told.failures += verdicts.failures
        before, new = records[:late_from], records[late_from:]
        closing = lane.closing(key, [place_of(r) for r in new], late_from > 0)
        schemas, of = self._evaluator.schemas, closing.topic_id
        outgoing = Outgoing(self._channels, key.topic, verdicts, records, schemas, topic_id=of)
        return Judged(closing, outgoing, new, before)

    def _commit(self, lane: ExposureLane, judged: Sequence[Judged]) -> None:
        lane.commit(judged, self._channels, self._membership)
        self._moved = time.monotonic()
        for one in judged:
            self._note(one)

    def _note(self, one: Judged) -> None:
        """What is to be told of what was committed."""
        late = one.closing.reason == "late"
        self._told.closed += not late
        self._told.late += len(one.records) if late else 0
        for name, matches in one.outgoing.delivered.items():
            self._told.matches.setdefault(name, []).extend(match.objectId for match in matches)
        self._told.limited.update(one.outgoing.limited)
        self._told.dead_letters.update(refusal.reason for refusal in one.outgoing.refused)
        self._told.gaps.update(dict.fromkeys(one.outgoing.gaps, len(one.records)))

    def tell(self, parent: Connection) -> None:
        """Tell the parent a few times a second."""
        now = time.monotonic()
        if now - self._said < _TELL_SECONDS:
            return
        targets = self._orders.targets
        self._told.waiting = self._lane.waiting if self._lane is not None else 0
        self._told.reached = targets is not None and self._has_reached(targets)
        self._said = now
        with suppress(BrokenPipeError):  # the parent is gone: the next look for orders ends us
            parent.send(self._told)
        self._told = Told()

    def _has_reached(self, targets: Mapping[Partition, int]) -> bool:
        """Whether these offsets have been reached: here, or by another replica."""
        if self._lane is not None:
            return self._lane.has_reached(targets)
        try:
            stood = self._membership.committed(targets)
        except KafkaException:
            return False
        return all(p in stood and stood[p].offset >= end for p, end in targets.items())
