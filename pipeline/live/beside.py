"""Other groups and replicas beside a run: who else delivers to its channels, and what they have left open."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable
from dataclasses import replace

from confluent_kafka import KafkaException

from pipeline.broker.client import BrokerError, client_settings, sentence, topic_names
from pipeline.broker.members import replicas
from pipeline.broker.profile import SERVERS
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.groups import Delivering, announce, differences, groups, refuse_second_group
from pipeline.live.fleet.slots import fence_slots
from pipeline.worker.holding.slot import slot_name

log = logging.getLogger(__name__)

_NUMBERS_AT_ONCE = 8


class Place:
    """What a run has announced of itself in zads.groups: its channels, and the slots of its workers.

    Parameters
    ----------
    config
        The configuration, with group and replica.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._mine = Delivering(config.group, config.replica, (), config.topics)
        self._free: list[int] = []  # numbers that are announced and not given
        self._used: set[int] = set()  # numbers of slots that may have something open

    def announce(self, channels: ChannelSet, again: bool) -> None:
        """Make sure that no other group delivers to these channels, and announce that this one does.

        Replicas of this group that run with other channels are told. The slots of the run before this one
        are fenced, and those of replicas that run no more.

        Parameters
        ----------
        channels
            The channels of the run.
        again
            Deliver all the same what another group has delivered.

        Raises
        ------
        SecondGroup
            When another group delivers to them.
        BrokerError
            When the broker does not answer.
        """
        bootstrap, kafka = self._config.bootstrap_servers, self._config.client
        mine, known = delivering(self._config, channels), groups(bootstrap, **kafka)
        if not again:
            refuse_second_group(mine, known, topic_names(bootstrap, **kafka))
        running = _replicas(self._config)
        for words in differences(mine, known, running or []):
            log.warning("%s", words)
        (before,) = [one for one in known if _same(one, mine)] or [mine]
        not_fenced = fence_slots({SERVERS: bootstrap, **kafka}, left_open(mine, known, running))
        self._used = {n for n in before.slots if slot_name(mine.group, mine.replica, n) in not_fenced}
        self._mine = replace(mine, numbered=before.numbered)
        with self._lock:
            self._announce_more()

    def fence_departed(self) -> None:
        """Fence the slots of replicas that run no more: their partitions are others' now, perhaps ours."""
        config = self._config
        try:
            known = groups(config.bootstrap_servers, **config.client)
        except BrokerError as error:
            log.debug("the other replicas are not known: %s", error)
            return
        others = [one for one in known if one.replica != config.replica]
        names = left_open(self._mine, others, _replicas(config))
        fence_slots({SERVERS: config.bootstrap_servers, **config.client}, names)

    def change(self, channels: ChannelSet) -> None:
        """Announce other channels under way; a broker that is away hears of it with the next change."""
        now = delivering(self._config, channels)
        with self._lock:
            self._mine = replace(self._mine, channels=now.channels, whole=now.whole)
            try:
                self._write()
            except BrokerError as error:
                log.warning("the channels could not be announced: %s", error)

    def take(self) -> int:
        """A number that no slot of this replica has had; it is announced. Raises BrokerError."""
        with self._lock:
            if not self._free:
                self._announce_more()
            number = self._free.pop(0)
            self._used.add(number)
            return number

    def done(self, number: int) -> None:
        """The slot of this number has nothing open any more, and will have nothing."""
        with self._lock:
            self._used.discard(number)

    def _announce_more(self) -> None:
        first = self._mine.numbered
        more = range(first, first + _NUMBERS_AT_ONCE)
        before = self._mine
        self._mine = replace(before, numbered=more.stop)
        try:
            self._write(more)
        except BrokerError:
            self._mine = before
            raise
        self._free += more

    def _write(self, more: Iterable[int] = ()) -> None:
        self._mine = replace(self._mine, slots=tuple(sorted({*self._used, *self._free, *more})))
        announce(self._mine, self._config.bootstrap_servers, **self._config.client)


def delivering(config: RunConfig, channels: ChannelSet) -> Delivering:
    """What the run delivers with these channels."""
    names = tuple(channel.name for channel in channels.channels)
    exposures = channels.of_scope("exposure")
    whole = (config.topics, *(f"^{name}$" for name in exposures.inputs)) if exposures.channels else ()
    return Delivering(config.group, config.replica, names, config.topics, whole)


def left_open(mine: Delivering, known: Iterable[Delivering], running: Collection[str] | None) -> set[str]:
    """Names of the slots whose coordinator is gone: ours of before, and those of replicas that do not run.

    Parameters
    ----------
    mine
        This replica of the group.
    known
        All that have been announced.
    running
        Names of the replicas of the group that run now; None: it is not known.
    """
    gone = [
        one
        for one in known
        if one.group == mine.group
        and (one.replica == mine.replica or (running is not None and one.replica not in running))
    ]
    return {slot_name(one.group, one.replica, number) for one in gone for number in one.slots}


def _same(one: Delivering, other: Delivering) -> bool:
    return (one.group, one.replica) == (other.group, other.replica)


def _replicas(config: RunConfig) -> list[str] | None:
    """The replicas of the group that run now, where that is known."""
    try:
        return replicas(client_settings(config.bootstrap_servers, **config.client), config.group)
    except KafkaException as error:  # a group that never ran, or a broker that has just begun
        log.debug("the group's members are not known: %s", sentence(error.args[0]))
        return None
