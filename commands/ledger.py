"""`zads ledger`: what became of every record of a night."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from commands.shared.options import (
    Archive,
    Bootstrap,
    Config,
    Json,
    archive_at,
    counted,
    iso_night,
    settings_of,
)
from commands.status import EXIT_UNWELL
from schemas.errors import ZadsError
from schemas.json_text import to_json

if TYPE_CHECKING:
    from pipeline.channels.counts import ChannelCounts
    from pipeline.clients.ledger import NightLedger


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ledger")(ledger)


def ledger(
    night: Annotated[
        str | None,
        typer.Argument(help="2023-10-12 or 20231012.", show_default="the last one", metavar="[NIGHT]"),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Count the records in the topics too, and in the archive if there is one."
        ),
    ] = False,
    sent: Annotated[
        list[str] | None,
        typer.Option(
            "--sent",
            help="What the survey says it has sent in the night: a number, or its own tarball of the night;"
            " with TOPIC= before it, to one topic. May be repeated.",
            metavar="[TOPIC=]WHAT",
        ),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Kafka consumer group.")] = None,
    archive: Archive = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell what became of every record of a night: for each source, and for each channel.

    The counts were written in the transactions that delivered the alerts. With --check they are compared with
    what is in the topics and the archive, with --sent with the survey's own count. Exit code 0: everything
    adds up; 5: something does not, and each such thing is a sentence.

    Example: `zads ledger 2023-10-12 --check`
    """
    from pipeline.clients.audit import audit
    from pipeline.clients.ledger import entries, nights_of
    from pipeline.clients.ranked import closing_ledger

    settings = settings_of(config, bootstrap_servers=bootstrap, group=group)
    found = entries(settings)
    nights = nights_of(found)
    wanted = iso_night(night) if night else max(nights, default="")
    if wanted not in nights:
        known = ", ".join(nights[-5:]) or "none"
        of = f" of the night {wanted}" if wanted else ""
        raise ZadsError(f"group {settings.group} has read nothing{of}; the nights it has read last: {known}")
    told = closing_ledger(settings, wanted, found)
    archived: dict[str, dict[str, int]] = {}
    for one in sent or []:
        _compare(told, one)
    if check:
        told.problems += audit(settings, told, found)
        archived = _archived(archive, told)
    if as_json:
        print(to_json({"balances": not told.problems, **_plain(told), "archive": archived}, indent=2))
    else:
        _show(told, archived, check)
    if told.problems:
        raise typer.Exit(EXIT_UNWELL)


def _compare(told: NightLedger, sent: str) -> None:
    """Note it when another number of records has come than the survey says it has sent."""
    topic, _, what = sent.rpartition("=")
    if topic and topic not in told.sources:
        raise ZadsError(f"no source {topic} in the night {told.night}: there are {', '.join(told.sources)}")
    count, came = _count(what), told.arrived([topic] if topic else None)
    if count != came:
        where = f" to {topic}" if topic else ""
        words = f"the survey says that it has sent {count:,}{where}, {counted(came, 'record')} came"
        told.problems.append(words)


def _count(what: str) -> int:
    """How many packets the survey has sent: a number, or counted in files. Raises NoSuchPackets."""
    from schemas.packets.files import PacketFiles

    if what.replace(",", "").isdigit():
        return int(what.replace(",", ""))
    files = PacketFiles([Path(what)])
    count = sum(1 for _ in files)
    if files.damaged:
        raise ZadsError(f"the survey's packets cannot be counted: {files.damaged[0]}")
    return count


def _archived(named: str | None, told: NightLedger) -> dict[str, dict[str, int]]:
    """What the archive has of each source that a survey fills; notes what it lacks. Raises NoSuchArchive.

    In quarantine nobody knows a night: there only sources that name theirs are counted. The archive of this
    machine, which nobody has named, may be another broker's: it is asked for what it has alone.
    """
    from archive.care.received import received
    from archive.tables.store import is_archive
    from pipeline.channels.ledger import night_of_topic
    from pipeline.clients.ledger import OF_CHANNELS

    found: dict[str, dict[str, int]] = {}
    address = archive_at(named)
    if named is None and not is_archive(address):
        return found
    for topic, page in told.sources.items():
        if topic.startswith(OF_CHANNELS):
            continue
        dated = bool(night_of_topic(topic))
        kept, quarantined = received(address, topic, None if dated else told.night)
        if named is None and not kept + quarantined:
            continue
        found[topic] = {"kept": kept} | ({"quarantined": quarantined} if dated else {})
        has, wanted = sum(found[topic].values()), page.source.received if dated else page.source.judged
        if has != wanted:
            told.problems.append(f"{topic}: the archive has {has:,} of {counted(wanted, 'record')}")
    return found


def _plain(told: NightLedger) -> dict[str, Any]:
    sources = {
        topic: {"source": page.source._asdict(), "channels": _dicts(page.channels)}
        for topic, page in told.sources.items()
    }
    plain = {
        "night": told.night,
        "group": told.group,
        "waiting": told.waiting,
        "in_open_exposures": told.in_open_exposures,
        "problems": told.problems,
    }
    return {**plain, "sources": sources, "channels": _dicts(told.channels)}


def _dicts(channels: Mapping[str, ChannelCounts]) -> dict[str, dict[str, int]]:
    return {name: counts._asdict() for name, counts in channels.items()}


def _show(told: NightLedger, archived: dict[str, dict[str, int]], checked: bool) -> None:
    console = Console()
    console.print(f"night {told.night}, group {told.group}")
    sources = {topic: page.source._asdict() for topic, page in sorted(told.sources.items())}
    for topic, counts in sources.items():
        counts |= {"waiting": told.waiting.get(topic, 0), **archived.get(topic, {})}
        if topic in told.in_open_exposures:
            counts["in_open_exposures"] = told.in_open_exposures[topic]
    console.print(_table("source", sources))
    console.print(_table("channel", _dicts(told.channels)))
    for problem in told.problems:
        console.print(f"[bold red]{problem}[/]", soft_wrap=True)
    if not told.problems:
        where = (", in the topics" if checked else "") + (" and in the archive" if archived else "")
        console.print(f"[green]everything adds up{where}[/]")


def _table(what: str, rows: dict[str, dict[str, int]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(what)
    columns: Iterable[str] = dict.fromkeys(name for counts in rows.values() for name in counts)
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for name, counts in rows.items():
        table.add_row(name, *(f"{counts.get(column, 0):,}" for column in columns))
    return table
