"""The configuration of a run: zads.toml, then the environment, then flags; the later one wins.

Every error names its key, as a person would write it in zads.toml.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from filters import filter_or_expression, load, registered
from filters.external.externals import Externals
from filters.external.store import kept_in, seen_by
from filters.limits import Limits, Ranking
from pipeline.broker.profile import refuse_secrets
from pipeline.channels.channel import (
    COLLABORATION_PREFIX,
    NAME,
    PUBLIC_PREFIX,
    Access,
    Channel,
    ChannelSet,
    input_topics,
)
from pipeline.channels.definition import ChannelError, unloadable
from pipeline.channels.inputs import InputError, Reading, refuse_wrong_inputs
from pipeline.channels.limits import MOST_THROTTLED
from schemas.avro.public import refuse_dropping_programid
from schemas.errors import ZadsError
from schemas.surveys.registry import topics_pattern

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry

ALL_TOPICS = topics_pattern()
"""The topics of every survey that zads knows."""


_OWN_TOPICS = (
    f"{PUBLIC_PREFIX}any",
    f"{COLLABORATION_PREFIX}any",
    "zads.dead-letters",
    "zads.gaps",
    "zads.applied",
    "zads.once",
    "zads.exposures",
    "zads.ledger",
    "zads.groups",
    "zads.ranked",
    "zads.channels",
    "zads.users",
    "zads.requests.any",
    "zads.answers.any",
)


def exact(topics: str) -> str:
    """The pattern of topics to read: a name stands for itself alone, as everywhere in Kafka.

    librdkafka's regular expressions are POSIX: no "(?:".
    """
    return topics if topics.startswith("^") else f"^({topics})$"


class ConfigError(ZadsError):
    """A setting that cannot be used: the message names its key."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChannelConfig(_Table):
    """[channels.NAME]: one filter at work. topics: of those that the run reads, only these; "": all."""

    filter: str = ""
    where: str = ""  # an expression instead of a filter: "rb > 0.65 and magpsf < 19"
    values: list[str] = Field(default_factory=list)  # columns that travel with each alert: "galex.sep"
    parameters: dict[str, float | int | str | bool | dict[str, Any]] = Field(default_factory=dict)
    access: Access = "public"
    drop: list[str] = Field(default_factory=list)
    topics: str = ""
    input: str = ""
    annotate: bool = False  # the values go into the packet too
    limits: Limits = Field(default_factory=Limits)


class RankedConfig(Ranking):
    """[ranked.NAME]: of what the channel `of` has delivered in a night the best, when the night is over."""

    of: str


class DaskConfig(_Table):
    """[dask]: where the work runs. With `scheduler`, an existing cluster; otherwise one on this machine.

    kind: another kind of cluster, see cluster/dask/kinds.py. ca, certificate, key: PEM files for a scheduler
    that talks TLS (tls://).
    """

    kind: str = ""
    scheduler: str = ""
    workers: int = Field(default=2, ge=1)
    memory: str = "4GiB"
    ca: str = ""
    certificate: str = ""
    key: str = ""


class DispatchConfig(_Table):
    """[dispatch]: a batch goes out at `messages` records or after `milliseconds`, whichever is first."""

    messages: int = Field(default=1000, ge=1)
    milliseconds: float = Field(default=25, ge=0)
    batches_per_worker: int = Field(default=2, ge=1)


class ExposuresConfig(_Table):
    """[exposures]: of channels that judge whole exposures. grace_seconds: the wait for the rest of one."""

    grace_seconds: float = Field(default=30, gt=0)


class LimitsConfig(_Table):
    """[limits]: what user code may use up before it is stopped."""

    filter_seconds: float = Field(default=20, gt=0)
    batch_seconds: float = Field(default=120, gt=0)
    failing_alerts: int = Field(default=20, ge=0)


class GateConfig(_Table):
    """[gate]: what a channel must not exceed on recent nights of the archive to be enabled."""

    nights: int = Field(default=3, ge=1)
    share: float = Field(default=0.1, gt=0)
    alerts_per_hour: float = Field(default=10_000, gt=0)
    microseconds: float = Field(default=1_000, gt=0)


class RunConfig(BaseSettings):
    """Everything `zads run` can be told.

    In the environment a key is ZADS_KEY, within a table ZADS_TABLE__KEY: ZADS_BOOTSTRAP_SERVERS,
    ZADS_DASK__WORKERS.
    """

    model_config = SettingsConfigDict(extra="forbid", env_prefix="ZADS_", env_nested_delimiter="__")

    bootstrap_servers: str = "localhost:9092"
    group: str = "zads"
    replica: str = "0"
    topics: str = ALL_TOPICS
    schemas: str = ""
    external: str = ""
    dask: DaskConfig = Field(default_factory=DaskConfig)
    dispatch: DispatchConfig = Field(default_factory=DispatchConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    exposures: ExposuresConfig = Field(default_factory=ExposuresConfig)
    gate: GateConfig = Field(default_factory=GateConfig)
    kafka: dict[str, str | int | float | bool] = Field(default_factory=dict)
    channels: dict[str, ChannelConfig] = Field(default_factory=dict)
    ranked: dict[str, RankedConfig] = Field(default_factory=dict)

    @property
    def externals(self) -> Externals:
        """The folder of catalogues, regions and sky maps, at the versions in use."""
        return Externals(self.external or None)

    @property
    def client(self) -> dict[str, Any]:
        """[kafka] as librdkafka takes it."""
        return {key: str(value) for key, value in self.kafka.items()}

    @field_validator("topics")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        pattern = exact(pattern)
        if own := [topic for topic in _OWN_TOPICS if re.match(pattern, topic)]:
            raise ValueError(f"matches zads' own topics ({own[0]}): what is delivered would come in again")
        return pattern

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from, by precedence: flags, environment, zads.toml. Called by
        pydantic-settings.

        Parameters
        ----------
        settings_cls
            The class of the configuration.
        init_settings
            Flags.
        env_settings
            The environment.
        dotenv_settings
            Not used.
        file_secret_settings
            Not used.
        """
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_config(path: Path | None = None, **flags: Any) -> RunConfig:
    """The configuration from `path` (zads.toml of this folder if there is one), environment and flags.

    Flags that are None were not given. Raises ConfigError naming file or key, ProfileError for a secret.
    """
    if path is None and Path("zads.toml").is_file():
        path = Path("zads.toml")
    if path is not None and not path.is_file():
        raise ConfigError(f"no configuration file at {path}")

    class FromFile(RunConfig):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        made = FromFile(**{key: value for key, value in flags.items() if value is not None})
        refuse_secrets(made.kafka, f"[kafka] of {path or 'the flags or the environment'}")
        return made
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(problem, path) for problem in error.errors())) from None


def _sentence(problem: Any, path: Path | None) -> str:
    """One pydantic problem as a person would say it."""
    key = ".".join(str(part) for part in problem["loc"])
    known = sorted(RunConfig.model_fields)
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}` in {path or 'the flags'} (top-level keys are {', '.join(known)})"
    variable = "ZADS_" + key.upper().replace(".", "__")
    where = f"environment variable {variable}" if variable in os.environ else str(path or "flags")
    return f"`{key}` ({where}): {problem['msg']}, got {problem['input']!r}"


def channel_set(
    config: RunConfig, names: list[str] | None = None, registry: Registry | None = None
) -> ChannelSet:
    """The channels to run: those of the configuration (every registered filter if it has none) and of the
    registry.

    The registry decides about every name that it has ever enabled: while the channel is paused or retired it
    does not run, whatever the configuration says. A definition of the registry that cannot be loaded, or
    whose input is not there, is logged and refused, and the others run.

    Parameters
    ----------
    config
        The configuration.
    names
        Only these channels; a name that is known as a filter only is a channel of that filter with its
        defaults. None: all.
    registry
        The registry; None: there is none.

    Raises
    ------
    ConfigError
        For a wrong configuration or an unknown name.
    InputError
        For a channel of the configuration that cannot read its input.
    """
    with kept_in(config.externals.store.root):
        return _channel_set(config, names, registry)


def _channel_set(config: RunConfig, names: list[str] | None, registry: Registry | None) -> ChannelSet:
    every = registered()
    configured = config.channels or {name: ChannelConfig() for name in every}
    kept = registry.definitions if registry is not None else {}
    governed = {name: definition for name, definition in kept.items() if definition.governs}
    wanted = names if names is not None else list({**configured, **governed})
    _refuse_unknown(wanted, {*configured, *every, *kept})
    channels: list[Channel] = []
    inputs: set[str] = set()
    refused: list[tuple[str, str]] = []
    for name in wanted:
        if name in governed:
            definition = governed[name]
            try:
                channels += _running(definition, config.externals)
            except ChannelError as error:  # the others run
                log.error("%s", error)
                channels.append(unloadable(definition))
                refused.append((name, str(error)))
            if definition.state != "retired":  # while it is paused its input goes by, undelivered
                inputs.update(input_topics(definition.input, definition.access))
        elif name in configured or name in every:
            channels.append(configured_channel(name, configured.get(name, ChannelConfig())))
            inputs.update(channels[-1].input_topics)
    known = {**{name: ChannelConfig() for name in wanted}, **known_channels(config, kept)}
    refused += _refuse_inputs(channels, governed, known)
    registered_so_far = registry.registered if registry is not None else None
    everything = tuple(channels), registered_so_far, config.topics
    if both := sorted({channel.name for channel in channels} & config.ranked.keys()):
        raise ConfigError(f"{', '.join(both)}: a channel and a ranked channel of one name")
    _refuse_wrong_limits(channels)
    return ChannelSet(*everything, tuple(sorted(inputs)), _externals(channels, config), tuple(refused))


def _refuse_inputs(
    channels: list[Channel], governed: Mapping[str, Definition], known: Mapping[str, Reading]
) -> list[tuple[str, str]]:
    """Those of the registry that cannot read their input, and why: they leave gaps, and the others run.

    Raises InputError for a channel of the configuration.
    """
    refused = []
    for place, channel in enumerate(channels):
        try:
            refuse_wrong_inputs([channel.name], known)
        except InputError as error:
            if channel.name not in governed:
                raise
            log.error("%s", error)
            channels[place] = unloadable(governed[channel.name])
            refused.append((channel.name, str(error)))
    return refused


def _refuse_wrong_limits(channels: Sequence[Channel]) -> None:
    for channel in channels:
        if channel.filter.scope != "alert" and (channel.limits.once or channel.limits.throttle_per_hour):
            raise ConfigError(
                f"channel {channel.name} judges whole exposures: once and throttle_per_hour are for channels"
                " of single alerts",
                hint="let another channel read it (input), and limit that one",
            )
    throttled = sum(channel.limits.throttle_per_hour is not None for channel in channels)
    if throttled > MOST_THROTTLED:
        raise ConfigError(
            f"{throttled} channels are throttled: a committed offset has room for {MOST_THROTTLED}",
            hint="run the others with another `zads run`, in a group of its own",
        )


def _externals(channels: Sequence[Channel], config: RunConfig) -> Externals:
    """The versions in use now of what the filters read beside the alert.

    Raises ConfigError naming the channel.
    """
    every = config.externals
    for channel in channels:
        try:
            every.check(channel.external_reads)
        except ZadsError as error:
            raise ConfigError(f"channel {channel.name}: {error}", hint=error.hint) from error
    return every.pinned(name for channel in channels for name in channel.external_reads)


def _running(definition: Definition, externals: Externals) -> list[Channel]:
    """The channel of a definition that is enabled; whoever runs it is told when its backtest was of other
    code or other catalogues. Raises ChannelError."""
    if definition.state != "enabled":
        return []
    channel = definition.channel()
    try:
        with seen_by(definition.owned_by):
            externals.check(channel.external_reads)
        told = definition.outdated(channel.filter), definition.moved(externals)
    except ZadsError as error:
        raise ChannelError(f"channel {definition.name}: {error}", hint=error.hint) from error
    for words in filter(None, told):
        log.warning("%s", words)
    return [channel]


def _refuse_unknown(wanted: list[str], known: set[str]) -> None:
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(
            f"no channel or filter named {', '.join(unknown)} (there are {', '.join(sorted(known))})"
        )
    if not wanted:
        raise ConfigError("no channel to run: name one with --channels or in [channels.NAME]")


def known_channels(config: RunConfig, kept: Mapping[str, Definition]) -> dict[str, Reading]:
    """Every channel: of the configuration (or every filter), and of the registry, which prevails."""
    configured = config.channels or {name: ChannelConfig() for name in registered()}
    return {**kept, **configured, **{name: one for name, one in kept.items() if one.governs}}


def configured_channel(name: str, config: ChannelConfig) -> Channel:
    """The channel of a [channels.NAME]. Raises ConfigError naming it."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"channel name {name!r}: letters, digits, _ and - only")
    try:
        chosen = load(filter_or_expression(config.filter, config.where) or name).using(**config.parameters)
        chosen.require_live()
        if config.access == "public":
            for survey in chosen.surveys:
                refuse_dropping_programid(config.drop, survey)
        channel = Channel(
            name,
            chosen,
            config.access,
            tuple(config.drop),
            config.topics,
            config.limits,
            config.input,
            tuple(config.values),
            config.annotate,
        )
        channel.check_annotation()
    except ZadsError as error:
        raise ConfigError(f"[channels.{name}] {error}") from error
    return channel
