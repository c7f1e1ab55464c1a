"""Why an alert is not in a channel, apart from its filter: access, topics, state, suspension."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.shared.alerts import first_of
from commands.shared.options import settings_of

if TYPE_CHECKING:
    from pipeline.channels.channel import Channel
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.gaps import Gap

_SOURCE = ("_topic", "_partition", "_offset", "_timestamp", "_file")


@dataclass(frozen=True)
class Asked:
    """A channel as it is asked about. revisions: all that the registry has of it, oldest first; of one of the
    configuration none. gaps: what it missed while it was suspended."""

    channel: Channel
    definition: Definition
    revisions: tuple[Definition, ...] = ()
    gaps: tuple[Gap, ...] = ()


def names_channel(named: str) -> bool:
    """Whether a text is the name of a channel: channel.NAME or collab.NAME."""
    from pipeline.channels.channel import COLLABORATION_PREFIX, PUBLIC_PREFIX

    return named.startswith((PUBLIC_PREFIX, COLLABORATION_PREFIX)) and ":" not in named


def asked_channel(named: str, config: Path | None, bootstrap: str | None) -> Asked:
    """The channel called `channel.NAME` or `collab.NAME`.

    Parameters
    ----------
    named
        The name, with its prefix.
    config
        The configuration file; None: zads.toml of this folder, if any.
    bootstrap
        Address of the broker, host:port; None: as configured.

    Raises
    ------
    ChannelError
        When there is no such channel.
    BrokerError
        When the broker does not answer.
    ConfigError
        For a wrong configuration.
    """
    (asked,) = asked_channels(settings_of(config, bootstrap_servers=bootstrap), [named.partition(".")[2]])
    return asked


def asked_channels(settings: RunConfig, names: Iterable[str] | None = None) -> list[Asked]:
    """Channels by their names; every channel of configuration and registry where none are named.

    Raises ChannelError, BrokerError, ConfigError.
    """
    from commands.channel.show import registry_of
    from pipeline.channels.changes import known_definition
    from pipeline.channels.config import known_channels
    from pipeline.worker.backfill import gaps_of

    registry, gaps, found = registry_of(settings), gaps_of(settings), []
    for name in known_channels(settings, registry.definitions) if names is None else names:
        definition = known_definition(settings, registry, name)
        revisions = tuple(one for one in registry.history if one.name == name)
        missed = tuple(gap for gap in gaps if gap.channel == name)
        found.append(Asked(definition.channel(), definition, revisions, missed))
    return found


def source_of(archive: str | None, candid: int) -> dict[str, Any]:
    """Where the alert came from: the columns _SOURCE, and `public`; None where missing."""
    from schemas.surveys.registry import survey_named

    part, _ = first_of(archive, lambda one: one.packet(candid))
    field = survey_named(part.survey).public.field
    columns = [*_SOURCE, *([field] if field else [])]
    rows = part.alerts(columns=columns, where=[("candid", "==", candid)]).compute(scheduler="threads")
    row = {n: None if v is None or v != v else v for n, v in rows.iloc[0].to_dict().items()}
    return row | {"program": row[field] if field else None, "survey": part.survey}


def obstacles(asked: Asked, source: dict[str, Any]) -> list[str]:
    """What kept, or keeps, the alert out of the channel whatever its filter says; a sentence each."""
    from schemas.surveys.registry import survey_named

    channel, topic = asked.channel, source["_topic"]
    found = []
    public = survey_named(source["survey"]).public
    closed = channel.public and not public.holds(source["program"])
    if closed:
        found.append(f"the channel is public, and the alert's {public.field} is {source['program']:g}")
    if topic is None:
        found.append(
            f"the archive has it from the file {source['_file']} and does not know on which topic it came:"
            " `zads where` looks for it there"
        )
    elif not closed and not channel.reads_topic(topic):
        reads = f"channel {channel.input}" if channel.input else channel.topics or "the run's topics"
        found.append(f"it came on {topic}, which the channel does not read (it reads {reads})")
    found += [
        f"the channel was suspended then and missed it: {gap.reason};"
        f" `zads channel backfill {channel.name}` delivers it"
        for gap in asked.gaps
        if gap.topic == topic and gap.low <= (source["_offset"] or 0) < gap.high
        if gap.partition == source["_partition"]
    ]
    return found + _of_state(asked, source["_timestamp"])


def _of_state(asked: Asked, arrived: Any) -> list[str]:
    """What its state says: when the alert arrived or, where that is not known, now."""
    now, then = asked.definition, in_force(asked.revisions, arrived)
    if arrived is None or not asked.revisions:
        return [] if now.state == "enabled" else [f"the channel is {now.state}{_of(now)}"]
    if then is None or then.state != "enabled":
        state = "was not there yet" if then is None else f"was {then.state}{_of(then)}"
        return [f"when the alert arrived, {arrived:%Y-%m-%d %H:%M:%S} UTC, the channel {state}"]
    if then.judged != now.judged:
        return [
            f"when the alert arrived the channel was another: revision {then.revision}, version"
            f" {then.version}, {then.parameters}"
        ]
    return []


def in_force(revisions: tuple[Definition, ...], moment: Any) -> Definition | None:
    """The revision of a channel at some time; None before its first, or for no time."""
    if moment is None:
        return None
    before = [one for one in revisions if one.when and _moment(one.when) <= moment]
    return before[-1] if before else None


def _moment(when: str) -> datetime:
    told = datetime.fromisoformat(when)
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _of(one: Definition) -> str:
    said = f": {one.why}" if one.why else ""
    return f" (revision {one.revision}, {one.when} by {one.who}{said})" if one.revision else ""
