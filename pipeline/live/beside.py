"""Other groups and replicas beside a run: who else delivers to its channels."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaException

from pipeline.broker.client import BrokerError, admin_client, sentence, topic_names
from pipeline.broker.members import replicas
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.groups import Delivering, announce, differences, groups, refuse_second_group

log = logging.getLogger(__name__)


def take_place(config: RunConfig, channels: ChannelSet, again: bool) -> None:
    """Make sure that no other group delivers to these channels, and announce that this one does.

    Replicas of this group that run with other channels are told.

    Parameters
    ----------
    config
        The configuration, with group and replica.
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
    bootstrap, kafka = config.bootstrap_servers, config.client
    mine, known = delivering(config, channels), groups(bootstrap, **kafka)
    if not again:
        refuse_second_group(mine, known, topic_names(bootstrap, **kafka))
    for words in differences(mine, known, _replicas(config)):
        log.warning("%s", words)
    announce(mine, bootstrap, **kafka)


def delivering(config: RunConfig, channels: ChannelSet) -> Delivering:
    """What the run delivers with these channels."""
    names = tuple(channel.name for channel in channels.channels)
    exposures = channels.of_scope("exposure")
    whole = (config.topics, *(f"^{name}$" for name in exposures.inputs)) if exposures.channels else ()
    return Delivering(config.group, config.replica, names, config.topics, whole)


def _replicas(config: RunConfig) -> list[str]:
    """The replicas of the group that run now."""
    admin = admin_client(config.bootstrap_servers, **config.client)
    try:
        return replicas(admin, config.group)
    except KafkaException as error:  # a group that never ran, or a broker that has just begun
        log.debug("the group's members are not known: %s", sentence(error.args[0]))
        return []


def announce_now(config: RunConfig, channels: ChannelSet) -> None:
    """Announce other channels under way; a broker that is away hears of it with the next change."""
    try:
        announce(delivering(config, channels), config.bootstrap_servers, **config.client)
    except BrokerError as error:
        log.warning("the channels could not be announced to other groups: %s", error)
