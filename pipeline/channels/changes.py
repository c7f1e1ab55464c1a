"""The channels that a run works with: those of its configuration and of the registry, now and from now on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from confluent_kafka import KafkaException

from filters import filter_or_expression, registered
from pipeline.broker.client import BrokerError
from pipeline.broker.logs import NowAndThen
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set, configured_channel
from pipeline.channels.definition import Definition, by_value
from pipeline.channels.registry import Registry, follow_registry, read_registry
from schemas.errors import ZadsError

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 2.0
_EXTERNAL_SECONDS = 1.0


def channels_now(config: RunConfig, names: list[str] | None = None) -> ChannelSet:
    """The channels to run (see `channel_set`), with the registry as it is.

    Raises BrokerError, ConfigError, ChannelError, FilterError.
    """
    return channel_set(config, names, read_registry(config.bootstrap_servers, **config.client))


def channels_to_come(
    config: RunConfig, names: list[str] | None, begun_with: ChannelSet
) -> Iterator[ChannelSet | None]:
    """Each later set of channels, when the registry or external information changes; None several times a
    second.

    A set that cannot be loaded here is logged as an error, and the one before stays in force: no channel
    stops because of another.

    Parameters
    ----------
    config
        The configuration of the run.
    names
        Only these channels; None: all.
    begun_with
        The set in force now.
    """
    seen, now, latest = begun_with.registered, begun_with, None
    looked, there = time.monotonic(), begun_with.externals.in_use()
    for registry in _followed(config):
        latest = registry or latest
        news = registry is not None and registry.is_news_after(seen)
        if not news and time.monotonic() - looked > _EXTERNAL_SECONDS:
            looked, before, there = time.monotonic(), there, now.externals.in_use()
            # What a refused channel lacked may be there now.
            news = now.externals.have_moved() or (bool(now.refused) and there != before)
        if not news:
            yield None
            continue
        try:
            latest = latest or read_registry(config.bootstrap_servers, **config.client)
            seen = latest.registered
            now = channel_set(config, names, latest)
            yield now
        except ZadsError as error:
            log.error("the channels stay as they are: %s", error)
            yield None


def _followed(config: RunConfig) -> Iterator[Registry | None]:
    """The registry, without end; errors of the broker are waited for."""
    lasting = NowAndThen(log)
    while True:
        try:
            yield from follow_registry(config.bootstrap_servers, **config.client)
        except (BrokerError, KafkaException) as error:
            lasting.warn("the channel registry cannot be followed, trying again", error)
            time.sleep(_AGAIN_SECONDS)
            yield None


def known_definition(config: RunConfig, registry: Registry, name: str) -> Definition:
    """The channel as the registry has it, else as the configuration runs it (revision 0, enabled).

    Parameters
    ----------
    config
        The configuration.
    registry
        The registry.
    name
        Name of the channel.

    Raises
    ------
    ChannelError
        When there is no such channel.
    ConfigError
        For a wrong configuration of it.
    """
    every = config.channels or {filter_name: ChannelConfig() for filter_name in registered()}
    if name in registry.definitions or name not in every:
        return registry[name]
    given = every[name]
    configured_channel(name, given)
    like = given.model_dump(exclude={"filter", "where"})
    made = Definition(name=name, filter=name, state="enabled", **like)
    chosen = filter_or_expression(given.filter, given.where) or name
    return made.model_copy(update=by_value(chosen)).completed()
