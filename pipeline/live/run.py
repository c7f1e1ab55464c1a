"""A live run: the graph, its membership of the group, and the decisions that tie them together."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaException
from dask.utils import parse_bytes
from distributed import Client

from pipeline.broker.client import SIZED, BrokerError, client_settings, patiently, topic_names
from pipeline.broker.dead_letters import SETTINGS as DEAD_LETTERS_SETTINGS
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS_TOPIC
from pipeline.broker.logs import about
from pipeline.broker.partition import Partition
from pipeline.broker.profile import SERVERS
from pipeline.broker.topics import TopicRefused, ensure_topics
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import (
    APPLIED_SETTINGS,
    APPLIED_TOPIC,
    EXPOSURES_SETTINGS,
    EXPOSURES_TOPIC,
    GAPS_SETTINGS,
    GAPS_TOPIC,
    ONCE_SETTINGS,
    ONCE_TOPIC,
)
from pipeline.channels.ledger import LEDGER_SETTINGS, LEDGER_TOPIC
from pipeline.channels.state import FAILED
from pipeline.live.beside import Place
from pipeline.live.exposures.reader import Task, Told
from pipeline.live.exposures.supervised import Exposures
from pipeline.live.fleet.fleet import Fleet
from pipeline.live.fleet.slots import Slots
from pipeline.live.graph import connect
from pipeline.live.in_force import InForce
from pipeline.live.membership import Membership, ReplacedError
from pipeline.live.recovery import Recovery
from pipeline.live.source import KafkaRanges
from pipeline.live.told.last_said import LastSaid
from pipeline.live.told.reported import tell
from pipeline.live.told.state import StateOf
from pipeline.live.told.statistics import Statistics
from pipeline.live.told.telling import Telling
from pipeline.live.unread import GapsOfDeleted
from pipeline.worker.process import prepare, process
from pipeline.worker.work import Report, Work
from schemas.errors import ZadsError

log = logging.getLogger(__name__)

Changes = Iterator[ChannelSet | None]
Answer = TypeVar("Answer")
Stopped = Callable[[], bool]
"""Whether the run has been told to stop."""
Feed = Callable[[Stopped], object]
Ship = Callable[[str], object]
_FINISH_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_AGAIN_SECONDS = 1.0


class NothingToReadError(ZadsError):
    """No topic matches the pattern, in a run that is to end when everything is read."""


def run_live(
    config: RunConfig,
    channels: ChannelSet,
    scheduler: str,
    *,
    until_drained: bool = False,
    feed: Feed | None = None,
    on_progress: Callable[[Statistics], None] = lambda statistics: None,
    changes: Changes | None = None,
    again: bool = False,
    ship: Ship | None = None,
) -> Statistics:
    """Run channels over the topics of a configuration on a Dask cluster.

    Runs until it is stopped (SIGINT, SIGTERM), unless `until_drained` or `feed` is given.

    Parameters
    ----------
    config
        The configuration, with broker and topics.
    channels
        The channels.
    scheduler
        Address of the Dask scheduler.
    until_drained
        End when everything that is there now has been delivered.
    feed
        Runs in a thread of its own beside the stream; when it returns, everything that is there then is
        delivered, and the run ends. It must return soon when the run is stopped.
    on_progress
        Called with the statistics.
    changes
        Iterated over in a thread of its own: gives channel sets that replace `channels` between two batches,
        and None while there is nothing new.
    again
        Deliver even what another group has delivered to these channels.
    ship
        Gives our code to the workers of the scheduler at an address: then one that is started again is waited
        for. None: the scheduler lives as long as the run.

    Raises
    ------
    ZadsError
        When the run cannot go on.
    """
    if until_drained:
        _refuse_nothing(config)
        feed = _nothing
    return asyncio.run(LiveRun(config, channels, changes, again, ship).run(scheduler, feed, on_progress))


class LiveRun:
    """One run of the live stream.

    Parameters
    ----------
    config
        The configuration.
    channels
        The channels at the start.
    changes
        Gives the channel sets that replace them, as for `run_live`.
    again
        As for `run_live`.
    ship
        As for `run_live`.
    """

    def __init__(
        self,
        config: RunConfig,
        channels: ChannelSet,
        changes: Changes | None = None,
        again: bool = False,
        ship: Ship | None = None,
    ) -> None:
        self._config, self._changes, self._again, self._ship = config, changes, again, ship
        self._kafka = {SERVERS: config.bootstrap_servers, **config.client}  # travels to the workers
        self._place, self._unread = Place(config), GapsOfDeleted(config)
        self._run = uuid.uuid4().hex[:12]
        self._recovery = Recovery()
        self._all = channels
        self._in_force = InForce(channels.of_scope("alert"), self._recovery)
        self.statistics = Statistics(channels=channels)
        self._said = LastSaid()
        self._state, self._telling = StateOf(config, self.statistics, self._said), Telling(config)
        task = _exposure_task(config, self._kafka)
        self._exposures = Exposures(
            task, channels.of_scope("exposure"), self._settle_exposures, self._suspend_one
        )

    async def run(
        self, scheduler: str, feed: Feed | None, on_progress: Callable[[Statistics], None]
    ) -> Statistics:
        """Build the graph, run it, and close everything in order; return the statistics.

        Parameters
        ----------
        scheduler
            Address of the Dask scheduler.
        feed
            As for `run_live`.
        on_progress
            Called with the statistics.

        Raises
        ------
        ZadsError
            When the run cannot go on.
        """
        with self._said:
            return await self._go(scheduler, feed, on_progress)

    async def _go(
        self, scheduler: str, feed: Feed | None, on_progress: Callable[[Statistics], None]
    ) -> Statistics:
        await asyncio.to_thread(patiently, self._prepare_topics)
        config, inputs = self._config, self._in_force.channels.inputs
        words = "replica %s of group %s: %d channels over the topics %s of %s"
        many = len(self._all.channels)
        log.info(words, config.replica, config.group, many, config.topics, config.bootstrap_servers)
        client = client_settings(config.bootstrap_servers, **config.client)
        self._membership = Membership(client, config.group, config.replica, config.topics, inputs)
        try:
            limits = (
                config.limits.batch_seconds,
                config.dispatch.batches_per_worker,
                config.dispatch.messages,
            )
            again = partial(self._connect_again, scheduler) if self._ship else None
            slots = Slots(self._kafka, config.group, config.replica, self._place)
            async with (
                Client(scheduler, asynchronous=True, set_as_default=False) as client,
                Fleet(client, *limits, again=again, slots=slots) as fleet,
            ):
                await fleet.prepare(prepare, self._in_force.shipped, self._config.schemas)
                await self._flow(fleet, feed, on_progress)
        finally:
            await asyncio.to_thread(self._exposures.close)
            await asyncio.to_thread(self._membership.close)
        return self.statistics

    async def _connect_again(self, scheduler: str) -> Client:
        """A client of a scheduler that was started again, when its workers have our code.

        Raises OSError or TimeoutError.
        """
        assert self._ship is not None
        client = await Client(scheduler, asynchronous=True, timeout=_CONNECT_SECONDS, set_as_default=False)
        try:
            await client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
            await asyncio.to_thread(self._ship, scheduler)
        except BaseException:
            await client.close(timeout=1)
            raise
        return client

    async def _flow(self, fleet: Fleet, feed: Feed | None, on_progress: Callable[[Statistics], None]) -> None:
        dispatch = self._config.dispatch
        self._source = KafkaRanges(
            self._membership,
            self._make_work,
            self._renew,
            lambda partition, low: self._recovery.limit(partition, low, dispatch.messages),
            dispatch.milliseconds,
            fleet.has_room,
            fleet.hand_over,
            stream_name=f"Kafka {self._config.topics}",
        )
        on_workers = connect(self._source, process, fleet, self.settle)
        watching = asyncio.create_task(self._exposures.watch())
        reporting = asyncio.create_task(self._report(fleet, on_progress))
        flowing = asyncio.create_task(self._until_stopped())
        replicas = asyncio.create_task(self._watch_group())
        telling = asyncio.create_task(self._telling.go_on(partial(self._state.now, self._source)))
        beside = [asyncio.create_task(self._feed(feed))] if feed else []
        beside += [asyncio.create_task(self._follow(self._changes, fleet))] if self._changes else []
        try:
            running = {flowing, watching, replicas, telling, on_workers.failed, *beside}
            await _first_failure(running, until=flowing)
        finally:
            self._source.stop()
            if handed_back := await on_workers.finish(_FINISH_SECONDS):
                log.warning("%d batches handed back unfinished: the next run does them", handed_back)
            await fleet.fence_the_rest()
            for task in (reporting, watching, flowing, replicas, telling, on_workers.failed, *beside):
                task.cancel()
            self._observe(fleet, on_progress)
            await self._note_unread()
            await self._tell_the_end(sys.exception())

    async def _tell_the_end(self, error: BaseException | None) -> None:
        if isinstance(error, ReplacedError):
            return  # what stands there is another's now
        ended = "it was stopped" if self.statistics.stopped else "all was done"
        if error is not None:
            ended = f"{FAILED}{error or type(error).__name__}"
        await asyncio.to_thread(self._telling.end, self._state.now(self._source, ended))

    async def _feed(self, feed: Feed) -> None:
        """Run `feed`, then let the stream end where the topics end at that time.

        What channels have as their input has been written by then, and may have been another's input too: so
        it is looked at again for each of these topics.
        """
        await asyncio.to_thread(feed, lambda: self.statistics.stopped)
        ends = await self._answered(lambda: self._ends_of(_topics_of(self._config)))
        await self._source.reach(ends)
        await self._exposures.reach(ends)
        for _ in self._all.inputs:
            inputs = self._in_force.channels.inputs
            await self._source.reach(await self._answered(partial(self._settled_ends_of, inputs)))
            theirs = self._all.of_scope("exposure").inputs
            await self._exposures.reach(await self._answered(partial(self._settled_ends_of, theirs)))
        self._source.stop()

    async def _answered(self, ask: Callable[[], Answer]) -> Answer:
        """What the broker answers, as soon as it does."""
        while True:
            try:
                return await asyncio.to_thread(ask)
            except (KafkaException, BrokerError) as error:
                self._source.lasting.warn("the broker does not answer, asking again", error)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow(self, changes: Changes, fleet: Fleet) -> None:
        """Put each channel set in force as soon as its topics are there and the workers have it loaded."""
        while True:
            channels = await asyncio.to_thread(next, changes)
            if channels is None or channels.version == self._all.version:
                continue
            refused = await self._answered(partial(self._prepare_channels, channels))
            alerts, exposures = channels.of_scope("alert"), channels.of_scope("exposure")
            shipped = alerts.to_bytes()
            await fleet.prepare(prepare, shipped, self._config.schemas)
            await asyncio.to_thread(self._place.change, channels)
            self._in_force.switch(alerts, shipped)
            self._in_force.forgive_changed(self._all.of_scope("exposure"), exposures)
            self._all = channels
            self._suspend(refused)
            self._exposures.follow(exposures, self._recovery.suspended)
            self._membership.read_others(alerts.inputs)
            self.statistics.channels = channels
            self._tell_suspended()

    async def _note_unread(self) -> None:
        await asyncio.to_thread(self._unread.write, self._source.unread, self._in_force.channels)

    async def _watch_group(self) -> None:
        """After each rebalance, end what replicas that have gone have left open; tell what was deleted."""
        known: object = None
        while True:
            now = self._membership.metadata
            if known and now != known:
                await asyncio.to_thread(self._place.fence_departed)
            known = now
            await self._note_unread()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _until_stopped(self) -> None:
        """Let the source run until it stops by itself or a signal comes; a second signal is not caught."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        self._source.stopped = False
        await self._source.run()

    def _stop(self, number: int) -> None:
        log.info("stopping: finishing what is in flight (once more to leave at once)")
        asyncio.get_running_loop().remove_signal_handler(number)
        self.statistics.stopped = True
        self._source.stop()

    def settle(self, report: Report) -> None:
        """Count what became of a batch, decide what follows, and tell the source."""
        self.statistics.add(report)
        tell(report, self._source.lasting)
        if report.outcome == "setup":
            raise SetupError(f"no batch can be done: {report.message}", hint=report.traceback or None)
        before = set(self._recovery.suspended)
        following = self._recovery.after(report)
        self._in_force.settled(report)
        for channel in self._recovery.suspended.keys() - before:
            why = self._recovery.suspended[channel]
            log.error("channel %s suspended: %s", channel, why, extra=about(channel=channel))
        self._tell_suspended()
        self._source.settle(report.work, following, report.lost if report.outcome == "moved" else "")

    def _suspend(self, channels: Mapping[str, str]) -> None:
        """Channels that cannot run leave gaps, and keep nobody else from running."""
        for name, why in channels.items():
            log.error("channel %s suspended: %s", name, why, extra=about(channel=name))
            self._recovery.suspend(name, why)

    def _suspend_one(self, name: str, why: str, traceback: str) -> None:
        """An exposure channel whose filter ends its process."""
        self._suspend({name: why})
        self._recovery.tracebacks[name] = traceback
        self._tell_suspended()

    def _settle_exposures(self, told: Told) -> None:
        """Count what the exposure channels have done; a filter that failed is run no more."""
        self.statistics.add_exposures(told)
        for failure in told.failures:
            if failure.channel not in self._recovery.suspended:
                self._suspend_one(failure.channel, failure.message, failure.traceback)
        self._in_force.delivered(self._all.of_scope("exposure"), told.matches)
        self._tell_suspended()

    def _tell_suspended(self) -> None:
        self._exposures.leave_out(self._recovery.suspended)
        self.statistics.suspended = dict(self._recovery.suspended)
        self.statistics.tracebacks = dict(self._recovery.tracebacks)
        self.statistics.alarms = dict(self._in_force.alarms)

    def _make_work(self, partition: Partition, low: int, high: int, flight: int) -> Work:
        limits, channels = self._config.limits, self._in_force.channels
        return Work(
            partition=partition,
            low=low,
            high=high,
            attempt=1,
            ask=True,
            run=self._run,
            flight=flight,
            group=self._config.group,
            membership=self._membership.metadata,
            kafka=self._kafka,
            channels=self._in_force.shipped,
            version=channels.version,
            filter_seconds=limits.filter_seconds,
            failing_alerts=limits.failing_alerts,
            schemas=self._config.schemas,
            suspended=dict(self._recovery.suspended),
            own_slot=channels.remembers_objects(partition.topic),
        )

    def _renew(self, work: Work) -> Work:
        """The same work as of now: another attempt may fall into another generation of the group."""
        return replace(self._in_force.renewed(work), membership=self._membership.metadata)

    def _prepare_channels(self, channels: ChannelSet) -> dict[str, str]:
        """Make the channels' topics; the channels that cannot run, each by itself, and why."""
        refused = dict(channels.refused)
        if any(channel.limits.once for channel in channels.channels):
            self._ensure([ONCE_TOPIC], ONCE_SETTINGS)
        if channels.of_scope("exposure").channels:
            self._ensure([EXPOSURES_TOPIC], EXPOSURES_SETTINGS)
        try:
            self._ensure([channel.topic for channel in channels.channels], SIZED)
        except BrokerError:
            for channel in channels.channels:
                try:
                    self._ensure([channel.topic], SIZED)
                except TopicRefused as error:
                    refused[channel.name] = str(error)
        return refused

    def _ensure(self, topics: list[str], settings: dict[str, str]) -> None:
        config = self._config
        ensure_topics(config.bootstrap_servers, topics, partitions=1, config=settings, **config.client)

    def _prepare_topics(self) -> None:
        _ = self._all.version, self._in_force.channels.version  # reads every filter's sources, up to a second
        self._place.announce(self._all, self._again)
        self._suspend(self._prepare_channels(self._all))
        self._ensure([DEAD_LETTERS_TOPIC], DEAD_LETTERS_SETTINGS)
        self._ensure([GAPS_TOPIC], GAPS_SETTINGS)
        self._ensure([APPLIED_TOPIC], APPLIED_SETTINGS)
        self._ensure([LEDGER_TOPIC], LEDGER_SETTINGS)

    def _ends_of(self, topics: Iterable[str]) -> dict[Partition, int]:
        return self._membership.ends(self._membership.partitions_of(topics))

    def _settled_ends_of(self, topics: Iterable[str]) -> dict[Partition, int]:
        places = self._membership.partitions_of(topics)
        return self._membership.settled_ends(places, lambda: self.statistics.stopped)

    async def _report(self, fleet: Fleet, on_progress: Callable[[Statistics], None]) -> None:
        while True:
            self._observe(fleet, on_progress)
            await asyncio.sleep(0.25)

    def _observe(self, fleet: Fleet, on_progress: Callable[[Statistics], None]) -> None:
        self.statistics.workers, self.statistics.taken = fleet.workers, fleet.taken
        self.statistics.partitions, self.statistics.away = len(self._source.progress), self._source.away
        places = self._source.progress.values()
        self.statistics.lag = sum(progress.lag for progress in places)
        self.statistics.unknown = sum(progress.is_unknown for progress in places)
        self.statistics.set_aside = {str(p): why for p, why in self._source.set_aside.items()}
        self.statistics.made_again = dict(self._source.made_again)
        self.statistics.deleted = dict(self._source.deleted)
        on_progress(self.statistics)


def _exposure_task(config: RunConfig, kafka: dict[str, str]) -> Task:
    return Task(
        kafka=kafka,
        group=config.group,
        replica=config.replica,
        topics=config.topics,
        schemas=config.schemas,
        grace=round(config.exposures.grace_seconds * 1000),
        seconds=config.limits.filter_seconds,
        memory=parse_bytes(config.dask.memory),
        traceback="",
    )


def _nothing(_: Stopped) -> None:
    """The feed of a run that only delivers what is there already."""


def _topics_of(config: RunConfig) -> list[str]:
    return topic_names(config.bootstrap_servers, config.topics, **config.client)


def _refuse_nothing(config: RunConfig) -> None:
    if not _topics_of(config):
        raise NothingToReadError(
            f"no topic at {config.bootstrap_servers} matches {config.topics}",
            hint="publish a night with `zads publish`, or name other topics with --topics",
        )


class SetupError(ZadsError):
    """Nothing works, whatever the records, until somebody changes a setting."""


async def _first_failure(running: set[asyncio.Future[Any]], until: asyncio.Future[Any]) -> None:
    """Wait for `until`; raises what any of `running` raises before."""
    while not until.done():
        done, running = await asyncio.wait(running, return_when="FIRST_COMPLETED")
        for finished in done:
            finished.result()
