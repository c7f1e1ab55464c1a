"""`zads where`: the way of one alert, from its record in Kafka to channels, dead letters and archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.explain import explained
from commands.shared.alerts import first_of
from commands.shared.options import Archive, Bootstrap, Config, Json, settings_of
from commands.shared.why import Asked, asked_channels, obstacles
from schemas.errors import PacketError, ZadsError
from schemas.json_text import to_json

if TYPE_CHECKING:
    from pipeline.broker.dead_letters import DeadLetter
    from pipeline.broker.listen import Alert
    from pipeline.channels.config import RunConfig
    from pipeline.clients.where import Place
    from schemas.avro.framing import SchemaSource

_KEPT = ("_topic", "_partition", "_offset", "_timestamp", "_file", "_ingested")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("where")(where)


@dataclass(frozen=True)
class Step:
    """Something that happened to an alert: when (UTC, None where nobody knows), what, and where it is."""

    when: datetime | None
    what: str
    place: str = ""


@dataclass
class Way:
    """What became of one record: its steps in time, and why it is not in the other channels."""

    source: str
    steps: list[Step] = field(default_factory=list)
    kept_out: dict[str, list[str]] = field(default_factory=dict)


def where(
    candid: Annotated[int, typer.Argument(help="Of the alert.")],
    archive: Archive = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell where an alert came from, when, which channels delivered it, and what kept it out of the others.

    Looks into the channels' topics, the dead letters, the gaps and the archive. Where none of them knows the
    alert the source topics are searched, which takes as long as reading them.

    Example: `zads where 2475433850315015009`
    """
    from commands.shared.bootstrap import schemas

    settings = settings_of(config, bootstrap_servers=bootstrap)
    ways = list(_ways(settings, candid, archive, schemas(None, config)))
    if not ways:
        raise ZadsError(
            f"no alert {candid} in the topics at {settings.bootstrap_servers}, nor in the archive"
        )
    if as_json:
        print(to_json([_plain(way) for way in ways], indent=2))
        return
    console = Console()
    for way in ways:
        _show(console, candid, way)


def _ways(
    settings: RunConfig, candid: int, archive: str | None, schemas: SchemaSource | None
) -> Iterator[Way]:
    """One for each record that the alert came as."""
    from pipeline.clients.where import arrivals, channel_topics, deliveries, letters, record

    topics = channel_topics(settings)
    delivered = deliveries(settings, [candid], topics)
    refused, kept = letters(settings, candid), _kept(archive, candid)
    places: dict[Place, Alert | None] = dict.fromkeys(
        [
            *(alert.source for alert in delivered if "source" in alert.headers),
            *(_place(letter.source) for letter in refused if letter.topic is not None),
            *((row["_topic"], row["_partition"], row["_offset"]) for row in kept if row["_topic"]),
        ]
    )
    if not places:
        places = {(alert.topic, alert.partition, alert.offset): alert for alert in arrivals(settings, candid)}
    asked = [one for one in asked_channels(settings) if one.channel.topic in topics] if places else []
    for place, found in places.items():
        here = "/".join(map(str, place))
        source = found or record(settings, place)
        way = Way(here, _steps(here, source, delivered, refused, kept))
        raw = source.raw if source is not None else _archived(archive, candid)
        got = {alert.topic for alert in delivered if alert.headers.get("source") == here}
        others = [one for one in asked if one.channel.topic not in got and place[0] != one.channel.topic]
        why = {one.channel.topic: _why_not(one, raw, place, source, schemas, settings) for one in others}
        way.kept_out = {topic: reasons for topic, reasons in why.items() if reasons}
        yield way
    yield from (Way(row["_file"], [_of_archive(row)]) for row in kept if row["_topic"] is None)


def _place(source: str) -> Place:
    topic, partition, offset = source.rsplit("/", 2)
    return topic, int(partition), int(offset)


def _kept(archive: str | None, candid: int) -> list[Mapping[str, Any]]:
    """The archive's rows of the alert; none without an archive."""
    from archive.read.objects import NoSuchAlert
    from archive.tables.store import NoSuchArchive

    try:
        part, _ = first_of(archive, lambda one: one.packet(candid))
    except (NoSuchArchive, NoSuchAlert):
        return []
    rows = part.alerts(columns=list(_KEPT), where=[("candid", "==", candid)], versions="all")
    plain = rows.compute(scheduler="threads").to_dict("records")
    return [{name: None if value != value else value for name, value in row.items()} for row in plain]


def _archived(archive: str | None, candid: int) -> bytes | None:
    from archive.read.objects import NoSuchAlert
    from archive.tables.store import NoSuchArchive

    try:
        return first_of(archive, lambda one: one.packet(candid))[1]
    except (NoSuchArchive, NoSuchAlert):
        return None


def _steps(
    here: str,
    source: Alert | None,
    delivered: Sequence[Alert],
    refused: Sequence[DeadLetter],
    kept: Sequence[Mapping[str, Any]],
) -> list[Step]:
    """What happened to the record, in time."""
    gone = "its record is there no more"
    steps = [Step(_moment(source.timestamp), "came", here) if source else Step(None, gone, here)]
    for alert in delivered:
        if alert.headers.get("source") == here:
            place = f"{alert.topic}/{alert.partition}/{alert.offset}"
            steps.append(Step(_moment(alert.timestamp), f"delivered to {alert.topic}", place))
    for letter in refused:
        if letter.source == here:
            when = datetime.fromisoformat(letter.at) if letter.at else None
            of = f" of channel {letter.channel}" if letter.channel else ""
            steps.append(Step(when, f"dead letter{of}: {letter.reason}, {letter.detail}"))
    steps += [
        _of_archive(row) for row in kept if f"{row['_topic']}/{row['_partition']}/{row['_offset']}" == here
    ]
    return sorted(steps, key=lambda step: (step.when is not None, step.when or datetime.now(UTC)))


def _of_archive(row: Mapping[str, Any]) -> Step:
    return Step(row["_ingested"].to_pydatetime(), "kept in the archive", row["_file"] or "")


def _why_not(
    asked: Asked,
    raw: bytes | None,
    place: Place,
    source: Alert | None,
    schemas: SchemaSource | None,
    settings: RunConfig,
) -> list[str]:
    """Why an alert is not in a channel, a sentence each; nothing for a channel of other surveys."""
    from filters.errors import FilterError
    from schemas.packets.packet import packet_survey, read_packet

    if raw is None:
        return ["nobody has its packet any more"]
    survey = packet_survey(raw, schemas)
    if survey not in asked.channel.filter.surveys:
        return []
    came = {
        **dict(zip(("_topic", "_partition", "_offset"), place, strict=True)),
        "_timestamp": _moment(source.timestamp) if source else None,
        "_file": None,
        "program": _program(read_packet(raw, schemas)[0], survey),
        "survey": survey,
    }
    try:
        if asked.channel.filter.scope == "exposure":
            stopped = _stopped_with_others(asked, raw, place, schemas, settings)
        else:
            stopped = _stopped(asked, raw, schemas)
    except (PacketError, FilterError) as error:
        return [str(error)]
    reasons = [*stopped, *obstacles(asked, came)]
    unseen = "it was not read yet, the channel is younger, or it was deleted there"
    return reasons or [f"nothing keeps it out: {unseen}"]


def _stopped(asked: Asked, raw: bytes, schemas: SchemaSource | None) -> list[str]:
    tables = [one.cuts for one in explained(asked.channel.filter, raw, "", asked.channel.public, schemas)]
    return [f'its cut "{cut}" stops it' for table in tables for cut in table.loc[table["stopped"], "cut"]]


def _stopped_with_others(
    asked: Asked, raw: bytes, place: Place, schemas: SchemaSource | None, settings: RunConfig
) -> list[str]:
    """Of a channel of whole exposures: the cut that stops it beside those that it was judged with."""
    from commands.shared.exposed import stopped_by
    from pipeline.clients.exposures import judgement, records
    from pipeline.live.exposures.gathering import Place as Within

    topic, here = place[0], Within(*place[1:])
    judged = judgement(settings, topic, here)
    if judged is None:
        return ["its exposure has not been judged yet: the channel waits for the rest of it"]
    found = records(settings, topic, [other for other in judged.places if other != here])
    others, gone = list(found.values()), len(judged.places) - 1 - len(found)
    beside = f"beside {len(judged.places) - 1} records of its exposure"
    if gone:
        return [f"it was judged {beside}, and {gone} of these are there no more"]
    late = ", when it came late" if judged.late else ""
    cuts = stopped_by(asked.channel, raw, others, schemas)
    return [f'its cut "{cut}" stops it {beside}{late}' for cut in cuts]


def _program(packet: Mapping[str, Any], survey: str) -> Any:
    from schemas.frame import value_in_packet
    from schemas.surveys.registry import survey_named

    field = survey_named(survey).public.field
    return value_in_packet(packet, field) if field else None


def _moment(timestamp: int | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp / 1000, UTC)


def _plain(way: Way) -> dict[str, Any]:
    steps = [
        {"when": step.when.isoformat() if step.when else None, "what": step.what, "place": step.place}
        for step in way.steps
    ]
    return {"source": way.source, "steps": steps, "kept_out": way.kept_out}


def _show(console: Console, candid: int, way: Way) -> None:
    console.print(f"[bold]candid {candid}[/], {way.source}", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for step in way.steps:
        when = f"{step.when:%Y-%m-%d %H:%M:%S.%f}"[:-3] if step.when else ""
        table.add_row(when, escape(step.what), escape(step.place))
    console.print(table)
    for topic, reasons in way.kept_out.items():
        for reason in reasons:
            console.print(f"  not in {topic}: {escape(reason)}", soft_wrap=True, highlight=False)
