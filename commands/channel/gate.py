"""The check before a channel is enabled: its filter on recent nights of the archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from commands.shared.options import archive_at, counted, counting_bar, people

if TYPE_CHECKING:
    from archive.replay.backtest import Backtest
    from archive.replay.replay import Progress as SoFar
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition

PREVIEWED = ("candid", "objectId", "jd", "ra", "dec", "band", "mag", "magerr")
"""Columns of a preview."""


def try_on_archive(
    settings: RunConfig, definition: Definition, archive: str | None, nights: str | None
) -> dict[str, Any]:
    """Backtest a definition, show the report and return it (see `backtested`).

    Parameters
    ----------
    settings
        The configuration, with the limits.
    definition
        The channel's definition.
    archive
        Address of the archive; None: the usual one.
    nights
        Nights to try it on; None: the last ones.
    """
    with counting_bar() as bar:
        task = bar.add_task(f"trying {definition.name}", total=None, counted="")

        def show(so_far: SoFar) -> None:
            words = counted(so_far.matches, "match")
            bar.update(task, completed=so_far.alerts, total=so_far.of, counted=words)

        report = backtested(settings, definition, archive, nights, show)
    show_report(definition.name, report)
    return report


def backtested(
    settings: RunConfig,
    definition: Definition,
    archive: str | None,
    nights: str | None,
    on_progress: Callable[[SoFar], None] | None = None,
) -> dict[str, Any]:
    """The report of a definition's backtest, with its `problems`; nothing is printed.

    An archive that is missing or empty is one of the problems.

    Parameters
    ----------
    settings, definition, archive, nights
        As for `try_on_archive`.
    on_progress
        Called with the progress.
    """
    from archive.replay.backtest import Limits, NothingToTry
    from archive.tables.store import NoSuchArchive

    gate = settings.gate
    limits = Limits(gate.share, gate.alerts_per_hour, gate.microseconds)
    report: dict[str, Any] = {}
    try:
        found = _backtest(settings, definition, archive, nights, on_progress)
        report = found.report() | {"problems": found.problems(limits)}
    except (NoSuchArchive, NothingToTry) as error:
        report = {"problems": [f"not tried: {error}"]}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return report | {"of": definition.judged, "when": when}


def last_matches(
    settings: RunConfig, definition: Definition, archive: str | None, nights: str | None, count: int
) -> tuple[dict[str, Any], ...]:
    """What a channel would have delivered last, as plain JSON values, the newest first.

    Parameters
    ----------
    settings, definition, archive, nights
        As for `try_on_archive`.
    count
        At most so many alerts.

    Raises
    ------
    NothingToTry, NoSuchArchive
        When there is nothing to look at.
    """
    from filters.values import as_json

    matches = _backtest(settings, definition, archive, nights).found.matches
    newest = matches.sort_values("jd", ascending=False).head(count)
    shown = [name for name in PREVIEWED if name in newest]
    return tuple(as_json(newest[shown]))


def _backtest(
    settings: RunConfig,
    definition: Definition,
    archive: str | None,
    nights: str | None,
    show: Callable[[SoFar], None] | None = None,
) -> Backtest:
    """Of what the channel sees. Raises NothingToTry, NoSuchArchive."""
    from archive.replay.backtest import backtest

    channel = definition.channel()
    return backtest(
        channel.filter,
        archive_at(archive),
        nights,
        last=settings.gate.nights,
        public=channel.public,
        externals=settings.externals,
        on_progress=show,
    )


def show_preview(alerts: Sequence[Mapping[str, Any]]) -> None:
    """Print what a channel would have delivered last."""
    if not alerts:
        people.print("it would have delivered nothing")
        return
    people.print(f"preview, not delivered: the last {counted(len(alerts), 'alert')} of these nights")
    table = Table(box=None)
    for name in alerts[0]:  # what is copied from here is whole on a narrow terminal too
        table.add_column(name, no_wrap=name in ("candid", "objectId"), overflow="fold")
    for one in alerts:
        table.add_row(*(escape(f"{v:.5f}" if isinstance(v, float) else f"{v}") for v in one.values()))
    people.print(table)


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """A backtest in plain lines: alerts a night, what each cut leaves, reasons not to enable it."""
    nights = [
        f"{row['night']}: {row['alerts']:,} alerts of {row['objects']:,} objects, of {row['of']:,}"
        for row in report.get("nights", ())
    ]
    cuts = [f"{step['cut']}: {step['alerts']:,} left" for step in report.get("funnel", ())]
    return [*nights, *cuts, *report.get("problems", ())]


def show_report(name: str, report: dict[str, Any]) -> None:
    """Print a backtest: expected alerts a night, funnel, time used, examples, reasons not to enable it."""
    if "nights" in report:
        people.print(_nights(report))
        people.print(_funnel(report))
        people.print(
            f"at most {counted(report['alerts_per_hour'], 'alert')} within an hour,"
            f" {report['microseconds']:,.1f} µs an alert"
        )
        for one in report["examples"]:
            people.print(f"  for example {one['objectId']} candid {one['candid']}, {one['night']}")
        if report.get("not_tried_on"):
            people.print(f"tried on alerts of {report['survey']}, not of {', '.join(report['not_tried_on'])}")
        if not any(row["alerts"] for row in report["nights"]):
            people.print(f"[yellow]{name} passed nothing on these nights[/]")
    for problem in report.get("problems", ()):
        people.print(f"[red]{escape(problem)}[/]")


def expected(report: dict[str, Any] | None) -> str:
    """Alerts a night in few words: "12 to 40"; "" when it was not tried."""
    counts = [row["alerts"] for row in (report or {}).get("nights", ())]
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _nights(report: dict[str, Any]) -> Table:
    table = Table("night", "alerts", "objects", "of", "share", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in report["nights"]:
        share = f"{row['alerts'] / row['of']:.2%}" if row["of"] else ""
        table.add_row(str(row["night"]), f"{row['alerts']:,}", f"{row['objects']:,}", f"{row['of']:,}", share)
    return table


def _funnel(report: dict[str, Any]) -> Table:
    table = Table("cut", "alerts left", box=None)
    table.columns[1].justify = "right"
    for step in report["funnel"]:
        table.add_row(escape(step["cut"]), f"{step['alerts']:,}")
    return table
