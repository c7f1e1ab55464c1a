"""`zads replay channel.NAME --as-ran`: each record by the parameters that were in force when it was
judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.shared.options import counted, people, settings_of
from commands.shared.why import asked_channel, names_channel
from schemas.errors import ZadsError

if TYPE_CHECKING:
    import pandas as pd

    from archive.read.archive import Archive
    from archive.replay.records import Records
    from filters import Filter
    from filters.external.externals import Externals
    from pipeline.channels.channel import Channel
    from pipeline.clients.in_force import InForce


def matches_as_ran(
    named: str, archive: Archive, nights: str | None, config: Path | None, bootstrap: str | None
) -> pd.DataFrame:
    """The matches of a channel as it ran; says in which sets of parameters, and what cannot be repeated.

    Parameters
    ----------
    named
        The channel: channel.NAME or collab.NAME.
    archive
        The archive of what it read.
    nights
        As of a replay.
    config
        The configuration file.
    bootstrap
        Address of the broker.

    Raises
    ------
    ZadsError
        For what is no channel, or one that never ran; for an archive none of whose records came from a
        topic that it ran on.
    """
    from pipeline.clients.in_force import in_force

    if not names_channel(named):
        raise ZadsError(f"{named} is not a channel", hint="--as-ran wants one: channel.NAME")
    channel = asked_channel(named, config, bootstrap).channel
    settings = settings_of(config, bootstrap_servers=bootstrap)
    told = in_force(settings, channel.name)
    if not told:
        raise ZadsError(f"{named} has not run yet: zads.applied does not name it")
    say_what_is_missing(named, told, archive, nights, channel.public)
    return repeated(channel, told, archive, settings.externals, nights)


_HINT = "a replay as it ran goes by the offsets of records: `zads archive follow` keeps them"


def say_what_is_missing(
    named: str, told: Sequence[InForce], archive: Archive, nights: str | None, public: bool
) -> None:
    """Say which nights and topics of a channel a replay as it ran cannot find in an archive.

    Parameters
    ----------
    named
        The channel: channel.NAME or collab.NAME.
    told
        What was in force where.
    archive, nights, public
        What is to be replayed.

    Raises
    ------
    ZadsError
        When none of the records came from a topic that the channel ran on.
    """
    from archive.replay.as_ran import recorded

    there = recorded(archive, nights, public)
    every = recorded(archive, nights, public=False) if public else there
    kept = {topic for night in every for topic in night.topics}
    ran_on = sorted({one.topic for one in told if one.version})
    if there and not kept:
        raise ZadsError(f"no record of the archive {archive.path} came from Kafka", hint=_HINT)
    if there and not kept & set(ran_on):
        raise ZadsError(
            f"no record of the archive is of a topic that {named} ran on: it ran on {', '.join(ran_on)}, the"
            f" archive has {', '.join(sorted(kept))}",
            hint=_HINT,
        )
    lacking = [
        f"night {one.night}: {one.from_files:,} of {counted(one.alerts, 'alert')} came from files only"
        for one in there
        if one.from_files
    ]
    if nights is None:  # of some nights only it is not known which topics they should have
        lacking += [
            f"topic {topic}: the archive has no record of it" for topic in ran_on if topic not in kept
        ]
    again = sorted({one.topic for one in told if one.made_again})
    for topic in again:
        people.print(
            f"[yellow]topic {topic} was deleted and made again: the offsets are those of the present one, and"
            " records that the archive has of the one before are judged by them too[/]",
            soft_wrap=True,
        )
    for words in lacking:
        people.print(f"[yellow]not in what follows: {words}[/]", soft_wrap=True)
    if lacking:
        people.print(_HINT, soft_wrap=True)


def repeated(
    channel: Channel, told: Sequence[InForce], archive: Archive, externals: Externals, nights: str | None
) -> pd.DataFrame:
    """The matches of a channel, each record judged by what was in force at its offset.

    Parameters
    ----------
    channel
        As it is now.
    told
        What was in force where.
    archive
        The archive of what it read.
    externals
        The folder of external information: the versions that were in force are read.
    nights
        As of a replay.

    Raises
    ------
    NoSuchExternal
        When a version of a catalogue, region or sky map that was in force is not there any more.
    """
    import pandas as pd

    from archive.replay.as_ran import Span, as_ran
    from archive.replay.replay import replay
    from filters.external.externals import Externals

    read = {name.partition(".")[0] for name in channel.external_reads}
    whole = channel.filter.scope == "exposure"
    alike: dict[tuple[str, int, str], list[InForce]] = {}
    for one in told:
        if one.version:
            versions = {name: version for name, version in one.external.items() if name in read}
            together = one.topic if whole else "", one.late, json.dumps(versions, sort_keys=True)
            alike.setdefault(together, []).append(one)
    parts = []
    for (*_, text), some in alike.items():
        filters, numbers = _filters(channel.filter, some)
        spans = [Span(one.topic, one.partition, one.low, one.high, numbers[_key(one)]) for one in some]
        found = replay(
            filters,
            archive,
            nights=nights,
            versions="all",
            public=channel.public,
            externals=Externals(externals.store.root, json.loads(text)),
            values=channel.values,
            only=_seen(some) if whole else (),
        )
        kept = as_ran(found.matches, spans)
        for number, label in enumerate(found.labels):
            count = counted(int((kept["variant"] == number).sum()), "match")
            people.print(f"{count}: {label}{_with(json.loads(text))}", markup=False)
        parts.append(kept)
    return pd.concat(parts, ignore_index=True)


def _seen(some: Sequence[InForce]) -> list[Records]:
    """The records that a filter of whole exposures saw: those judged, and those beside them."""
    from archive.replay.records import Records

    judged = {Records(one.topic, one.partition, one.low, one.high) for one in some}
    beside = {Records(one.topic, number, at, at + 1) for one in some for number, at in one.beside}
    return list(judged | beside)


def _with(versions: dict[str, str]) -> str:
    """Which external information was read, as people read it."""
    return "".join(f", {name} {version}" for name, version in versions.items())


def _filters(current: Filter, told: Sequence[InForce]) -> tuple[list[Filter], dict[str, int]]:
    """The filter with each set of values that was in force, and the number of each set among them."""
    others = {one.version for one in told} - {current.version}
    if others:
        people.print(
            f"parts were judged by other versions of the filter ({', '.join(sorted(others))}); here it is"
            f" {current.version} throughout",
            style="yellow",
        )
    sets: dict[str, dict[str, Any]] = {_key(one): dict(one.parameters) for one in told}
    filters: list[Filter] = []
    numbers: dict[str, int] = {}
    for key, values in sets.items():
        known = {name: value for name, value in values.items() if name in current.parameters}
        made = current.using(**known)
        same = [n for n, f in enumerate(filters) if dict(f.values) == dict(made.values)]
        numbers[key] = same[0] if same else len(filters)
        filters += [] if same else [replace(made)]
    return filters, numbers


def _key(one: InForce) -> str:
    return json.dumps(dict(one.parameters), sort_keys=True)
