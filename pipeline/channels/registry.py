"""The channel registry: the compacted topic zads.channels, one record for each revision of a channel.

CONCURRENT EDITS. A writer takes the registry's one transactional id, which fences every other writer
(KIP-98), then reads to the end, compares revisions, writes and commits. So a revision is written only by an
editor who has seen the one before; the second of two editors is told what the first has done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicCollection
from pydantic import ValidationError

from filters.tables import text_of
from pipeline.broker.client import (
    MESSAGE_MAX_BYTES,
    BrokerError,
    admin_client,
    client_settings,
    sentence,
    topic_names,
)
from pipeline.broker.faults import FENCED_PRODUCER
from pipeline.broker.listen import Alert, Listener, listen
from pipeline.broker.paced import Paced, fence, paced_settings
from pipeline.broker.topics import ensure_topics
from pipeline.channels.channel import Registered
from pipeline.channels.definition import ChannelError, Definition

log = logging.getLogger(__name__)

CHANNELS_TOPIC = "zads.channels"
_SETTINGS = {"cleanup.policy": "compact", "max.message.bytes": str(MESSAGE_MAX_BYTES)}
_KAFKA_SECONDS = 20.0


class EditConflict(ChannelError):
    """Somebody else has changed the channel since it was looked at; the message says what and who."""


class Crossed(EditConflict):
    """Somebody else writes to the registry at this moment; the channel may be as it was: ask again."""


@dataclass(frozen=True)
class Registry:
    """What the registry holds at some time.

    definitions: the newest revision of each channel, by name. history: every revision in the order in
    which they were written. offset: of the last change that had an effect on what runs (-1: none had).
    """

    topic_id: str = ""
    definitions: dict[str, Definition] = field(default_factory=dict)
    history: tuple[Definition, ...] = ()
    offset: int = -1

    @property
    def registered(self) -> Registered | None:
        """For the version of a channel set; None as long as the registry has had no part in any."""
        return Registered(self.topic_id, self.offset) if self.offset >= 0 else None

    def is_news_after(self, seen: Registered | None) -> bool:
        """Whether something that has an effect has been changed since `seen`."""
        if self.registered is None:
            return False
        return seen is None or seen.topic_id != self.topic_id or self.offset > seen.offset

    def __getitem__(self, name: str) -> Definition:
        """The channel of this name. Raises ChannelError."""
        if name not in self.definitions:
            known = ", ".join(sorted(self.definitions)) or "none yet"
            raise ChannelError(f"no channel {name} in the registry (there are: {known})")
        return self.definitions[name]

    def with_records(self, records: Iterable[Alert]) -> Registry:
        """After some more records of the topic. A record that cannot be read is reported and left out."""
        definitions, history, offset = dict(self.definitions), list(self.history), self.offset
        for record in records:
            try:
                new = Definition.model_validate_json(record.raw)
            except ValidationError as error:
                log.error("%s/%d cannot be read: %s", CHANNELS_TOPIC, record.offset, error)
                continue
            old = definitions.get(new.name)
            if (old.effect if old else None) != new.effect:
                offset = record.offset
            definitions[new.name] = new
            history.append(new)
        return replace(self, definitions=definitions, history=tuple(history), offset=offset)


def read_registry(bootstrap: str, **kafka: Any) -> Registry:
    """The registry as it is now; empty where there is none. Raises BrokerError."""
    if CHANNELS_TOPIC not in topic_names(bootstrap, **kafka):
        return Registry()
    empty = Registry(topic_id(bootstrap, **kafka))
    return empty.with_records(listen(CHANNELS_TOPIC, bootstrap, until_drained=True, **kafka))


def follow_registry(bootstrap: str, **kafka: Any) -> Iterator[Registry | None]:
    """The registry after each change; and, while there is none, None a few times a second. Never ends.

    The first state may be any that is not older than the beginning. Raises BrokerError.
    """
    ensure_registry(bootstrap, **kafka)
    found = Registry(topic_id(bootstrap, **kafka))
    with Listener(CHANNELS_TOPIC, bootstrap, **kafka) as listener:
        for records in listener.batches():
            if records:
                found = found.with_records(records)
            yield found if records else None


def write_registry(
    definitions: Sequence[Definition], bootstrap: str, *, who: str, why: str = "", **kafka: Any
) -> list[Definition]:
    """Write the next revision of each of these channels, all or none; return them as written.

    Parameters
    ----------
    definitions
        The channels, each with the revision that it was made from (0: a new channel).
    bootstrap
        Address of the broker, host:port.
    who
        Who makes the change.
    why
        The reason.
    kafka
        librdkafka's own keys.

    Raises
    ------
    EditConflict
        When one of these revisions is no longer the newest.
    BrokerError
        When the registry cannot be written.
    """
    ensure_registry(bootstrap, **kafka)
    producer = Producer(
        paced_settings(client_settings(bootstrap, **kafka))
        | {"transactional.id": CHANNELS_TOPIC, "message.max.bytes": MESSAGE_MAX_BYTES}
    )
    try:
        fence(producer, _KAFKA_SECONDS)
        _refuse_outdated(definitions, read_registry(bootstrap, **kafka))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        written = [
            d.model_copy(update={"revision": d.revision + 1, "who": who, "when": now, "why": why})
            for d in definitions
        ]
        producer.begin_transaction()
        paced = Paced(producer)
        for one in written:
            value = one.model_dump_json().encode()
            paced.produce(topic=CHANNELS_TOPIC, value=value, key=one.key, partition=0)
        paced.flush()
        producer.commit_transaction(_KAFKA_SECONDS)
    except KafkaException as exception:
        error = exception.args[0]
        if error.code() in FENCED_PRODUCER:
            _refuse_outdated(definitions, read_registry(bootstrap, **kafka))
            raise Crossed(
                "somebody else is changing channels at this moment: nothing was changed",
                hint="look with `zads channel list`, and do it again",
            ) from None
        raise BrokerError(f"the registry cannot be changed: {sentence(error)}") from None
    return written


def _refuse_outdated(definitions: Sequence[Definition], now: Registry) -> None:
    for mine in definitions:
        theirs = now.definitions.get(mine.name)
        if (theirs.revision if theirs else 0) == mine.revision:
            continue
        seen = {d.revision: d for d in now.history if d.name == mine.name}
        assert theirs is not None
        raise EditConflict(
            f"channel {mine.name} is at revision {theirs.revision}, you looked at {mine.revision}:"
            f" {theirs.who} {difference(seen.get(mine.revision), theirs)} at {theirs.when}",
            hint="nothing was changed; look at it and do it again",
        )


def difference(old: Definition | None, new: Definition) -> str:
    """What a change has done, in a few words: "set rb_min 0.65 → 0.7, drop → cutoutScience"."""
    if old is None:
        return f"created it with {new.written}"
    said = [
        f"{name} {text_of(old.parameters.get(name))} → {text_of(new.parameters.get(name))}"
        for name in sorted({*old.parameters, *new.parameters})
        if old.parameters.get(name) != new.parameters.get(name)
    ]
    said += [
        f"{name} {_words(getattr(old, name))} → {_words(getattr(new, name))}"
        for name in (
            "owner",
            "filter",
            "version",
            "access",
            "drop",
            "topics",
            "limits",
            "input",
            "values",
            "annotate",
            "readers",
        )
        if getattr(old, name) != getattr(new, name)
    ]
    changed = [f"set {', '.join(said)}"] if said else []
    if old.source == new.source and old.approved != new.approved:
        changed.append("approved its Python" if new.trusted else "no longer approved its Python")
    if new.asks and old.asks != new.asks:
        changed.append(f"asked an operator: {new.asks}")
    if old.state != new.state:
        changed.append(f"made it {new.state}")
    if old.report != new.report and new.report is not None:
        changed.append("tried it on the archive")
    return " and ".join(changed) or "changed nothing"


def _words(value: Any) -> str:
    return (",".join(value) if isinstance(value, tuple) else str(value)) or "-"


def ensure_registry(bootstrap: str, **kafka: Any) -> None:
    """Create the topic if it is not there."""
    ensure_topics(bootstrap, [CHANNELS_TOPIC], partitions=1, config=_SETTINGS, **kafka)


def topic_id(bootstrap: str, **kafka: Any) -> str:
    """The id that Kafka gave the topic: a recreated registry counts its offsets anew. Raises BrokerError."""
    admin = admin_client(bootstrap, **kafka)
    asked = admin.describe_topics(TopicCollection([CHANNELS_TOPIC]), request_timeout=_KAFKA_SECONDS)
    try:
        found = asked[CHANNELS_TOPIC].result().topic_id
    except KafkaException as error:
        raise BrokerError(f"cannot look at {CHANNELS_TOPIC}: {sentence(error.args[0])}") from None
    return f"{found.get_most_significant_bits() & (2**64 - 1):016x}"
