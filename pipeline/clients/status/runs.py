"""What runs have said of themselves, laid beside what Kafka says of their groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from confluent_kafka import KafkaException

from pipeline.broker.client import BrokerError, client_settings, sentence
from pipeline.broker.members import replicas
from pipeline.channels.config import RunConfig
from pipeline.channels.state import RunState, Stuck, states
from pipeline.clients.status.group import GroupStatus, PartitionStatus

_BY_KAFKA_ALONE = ("made again", "beyond the end", "deleted unread", "unreadable")


def runs_now(runs: Iterable[RunState], groups: Iterable[GroupStatus]) -> list[RunState]:
    """Of those that have told their state, the ones that are members of their group now."""
    members = {(group.group, replica) for group in groups for replica in group.replicas}
    return [run for run in runs if (run.group, run.replica) in members and not run.ended]


def as_told(group: GroupStatus, runs: Iterable[RunState]) -> GroupStatus:
    """A group, with what its runs know of its partitions: what is retried, set aside or in flight."""
    stuck = {one.partition: one for run in runs_now(runs, [group]) for one in run.stuck}
    known = [_as_told(one, stuck.get(str(one.partition))) for one in group.partitions]
    return replace(group, partitions=known)


def _as_told(one: PartitionStatus, told: Stuck | None) -> PartitionStatus:
    if told is None or one.state in _BY_KAFKA_ALONE:
        return one
    return replace(one, state=told.state, since=told.since, attempts=told.attempts, why=told.why)


def suspended_channels(config: RunConfig, asked: Collection[str]) -> dict[str, str]:
    """The channels that the replicas that run now have suspended, and why, by name.

    Parameters
    ----------
    config
        The broker.
    asked
        Consumer groups.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    kafka = config.client
    told = [run for run in states(config.bootstrap_servers, asked, **kafka) if run.suspended]
    asks = client_settings(config.bootstrap_servers, **kafka)
    try:
        running = [run for run in told if not run.ended and run.replica in replicas(asks, run.group)]
    except KafkaException as error:
        raise BrokerError(f"the broker does not say who runs: {sentence(error.args[0])}") from None
    return dict(sorted(pair for run in running for pair in run.suspended.items()))
