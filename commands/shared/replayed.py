"""What people read of a replay: passes by filter, the funnel, what a sweep changes, what was not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from commands.shared.options import names_of, people

if TYPE_CHECKING:
    import pandas as pd

    from archive.replay.results import Replay

_EXAMPLES = 3


def report(found: Replay, truth: pd.DataFrame | None = None, seeks: str | None = None) -> None:
    """Print the result of a replay: funnel of each filter, alerts a night, and what a sweep changes.

    Parameters
    ----------
    found
        The replay.
    truth
        The truth table of a simulated sky, for completeness and purity.
    seeks
        The classes that the filters seek, separated by commas; None: the usual ones of each filter.
    """
    pace = found.alerts / found.seconds if found.seconds else 0.0
    nights = len(found.sums)
    people.print(
        f"{found.alerts:,} alerts of {nights} night{'s' * (nights != 1)} in {found.seconds:,.1f} s "
        f"({pace:,.0f} alerts/s), {found.tally} read"
    )
    if not found.complete:
        people.print("[yellow]ended early: what follows is of the alerts read until then[/]")
    people.print(_table(found))
    if truth is not None:
        _report_truth(found, truth, seeks)
    _report_change(found)
    if len(found.filters) == 1:
        people.print(_funnel(found))
    _report_unjudged(found)


def _report_unjudged(found: Replay) -> None:
    """Alerts that a filter raised on: how many, in which nights, and the first errors."""
    table = found.nights()
    for label, rows in table[table["unjudged"] > 0].groupby("filter", sort=False):
        nights = ", ".join(str(night)[:10] for night in rows["night"])
        people.print(
            f"[red]{escape(str(label))} gave no answer for {rows['unjudged'].sum():,} of"
            f" {rows['of'].sum():,} alerts: not judged are {nights}[/]",
            soft_wrap=True,
        )
    for failure in found.failures.head(_EXAMPLES).to_dict("records"):
        where = f"candid {failure['candid']}" if isinstance(failure["candid"], int) else "a whole batch"
        words = f"{failure['filter']} raised on {where}: {failure['error']}"
        people.print(f"[red]{escape(words)}[/]", soft_wrap=True)


def _report_truth(found: Replay, truth: pd.DataFrame, seeks: str | None) -> None:
    """Yield, completeness and purity against threshold."""
    from archive.replay.sweep import sweep

    rows = sweep(found, truth, names_of(seeks))
    table = Table(*map(str, rows.columns), box=None)
    for row in rows.itertuples(index=False):
        table.add_row(*(_cell(name, value) for name, value in zip(rows.columns, row, strict=True)))
    people.print(table)


def _report_change(found: Replay) -> None:
    """What the second set of values gains and loses against the first, with examples of both sides."""
    if len(found.filters) < 2 or found.filters[0].name != found.filters[1].name:
        return
    change = found.compare(0, 1)
    people.print(escape(str(change)), soft_wrap=True)
    for one in change.examples(_EXAMPLES).to_dict("records"):
        words = f"  {one['change']}: {one['objectId']} candid {one['candid']}, {str(one['night'])[:10]}"
        people.print(words, highlight=False)


def _cell(name: Any, value: Any) -> str:
    if name in ("share", "completeness", "purity"):
        return "-" if value != value else f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _table(found: Replay) -> Table:
    changes = _changes(found)
    more = ["gained", "lost"] if changes else []
    table = Table("filter", "passed", *more, "alerts a night", "objects a night", "µs an alert", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
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
