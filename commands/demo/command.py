"""`zads demo`: the whole system once, with real parts, on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.shared.options import EXIT_STOPPED, counted, people

if TYPE_CHECKING:
    from commands.demo.kinds import Kind
    from commands.demo.night import Night
    from pipeline.broker.listen import Alert
    from pipeline.channels.channel import ChannelSet
    from pipeline.channels.config import RunConfig
    from pipeline.clients.publish import PublishSummary
    from pipeline.live.run import Stopped
    from pipeline.live.told.statistics import Statistics

    Publishing = Callable[[Stopped], PublishSummary | None]

_STRANGERS = r"|^(pgir|winter|turbo|unknown)_.*"
_SHOWN_FIRST = ("young_supernova", "new_transient", "blue_outburst", "known_object", "nuclear")
_PICTURES = 4
_GRACE_SECONDS = 2.0
"""The night is published in one go: what belongs to an exposure comes within a moment."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    alerts: Annotated[
        Path | None,
        typer.Option("--alerts", help="Folder or file of real packets.", show_default="a simulated night"),
    ] = None,
    number: Annotated[int, typer.Option("--number", min=1, help="Alerts of ZTF's simulated night.")] = 2000,
    rubin: Annotated[int, typer.Option("--rubin", min=0, help="Alerts of Rubin's simulated night.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the simulated night.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Dask workers.")] = 2,
) -> None:
    """Show the whole of it: a broker, a Dask cluster, a night of alerts, their channels, and a replay.

    Everything is started for the demo and ends with it, on Ctrl-C too. Pictures, the alerts found and the
    night's archive are kept under ZADS_HOME/demo.

    Example: `zads demo --alerts ../shared/alerts`
    """
    from cluster.home import zads_home
    from cluster.kafka.broker import Broker

    home = zads_home() / "demo"
    shutil.rmtree(home, ignore_errors=True)
    people.rule("1. A Kafka broker")
    with ThreadPoolExecutor(1) as beside, Broker(home=home / "kafka") as broker:
        preparing = None if alerts else beside.submit(_prepared, number, rubin, seed, home / "external")
        people.print(f"Apache Kafka answers at {broker.bootstrap_servers}")
        night, kinds = preparing.result() if preparing else (None, [])
        settings = _settings(broker.bootstrap_servers, workers, kinds, home / "external")
        statistics, channels = _live(settings, _feed(broker.bootstrap_servers, alerts, night))
        if statistics.stopped:
            people.print("stopped: the broker and the workers have ended too")
            raise typer.Exit(EXIT_STOPPED)
        failed = night is not None and _kinds_failed(broker.bootstrap_servers, kinds, night, home)
        found = _found(broker.bootstrap_servers, statistics, channels)
        people.rule("5. Some of what was found")
        kept = _keep(found, home / "found")
        _show(found, home / "found.png")
        people.rule("6. The same night once more, from the archive")
        agreed = _replayed(broker.bootstrap_servers, channels, home / "archive")
        shutil.rmtree(home / "kafka", ignore_errors=True)
    _what_next(found, kept, home)
    if failed or not agreed:
        raise typer.Exit(1)


def _prepared(number: int, rubin: int, seed: int, external: Path) -> tuple[Night, list[Kind]]:
    """The simulated night, and what the kinds of filters read beside it."""
    from commands.demo.kinds import kinds_of
    from commands.demo.night import Night

    night = Night.simulated(number, rubin, seed)
    return night, kinds_of(night, external)


def _feed(bootstrap: str, alerts: Path | None, night: Night | None) -> Publishing:
    """What publishes the night while the channels are running; what came of it, unless it was stopped."""

    def feed(stopped: Stopped) -> PublishSummary | None:
        from pipeline.clients.publish import publish, publish_packets

        def heed(_: PublishSummary) -> None:
            if stopped():
                raise _StoppedError

        try:
            if alerts is not None:
                return publish([alerts], bootstrap, progress=heed)
            assert night is not None
            return publish_packets(night.packets, bootstrap, progress=heed)
        except _StoppedError:
            return None

    return feed


def _every_survey() -> str:
    """A pattern of the topics of all surveys, those without a room too."""
    from schemas.surveys.registry import topics_pattern

    return topics_pattern() + _STRANGERS


class _StoppedError(Exception):
    """Raised to end a feed that is no longer wanted."""


def _settings(bootstrap: str, workers: int, kinds: list[Kind], external: Path) -> RunConfig:
    """The configuration of this folder, with the channels of the demo beside its own."""
    from filters import registered
    from pipeline.channels.config import ChannelConfig, ExposuresConfig, read_config

    settings = read_config(bootstrap_servers=bootstrap, topics=_every_survey(), dask={"workers": workers})
    if not kinds:
        return settings
    channels = settings.channels or {name: ChannelConfig() for name in registered()}
    more = {
        "channels": channels | {kind.channel: kind.config for kind in kinds},
        "external": str(external),
        "exposures": ExposuresConfig(grace_seconds=_GRACE_SECONDS),
    }
    return settings.model_copy(update=more)


def _live(settings: RunConfig, feed: Publishing) -> tuple[Statistics, ChannelSet]:
    from commands.shared.dask_cluster import dask_cluster
    from commands.shared.view import LiveView, summarise
    from pipeline.channels.config import channel_set
    from pipeline.live.run import run_live

    channels, dask = channel_set(settings), settings.dask
    counts = f"{dask.workers} workers, {len(channels.channels)} channels"
    people.rule(f"2. A Dask cluster of {counts}, and a night of alerts")
    published: list[PublishSummary | None] = []
    on_dask = dask_cluster(settings.dask)
    with LiveView(channels, people) as view, on_dask as scheduler:
        statistics = run_live(
            settings,
            channels,
            scheduler,
            feed=lambda stopped: published.append(feed(stopped)),
            on_progress=view.update,
        )
    people.rule("3. What came of it")
    summarise(statistics, channels, people)
    for summary in filter(None, published):
        for reason, count in summary.refused.items():
            people.print(f"{counted(count, 'packet')} could not be published ({reason}): dead letters")
    return statistics, channels


def _kinds_failed(bootstrap: str, kinds: list[Kind], night: Night, home: Path) -> bool:
    """Tell what each kind of filter found of what it was to find, with a picture; whether one found
    nothing."""
    from commands.demo.kinds import kinds_table, shown
    from commands.demo.pictures import draw
    from pipeline.broker.listen import listen

    people.rule("4. A filter of each kind, beside the truth of the simulated sky")
    done = []
    for kind in kinds:
        alerts = list(listen(f"channel.{kind.channel}", bootstrap, until_drained=True))
        done.append(shown(kind, alerts, night))
    people.print(kinds_table(done))
    pictures = draw(done, night, home / "kinds", home / "external")
    people.print(f"{counted(len(pictures), 'picture')}, one of each kind: {home / 'kinds'}", soft_wrap=True)
    for one in done:
        if one.failed:
            people.print(f"[red]{one.kind.channel} has found nothing, and there was something[/red]")
    return any(one.failed for one in done)


def _found(bootstrap: str, statistics: Statistics, channels: ChannelSet) -> list[Alert]:
    """A few alerts, as a consumer of the channels receives them; no object twice."""
    from pipeline.broker.listen import listen

    topics = {channel.name: channel.topic for channel in channels.channels}
    order = sorted(
        topics, key=lambda name: _SHOWN_FIRST.index(name) if name in _SHOWN_FIRST else len(_SHOWN_FIRST)
    )
    found: dict[str, Alert] = {}
    for name in order:
        if name in statistics.matches and statistics.matches[name].alerts and len(found) < _PICTURES:
            for alert in islice(listen(topics[name], bootstrap, until_drained=True), 2):
                found.setdefault(str(alert.objectId), alert)
    return list(found.values())[:_PICTURES]


def _keep(found: list[Alert], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{alert.candid}.avro" for alert in found]
    for path, alert in zip(paths, found, strict=True):
        path.write_bytes(alert.raw)
    return paths


def _show(found: list[Alert], picture: Path) -> None:
    from schemas.pictures.figure import save_picture
    from schemas.pictures.terminal import print_picture

    if not found:
        people.print("no channel found anything in these alerts")
        return
    people.print(f"{found[0].objectId} in {found[0].topic}:")
    print_picture(found[0].packet(), people)
    save_picture([alert.packet() for alert in found], picture)
    people.print(f"{len(found)} alerts with light curves and stamps: {picture}")


def _replayed(bootstrap: str, channels: ChannelSet, archive: Path) -> bool:
    """Whether a replay of the archived night finds for each channel the records that it delivered live."""
    from commands.demo.agreement import agreement_table, agreements, archive_topics

    with people.status("archiving the night"):
        kept = archive_topics(bootstrap, _every_survey(), archive)
    people.print(f"{counted(kept, 'alert')} archived in {archive}", highlight=False, soft_wrap=True)
    with people.status("replaying it"):
        found = agreements(bootstrap, channels, archive)
    people.print(agreement_table(found))
    differing = sum(row.differing for row in found)
    people.print(
        f"[red]{differing:,} records differ[/red]" if differing else "live and replay agree on every record"
    )
    return not differing


def _what_next(found: list[Alert], kept: list[Path], home: Path) -> None:
    people.rule("What to try next")
    people.print(f"open {home / 'found.png'}", highlight=False, soft_wrap=True)
    people.print(
        f".venv/bin/zads replay real_bogus --param rb_min=0.5,0.65,0.8 --archive {home / 'archive'}",
        highlight=False,
        soft_wrap=True,
    )
    if kept:
        name = found[0].topic.partition(".")[2]
        people.print(f".venv/bin/zads explain {name} {kept[0]}", highlight=False, soft_wrap=True)
    people.print(
        ".venv/bin/zads broker start && .venv/bin/zads simulate --alerts 500 --topic nightly\n"
        ".venv/bin/zads run --until-drained && .venv/bin/zads listen channel.pure_transient --until-drained\n"
        ".venv/bin/zads --help",
        highlight=False,
        soft_wrap=True,
    )
