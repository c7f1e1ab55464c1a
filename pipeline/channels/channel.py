"""A channel: one filter with its parameters, what it may read, and the topic it feeds."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import cloudpickle
import pandas as pd

from filters import Filter
from filters.external.externals import Externals, external_names, frames_of
from filters.limits import Limits
from pipeline.channels.expected import Expected
from schemas.avro.annotate import check_annotation
from schemas.surveys.registry import program_of_topic

Access = Literal["public", "collaboration"]
PUBLIC_PREFIX, COLLABORATION_PREFIX = "channel.", "collab."
NAME = re.compile(r"([a-z][a-z0-9-]{0,39}[.])?[A-Za-z0-9_-]{1,200}")
"""What a channel may be called: its topic is named after it. OWNER.NAME is a channel that a user owns."""


@dataclass(frozen=True)
class Channel:
    """A filter at work, and where its alerts go.

    `access` is "public" unless somebody says otherwise: such a channel reads no topic that is named
    for data that are not public, and sees and passes on only alerts and history rows that are.
    """

    name: str
    filter: Filter
    access: Access = "public"
    drop: tuple[str, ...] = field(default=())
    topics: str = ""  # a regular expression: of the topics that the run reads, only these; "" for all
    limits: Limits = field(default_factory=Limits)
    input: str = ""  # a channel: its topic is read instead of the run's; "" for the run's
    values: tuple[str, ...] = ()  # columns that travel with each alert, beside what the filter gives
    annotate: bool = False  # the values go into the packet too
    expected: Expected | None = None  # by its backtest; has no part in what is delivered

    @property
    def topic(self) -> str:
        """The Kafka topic that the channel's alerts go to."""
        return topic_of(self.name, self.access)

    @property
    def public(self) -> bool:
        return self.access == "public"

    @property
    def input_topics(self) -> tuple[str, ...]:
        """Where the alerts of its input are."""
        return input_topics(self.input, self.access)

    def reads_topic(self, topic: str) -> bool:
        """Whether the channel may read `topic` at all."""
        if self.input:
            return topic in self.input_topics
        if self.topics and not re.match(self.topics, topic):
            return False
        named_for = program_of_topic(topic)
        return not self.public or named_for is None or named_for[0].public.holds(named_for[1])

    def describe(self) -> dict[str, Any]:
        """What makes the channel deliver what it delivers, as plain JSON values."""
        return {
            "name": self.name,
            "filter": self.filter.name,
            "version": self.filter.version,
            "parameters": dict(self.filter.values),
            "access": self.access,
            "drop": list(self.drop),
            "topics": self.topics,
            "input": self.input,
            "limits": self.limits.model_dump(exclude_defaults=True),
            "topic": self.topic,
            **({"values": list(self.values)} if self.values else {}),
            **({"annotate": True} if self.annotate else {}),
        }

    @cached_property
    def units(self) -> dict[str, str]:
        """Every value that travels with an alert -> unit, "text" for words: columns first, then the filter's.

        A column has no unit here: the survey's page of columns says it.
        """
        return {**_kinds(self.values, self.filter.surveys[0]), **self.filter.gives}

    def check_annotation(self) -> None:
        """Raise BadAnnotation when its values are to go into the packet and have no name there."""
        if self.annotate:
            check_annotation(self.name, self.units)

    @cached_property
    def external_reads(self) -> tuple[str, ...]:
        """The columns of catalogues, regions and sky maps that the filter reads."""
        return tuple(external_names((*(self.filter.reads or ()), *self.values)))

    @cached_property
    def headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers that are the same on each of the channel's alerts."""
        return [
            ("filter", self.filter.name.encode()),
            ("version", self.filter.version.encode()),
            ("parameters", json.dumps(dict(self.filter.values), sort_keys=True).encode()),
            *([("units", json.dumps(dict(self.filter.gives)).encode())] if self.filter.gives else []),
        ]


def _kinds(columns: tuple[str, ...], survey: str) -> dict[str, str]:
    """Column -> "text" for words, "" for numbers."""
    if not columns:
        return {}
    nothing = frames_of(columns, survey).of_packets([])
    return {name: "text" if pd.api.types.is_string_dtype(nothing[name].dtype) else "" for name in columns}


def topic_of(name: str, access: Access) -> str:
    """The topic of a channel."""
    return (PUBLIC_PREFIX if access == "public" else COLLABORATION_PREFIX) + name


def input_topics(name: str, access: Access) -> tuple[str, ...]:
    """The topics of the channel `name` as an input; none for "".

    A public channel never reads a collaboration's, whatever its input is called.
    """
    prefixes = (PUBLIC_PREFIX,) if access == "public" else (PUBLIC_PREFIX, COLLABORATION_PREFIX)
    return tuple(prefix + name for prefix in prefixes) if name else ()


@dataclass(frozen=True)
class Registered:
    """A state of the channel registry: the topic's id, and the offset of the last change that counts."""

    topic_id: str
    offset: int

    def __str__(self) -> str:
        return f"{self.topic_id}:{self.offset}"


def is_older(version: str, than: str) -> bool:
    """Whether a channel set's version is of an earlier state of the same registry.

    One that takes no registry into account is older than any that does. Versions of different registries, and
    hashes of configurations, have no order: never older.
    """
    (registry, offset, _), (other, other_offset, _) = _parts(version), _parts(than)
    if version and not registry:
        return bool(other)
    return registry == other and int(offset) < int(other_offset)


def _parts(version: str) -> tuple[str, str, str]:
    parts = version.split(":")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "0", version)


class _Readers(NamedTuple):
    """The channels that read a topic. once: whether one of them delivers an object once."""

    channels: tuple[Channel, ...]
    names: tuple[str, ...]
    once: bool


@dataclass(frozen=True)
class ChannelSet:
    """The channels that are in force together, with a version that changes when any of them does.

    topics: the pattern of the topics that the run reads, "" for any. inputs: topics of channels that are
    read too, for the channels that have them as their input, those that are paused now among them. refused:
    (channel, why) of those that cannot run: they have no part in the version, and leave gaps.
    externals: the catalogues, regions and sky maps that the filters read, each at one version.
    """

    channels: tuple[Channel, ...]
    registered: Registered | None = None  # how much of the registry it takes into account
    topics: str = ""
    inputs: tuple[str, ...] = ()
    externals: Externals = field(default_factory=Externals)
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def surveys(self) -> tuple[str, ...]:
        """Whose packets the channels want."""
        return tuple(dict.fromkeys(name for channel in self.channels for name in channel.filter.surveys))

    def of_scope(self, scope: str) -> ChannelSet:
        """With those channels only whose filters judge single alerts ("alert"), or whole exposures."""
        mine = tuple(channel for channel in self.channels if channel.filter.scope == scope)
        others = {topic for c in self.channels if c.filter.scope != scope for topic in c.input_topics}
        wanted = {topic for c in mine for topic in c.input_topics}
        # What only paused channels would read goes by with the alerts.
        inputs = [t for t in self.inputs if t in wanted or (scope == "alert" and t not in others)]
        return replace(self, channels=mine, inputs=tuple(inputs))

    @cached_property
    def described(self) -> str:
        """Every channel's description, as JSON: made once, since a filter's version reads its sources."""
        return json.dumps([channel.describe() for channel in self.channels], sort_keys=True)

    @cached_property
    def version(self) -> str:
        """A hash of every channel's description, its filter's source included, and of the versions of what is
        external; before it the registry's."""
        described = self.described
        if self.externals.versions:
            described += json.dumps(dict(self.externals.versions))
        told = hashlib.sha256(described.encode()).hexdigest()[:12]
        return told if self.registered is None else f"{self.registered}:{told}"

    def reads(self, channel: Channel, topic: str) -> bool:
        """Whether `channel` is to see the records of `topic`: what is an input is nobody else's."""
        return channel.reads_topic(topic) and (bool(channel.input) or bool(re.match(self.topics, topic)))

    @cached_property
    def by_name(self) -> dict[str, Channel]:
        """Name -> channel."""
        return {channel.name: channel for channel in self.channels}

    @cached_property
    def _of_topics(self) -> dict[str, _Readers]:
        return {}

    def _of_topic(self, topic: str) -> _Readers:
        """Who reads a topic, found out once: it is asked for with each batch."""
        if topic not in self._of_topics:
            some = tuple(channel for channel in self.channels if self.reads(channel, topic))
            names = tuple(channel.name for channel in some)
            self._of_topics[topic] = _Readers(some, names, any(channel.limits.once for channel in some))
        return self._of_topics[topic]

    def readers(self, topic: str) -> tuple[Channel, ...]:
        """The channels that are to see the records of a topic."""
        return self._of_topic(topic).channels

    def reader_names(self, topic: str) -> tuple[str, ...]:
        """Their names."""
        return self._of_topic(topic).names

    def remembers_objects(self, topic: str) -> bool:
        """Whether a channel that reads a topic delivers an object once."""
        return self._of_topic(topic).once

    @cached_property
    def expecting(self) -> tuple[Channel, ...]:
        """The channels of which it is known how many alerts they should pass."""
        return tuple(channel for channel in self.channels if channel.expected is not None)

    @cached_property
    def hourly(self) -> tuple[Channel, ...]:
        """The channels that are told, or suspended, when they deliver too much within an hour."""
        return tuple(
            channel
            for channel in self.channels
            if channel.limits.alerts_per_hour is not None or channel.limits.alarm_per_hour is not None
        )

    @cached_property
    def external_headers(self) -> dict[str, list[tuple[str, bytes]]]:
        """Channel -> the header that says which external information it has read."""
        return {channel.name: self.external_header(channel) for channel in self.channels}

    def external_header(self, channel: Channel) -> list[tuple[str, bytes]]:
        """The Kafka header that says which versions of external information a channel's filter has read."""
        versions = {
            name.partition(".")[0] for name in channel.external_reads
        } & self.externals.versions.keys()
        if not versions:
            return []
        return [("external", json.dumps({n: self.externals.versions[n] for n in sorted(versions)}).encode())]

    def to_bytes(self) -> bytes:
        """For a worker: filters from a user's file travel by value."""
        return cloudpickle.dumps(self)
