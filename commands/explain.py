"""`zads explain`: which cut stopped an alert, and on what values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.shared.alerts import What, is_candid, is_public_packet, packets_named
from commands.shared.options import Archive, Bootstrap, Config, Json, Schemas, counted, settings_of
from commands.shared.why import Asked, asked_channels, names_channel, obstacles, source_of
from schemas.json_text import to_json

if TYPE_CHECKING:
    import pandas as pd

    from commands.shared.exposed import Find
    from filters import Filter
    from pipeline.channels.config import RunConfig
    from schemas.avro.framing import SchemaSource


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


@dataclass(frozen=True)
class Explained:
    """One alert, what each cut of a filter said of it (see `Filter.explain`), and the values it gives.

    seen: False for one that a public channel does not see. beside: of a filter of whole exposures, in which
    exposure it was judged, beside how many alerts, and where these came from (see `Beside.told`).
    """

    candid: int
    objectId: str
    cuts: pd.DataFrame
    gives: dict[str, Any]
    seen: bool = True
    beside: dict[str, Any] | None = None

    @property
    def passes(self) -> bool | None:
        """None when it cannot be judged."""
        if self.beside is not None and self.beside["missing"]:
            return None
        return self.seen and not self.cuts["stopped"].any()


def explain(
    filter_name: Annotated[
        str,
        typer.Argument(
            metavar="FILTER",
            help="Name, path/to/file.py:function, package.module:function; or a channel: channel.NAME.",
        ),
    ],
    what: What,
    param: Annotated[
        list[str] | None, typer.Option(help="Another value of a threshold: name=value; may be repeated.")
    ] = None,
    collaboration: Annotated[
        bool,
        typer.Option(
            "--collaboration", help="Archived alerts that are not public too, with all rows of histories."
        ),
    ] = False,
    archive: Archive = None,
    as_json: Json = False,
    schema_source: Schemas = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Tell for each cut of a filter whether an alert passes it, and on what values.

    The alert is a public one of the archive, by candid or objectId, of which a filter sees the public
    history, as in `zads replay`; or a packet file, which it sees whole. A filter of whole exposures judges
    the alert beside the others of its exposure, which are found in the stream or the archive. A channel sees
    what it may see; of a channel it also tells what else may keep an alert out: access, topics, whether it
    was enabled and not suspended when the alert came.

    Example: `zads explain asteroid 2475433850315015009 --param rb_min=0.5`

    Example: `zads explain channel.young_supernova ZTF18abcdefg`
    """
    from commands.shared.bootstrap import schemas

    source = schemas(schema_source, config)
    if names_channel(filter_name):
        options = {"param": param, "collaboration": collaboration or None}
        told = _of_channel(filter_name, what, options, archive, source, config, bootstrap)
    else:
        told = _of_filter(filter_name, what, param, collaboration, archive, source)
    if as_json:
        print(to_json([{k: v for k, v in one.items() if k not in _FOR_PEOPLE} for one in told], indent=2))
    else:
        show_explained(told)


def _of_filter(
    named: str,
    what: str,
    param: list[str] | None,
    collaboration: bool,
    archive: str | None,
    source: SchemaSource | None,
) -> list[dict[str, Any]]:
    """What a filter says of the alerts that are meant."""
    from commands.shared.exported import filter_named
    from commands.shared.exposed import in_archive

    chosen = filter_named(named).using(**parameters(param or []))
    public = not collaboration and not Path(what).is_file()
    packets, find = packets_named(what, archive, public), in_archive(archive, public)
    alerts = [alert for raw in packets for alert in explained(chosen, raw, what, public, source, find)]
    return [_plain(alert, chosen) for alert in alerts]


def _of_channel(
    named: str,
    what: str,
    options: dict[str, Any],
    archive: str | None,
    source: SchemaSource | None,
    config: Path | None,
    bootstrap: str | None,
) -> list[dict[str, Any]]:
    """What a channel says of the alerts that are meant; `zads serve` is asked by whoever may not look."""
    from commands.channel.ask import answered

    settings, name = settings_of(config, bootstrap_servers=bootstrap), named.partition(".")[2]
    if answer := answered(settings, "explain", name, options, alert=what):
        return list(answer.explained)
    (asked,) = asked_channels(settings, [name])
    given = parameters(options["param"] or [])
    channel = replace(asked.channel, filter=asked.channel.filter.using(**given)) if given else asked.channel
    asked = replace(asked, channel=channel)
    packets = packets_named(what, archive, channel.public and not is_candid(what))
    return told_of(settings, asked, packets, what, archive, source)


def told_of(
    settings: RunConfig,
    asked: Asked,
    packets: Sequence[bytes],
    what: str,
    archive: str | None,
    source: SchemaSource | None = None,
) -> list[dict[str, Any]]:
    """What a channel says of packets, where they are in its topic, and why they are not, as plain values.

    Parameters
    ----------
    settings
        The configuration.
    asked
        The channel.
    packets
        The packets.
    what
        What they were called: of a packet file nothing else is known.
    archive
        Address of the archive that they are in; None: the usual one.
    source
        Of packets with Confluent's framing.

    Raises
    ------
    PacketError, FilterError, BrokerError
        As `explained` and the broker do.
    """
    from commands.shared.exposed import in_archive, in_stream

    chosen, topic, public = asked.channel.filter, asked.channel.topic, asked.channel.public
    alerts: list[Explained] = []
    for raw in packets:
        if public and not Path(what).is_file() and not is_public_packet(raw):
            alerts += _unseen(raw)
        else:
            find = in_archive(archive, public)
            if chosen.scope == "exposure" and not Path(what).is_file():
                find = in_stream(settings, source_of(archive, _candid_of(raw)), find)
            alerts += explained(chosen, raw, what, public, source, find)
    places = _places(settings, topic, alerts)
    told = []
    for alert in alerts:
        known = not places[alert.candid] and not Path(what).is_file()
        reasons = obstacles(asked, source_of(archive, alert.candid)) if known else []
        where = {"delivered": places[alert.candid], "obstacles": reasons, "topic": topic}
        told.append(_plain(alert, chosen) | where)
    return told


def _candid_of(raw: bytes) -> int:
    from schemas.frame import value_in_packet
    from schemas.packets.packet import read_packet

    return int(value_in_packet(read_packet(raw)[0], "candid"))


def _unseen(raw: bytes) -> Iterator[Explained]:
    """The alerts of a packet that a public channel does not see: only the candid, which was asked for."""
    import pandas as pd

    from schemas.frame import value_in_packet
    from schemas.packets.packet import read_packet

    for packet in read_packet(raw):
        nothing = pd.DataFrame(columns=["candid", "cut", "passed", "stopped", "saw"])
        yield Explained(int(value_in_packet(packet, "candid")), "not public", nothing, {}, seen=False)


_FOR_PEOPLE = ("filter", "units", "topic")
_VERDICTS = {
    True: "[green]passes[/]",
    False: "[red]does not pass[/]",
    None: "[yellow]cannot be judged by[/]",
}


def _words_of(beside: dict[str, Any]) -> str:
    """In which exposure it was judged, or why it was not."""
    of = f"exposure {beside['exposure']}"
    if beside["missing"]:
        return escape(f"it is judged with its whole exposure ({of}), and {beside['missing']}")
    return escape(
        f"judged in {of}, {counted(beside['members'], 'alert')} with this one, from {beside['where']}"
    )


def show_explained(told: Sequence[dict[str, Any]]) -> None:
    """Print what `told_of` tells: each cut of each alert, and of a channel where the alert is or why not."""
    console = Console()
    for one in told:
        verdict = _VERDICTS[one["passes"]]
        name = f"[bold]{escape(one['objectId'])}[/], candid {one['candid']}"
        console.print(f"{name}: {verdict} {escape(one['filter'])}")
        if beside := one.get("exposure"):
            console.print(f"  {_words_of(beside)}", soft_wrap=True, highlight=False)
        console.print(_table(one["cuts"]))
        for value, number in one["values"].items():
            unit = one["units"].get(value, "").replace("text", "")
            console.print(f"  it gives {value} = {escape(brief(number))} {unit}", highlight=False)
        if "topic" in one:
            _say_why(console, one)
    console.print(_counts(told))


def _places(settings: RunConfig, topic: str, alerts: list[Explained]) -> dict[int, list[str]]:
    """Candid -> where the channel's topic has the alert, and since when; the topic is read once."""
    from pipeline.clients.where import channel_topics, deliveries

    there = [topic] if topic in channel_topics(settings) else []
    found: dict[int, list[str]] = {alert.candid: [] for alert in alerts}
    for one in deliveries(settings, found, there):
        place = f"{one.topic}/{one.partition}/{one.offset}"
        if one.timestamp:
            place += f", {datetime.fromtimestamp(one.timestamp / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        found[int(one.headers["candid"])].append(place)
    return found


def _say_why(console: Console, one: dict[str, Any]) -> None:
    """Print where the channel has the alert; otherwise everything that keeps it out, or that nothing does."""
    topic, places = one["topic"], one["delivered"]
    for place in places:
        console.print(f"[green]it is in {topic}[/]: {place}", soft_wrap=True, highlight=False)
    if places:
        if not one["passes"]:
            console.print("the channel was another when it was delivered", highlight=False)
        return
    stopped = [cut["cut"] for cut in one["cuts"] if cut["stopped"]]
    whole = [*(f'its cut "{cut}" stops it' for cut in stopped), *one["obstacles"]]
    for reason in whole:
        console.print(f"[red]not in {topic}[/]: {escape(reason)}", soft_wrap=True, highlight=False)
    if not whole:
        words = f"nothing keeps it out of {topic}: `zads listen {topic} --until-drained` shows what is there"
        console.print(words, soft_wrap=True, highlight=False)


def parameters(given: list[str]) -> dict[str, str]:
    """["gap=20"] as {"gap": "20"}. Raises BadParameter (a usage error) for anything else."""
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise typer.BadParameter(f"{text!r}: write --param name=value")
        values[name.strip()] = value.strip()
    return values


def explained(
    chosen: Filter,
    raw: bytes,
    name: str,
    public: bool = False,
    schemas: SchemaSource | None = None,
    find: Find | None = None,
) -> Iterator[Explained]:
    """Every alert of a packet.

    Parameters
    ----------
    chosen : Filter
        With its parameters.
    raw : bytes
        The packet.
    name : str
        What to call it in an error.
    public : bool
        As a public channel sees it: without history rows that are not public.
    schemas : SchemaSource, optional
        Of packets with Confluent's framing.
    find : Find, optional
        Of a filter of whole exposures: where the others of an exposure are looked for.

    Raises
    ------
    PacketError
        What is wrong with the packet.
    FilterError
        It is of another survey.
    """
    from filters.errors import FilterError
    from filters.external.externals import frames_of
    from schemas.packets.packet import packet_survey
    from schemas.packets.reader import PacketReader

    reads = chosen.require_reads()
    survey = packet_survey(raw, schemas)
    if survey not in chosen.surveys:
        raise FilterError(f"{name} is of {survey}; {chosen.name} is for {chosen.of}")
    if chosen.scope == "exposure":
        from commands.shared.exposed import judged_beside

        assert find is not None
        for one in judged_beside(chosen, raw, public, find, schemas):
            yield Explained(one.candid, one.objectId, one.cuts, one.gives, beside=one.told)
        return
    maker = frames_of(reads, survey, public)
    batch = PacketReader(maker.columns, survey, schemas).read([raw])
    if batch.refused:
        raise batch.refused[0].error
    frame = maker.frame(batch.table)
    for row in range(len(frame)):
        alert = frame.iloc[[row]]
        candid = int(alert["candid"].iloc[0])
        cuts, gives = chosen.explain(alert, candid), chosen.values_of(alert)
        yield Explained(candid, str(alert["objectId"].iloc[0]), cuts, gives)


def _table(cuts: Sequence[dict[str, Any]]) -> Table:
    table = Table("cut", "", "saw", box=None, padding=(0, 2, 0, 2))
    for row in cuts:
        saw = "\n".join(f"{name} = {brief(value)}" for name, value in row["saw"].items())
        table.add_row(escape(row["cut"]), _mark(row), escape(saw))
    return table


def _mark(row: dict[str, Any]) -> str:
    if row["stopped"]:
        return "[red]✗ stopped here[/]"
    if row["passed"] is True:
        return "[green]✓ passed[/]"
    return "[dim]✗ failed too[/]" if row["passed"] is False else "[dim]not reached[/]"


def brief(value: Any) -> str:
    """A value for one line; of a history how many rows have a value, and their range."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        there = [v for v in value if v is not None]
        if not there:
            return f"{len(value)} rows, no value"
        span = brief(there[0]) if min(there) == max(there) else f"{brief(min(there))} to {brief(max(there))}"
        return f"{len(value)} rows, {len(there)} with a value: {span}"
    if isinstance(value, float):
        return f"{value:.5f}" if abs(value) > 1e6 else f"{value:.7g}"  # a Julian date to the second
    return str(value)


def _counts(told: Sequence[dict[str, Any]]) -> str:
    unjudged = sum(one["passes"] is None for one in told)
    return _passing(told) + (f" {unjudged} cannot be judged." if unjudged else "")


def _passing(told: Sequence[dict[str, Any]]) -> str:
    passed = [one for one in told if one["passes"]]
    objects, passed_objects = ({one["objectId"] for one in some} for some in (told, passed))
    return (
        f"{len(passed)} of {len(told)} alerts pass, {len(passed_objects)} of {len(objects)} objects."
        if len(told) != 1
        else f"{len(passed)} of 1 alert passes, {len(passed_objects)} of 1 object."
    )


def _plain(alert: Explained, chosen: Filter) -> dict[str, Any]:
    cuts = alert.cuts.drop(columns="candid").astype({"passed": object}).to_dict("records")
    for cut in cuts:
        cut["passed"] = None if cut["passed"] not in (True, False) else bool(cut["passed"])
        cut["stopped"] = bool(cut["stopped"])
    of = {"candid": alert.candid, "objectId": alert.objectId, "passes": alert.passes}
    if alert.beside is not None:
        of["exposure"] = alert.beside
    return {**of, "values": alert.gives, "cuts": cuts, "filter": repr(chosen), "units": dict(chosen.gives)}
