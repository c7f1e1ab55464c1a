"""`zads replay channel.NAME --as-ran`: each record by the parameters that were in force when it was
judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.shared.options import counted, people, settings_of
from commands.shared.why import asked_channel, names_channel
from schemas.errors import ZadsError

if TYPE_CHECKING:
    import pandas as pd

    from archive.read.archive import Archive
    from filters import Filter
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
        For what is no channel, or one that never ran.
    """
    from archive.replay.as_ran import Span, as_ran
    from archive.replay.replay import replay
    from pipeline.clients.in_force import in_force

    if not names_channel(named):
        raise ZadsError(f"{named} is not a channel", hint="--as-ran wants one: channel.NAME")
    channel = asked_channel(named, config, bootstrap).channel
    told = in_force(settings_of(config, bootstrap_servers=bootstrap), channel.name)
    if not told:
        raise ZadsError(f"{named} has not run yet: zads.applied does not name it")
    filters, numbers = _filters(channel.filter, told)
    spans = [
        Span(one.topic, one.partition, one.low, one.high, numbers.get(_key(one)) if one.version else None)
        for one in told
    ]
    found = replay(filters, archive, nights=nights, versions="all", public=channel.public)
    kept = as_ran(found.matches, spans)
    for number, label in enumerate(found.labels):
        people.print(f"{counted(int((kept['variant'] == number).sum()), 'match')}: {label}", markup=False)
    return kept


def _filters(current: Filter, told: list[InForce]) -> tuple[list[Filter], dict[str, int]]:
    """The filter with each set of values that was in force, and the number of each set among them."""
    others = {one.version for one in told} - {current.version, ""}
    if others:
        people.print(
            f"parts were judged by other versions of the filter ({', '.join(sorted(others))}); here it is"
            f" {current.version} throughout",
            style="yellow",
        )
    sets: dict[str, dict[str, Any]] = {_key(one): dict(one.parameters) for one in told if one.version}
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
