"""What people read of a replay: passes by filter, the funnel, what a sweep changes, what was not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from commands.shared.options import counted, people

if TYPE_CHECKING:
    import pandas as pd

    from archive.replay.results import Replay

_EXAMPLES = 3


def report(found: Replay, truth: pd.DataFrame | None = None, seeks: list[str] | None = None) -> None:
    """Print the result of a replay: funnel of each filter, alerts a night, and what a sweep changes.

    Parameters
    ----------
    found
        The replay.
    truth
        The truth table of a simulated sky, for completeness and purity.
    seeks
        The classes that the filters seek; None: the usual ones of each filter.
    """
    pace = found.alerts / found.seconds if found.seconds else 0.0
    nights = len(found.sums)
    people.print(
        f"{counted(found.alerts, 'alert')} of {nights} night{'s' * (nights != 1)} in {found.seconds:,.1f} s "
        f"({pace:,.0f} alerts/s), {found.tally} read"
    )
    if not found.complete:
        people.print("[yellow]ended early: what follows is of the alerts read until then[/]")
    people.print(_table(found))
    if truth is not None and found.complete:
        _report_truth(found, truth, seeks)
    _report_change(found)
    if len(found.filters) == 1:
        people.print(_funnel(found))
    _report_unjudged(found)


def _report_unjudged(found: Replay) -> None:
    """Alerts that a filter raised on: how many, in which nights, and the first errors, each once."""
    table = found.nights()
    for label, rows in table[table["unjudged"] > 0].groupby("filter", sort=False):
        nights = ", ".join(str(night)[:10] for night in rows["night"])
        people.print(
            f"[red]{escape(str(label))} gave no answer for {rows['unjudged'].sum():,} of"
            f" {rows['of'].sum():,} alerts: not judged are {nights}[/]",
            soft_wrap=True,
        )
    alike = found.failures.groupby(["filter", "error"], sort=False)["candid"]
    for (name, error), candids in list(alike)[:_EXAMPLES]:
        words = f"{name} raised on {_where(candids)}: {error}"
        people.print(f"[red]{escape(words)}[/]", soft_wrap=True)


def _where(candids: pd.Series) -> str:
    """On what a filter raised the same error: the candid of an alert, missing for a whole batch."""
    alerts = candids.dropna().tolist()
    batches = len(candids) - len(alerts)
    told = [f"candid {alerts[0]}"] if alerts else []
    told += [f"{len(alerts) - 1:,} more"] if len(alerts) > 1 else []
    told += ["a whole batch" if batches == 1 else f"{batches:,} whole batches"] if batches else []
    return " and ".join(told)


def _report_truth(found: Replay, truth: pd.DataFrame, seeks: list[str] | None) -> None:
    """What is sought, then yield, completeness and purity against threshold."""
    from archive.replay.sweep import scores, swept

    judged = scores(found, truth, seeks)
    for one in {score.filter: score for score in judged}.values():
        sought = one.alerts[one.alerts["sought"]]
        people.print(
            f"{escape(one.filter)} seeks {', '.join(one.seeks)}: {counted(len(sought), 'alert')} of"
            f" {counted(sought['objectId'].nunique(), 'object')}, among {counted(len(one.alerts), 'alert')}",
            soft_wrap=True,
        )
    names = swept(found.filters) if len({f.name for f in found.filters}) == 1 else []
    shares = ("completeness\nof alerts", "completeness\nof objects", "purity\nof alerts")
    table = Table(*(names or ["filter"]), "alerts", "objects", *shares, box=None)
    for number, (f, one) in enumerate(zip(found.filters, judged, strict=True)):
        own = found.of(number)
        first = [_cell(f.values.get(name)) for name in names] or [escape(found.labels[number])]
        numbers = (one.completeness, one.object_completeness, one.purity)
        counts = (f"{len(own):,}", f"{own['objectId'].nunique():,}")
        table.add_row(*first, *counts, *(_share(number) for number in numbers))
    _to_the_right(table)
    people.print(table)


def _report_change(found: Replay) -> None:
    """What each set of values gains and loses against the first, with examples of both sides."""
    others = [n for n, f in enumerate(found.filters) if n and f.name == found.filters[0].name]
    for number in others:
        change = found.compare(0, number)
        people.print(escape(str(change)), soft_wrap=True)
        for one in change.examples(_EXAMPLES if len(others) == 1 else 1).to_dict("records"):
            words = f"  {one['change']}: {one['objectId']} candid {one['candid']}, {str(one['night'])[:10]}"
            people.print(words, highlight=False)


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else escape(str(value))


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.1%}"


def _to_the_right(table: Table) -> None:
    """Numbers to the right and whole; what is called by words is folded where a terminal is narrow."""
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True


def _table(found: Replay) -> Table:
    changes = _changes(found)
    more = ["gained", "lost"] if changes else []
    each = ("alerts\na night", "objects\na night", "µs an\nalert")
    table = Table("filter", "passed", *more, *each, box=None)
    _to_the_right(table)
    costs = found.costs()["microseconds"]
    for number, (label, rows) in enumerate(found.nights().groupby("filter", sort=False)):
        spread = f"{rows['alerts'].min():,} to {rows['alerts'].max():,}"
        objects = f"{rows['objects'].min():,} to {rows['objects'].max():,}"
        total = f"{rows['alerts'].sum():,}"
        change = changes.get(number, ("", "")) if changes else ()
        table.add_row(escape(str(label)), total, *change, spread, objects, f"{costs[number]:.1f}")
    return table


def _changes(found: Replay) -> dict[int, tuple[str, str]]:
    """Alerts that the variants of the first filter gain and lose against it, by their number."""
    first, *others = found.filters
    numbers = [number for number, f in enumerate(others, 1) if f.name == first.name]
    told = [found.compare(0, number) for number in numbers]
    return {n: (f"{len(c.gained):,}", f"{len(c.lost):,}") for n, c in zip(numbers, told, strict=True)}


def _funnel(found: Replay) -> Table:
    table = Table("cut", "alerts left", box=None)
    table.columns[1].justify = "right"
    for cut, alerts in found.funnel(0).groupby("cut", sort=False)["alerts"].sum().items():
        table.add_row(escape(str(cut)), f"{alerts:,}")
    return table
