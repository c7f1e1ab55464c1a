"""The channels that a run works with: those of its configuration and of the registry, now and from now on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from pipeline.channels import ChannelSet
from pipeline.config import RunConfig, channel_set
from pipeline.kafka import BrokerError
from pipeline.registry import Registry, follow_registry, read_registry
from schemas.errors import ZadsError

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 2.0


def channels_now(config: RunConfig, names: list[str] | None = None) -> ChannelSet:
    """The channels to run (see `channel_set`), with the registry as it is.

    Raises BrokerError, ConfigError, ChannelError, FilterError.
    """
    return channel_set(config, names, read_registry(config.bootstrap_servers, **config.client))


def channels_to_come(
    config: RunConfig, names: list[str] | None, begun_with: ChannelSet
) -> Iterator[ChannelSet | None]:
    """Each later set of channels, as the registry changes; None a few times a second.

    A set that cannot be loaded here is reported, and the one before stays in force: the operator sees it,
    and no channel stops for another's sake.
    """
    seen = begun_with.registered
    for registry in _followed(config):
        if registry is None or not registry.is_news_after(seen):
            yield None
            continue
        seen = registry.registered
        try:
            yield channel_set(config, names, registry)
        except ZadsError as error:
            log.error("the channels stay as they are: %s", error)
            yield None


def _followed(config: RunConfig) -> Iterator[Registry | None]:
    """The registry for ever, whatever becomes of the broker."""
    while True:
        try:
            yield from follow_registry(config.bootstrap_servers, **config.client)
        except BrokerError as error:
            log.warning("the channel registry cannot be followed, trying again: %s", error)
            time.sleep(_AGAIN_SECONDS)
            yield None
