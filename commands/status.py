"""`zads status`: is tonight all right?"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from commands.shared.options import Bootstrap, Config, Json, counted, paper, settings_of
from schemas.json_text import to_json

if TYPE_CHECKING:
    from pipeline.channels.state import RunState
    from pipeline.clients.status.group import GroupStatus
    from pipeline.clients.status.status import Status

EXIT_UNWELL = 5
"""Something needs a person."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="A record may wait so long, in seconds.")
    ] = 60.0,
    group: Annotated[str | None, typer.Option("--group", help="Kafka consumer group.")] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell whether all is well: where the channels and the archive stand, how fast, what is stuck or missing.

    From any machine that reaches the broker, also when nothing runs. What runs say of themselves is at most
    some seconds old. Exit code 0: all is well; 5: something
    needs a person, and each such thing is a sentence.

    Example: `zads status`
    """
    from pipeline.clients.status.status import status as ask

    settings = settings_of(config, bootstrap_servers=bootstrap, group=group)
    found = ask(settings, [settings.group, "zads-archive"], patience)
    if as_json:
        print(to_json(_plain(found), indent=2))
    else:
        _show(found)
    if found.problems:
        raise typer.Exit(EXIT_UNWELL)


def _plain(found: Status) -> dict[str, Any]:
    told = [one.model_dump() for one in found.runs]
    changes = [one.model_dump() for one in found.changes]
    return {"well": not found.problems, **asdict(found), "runs": told, "changes": changes}


def _show(found: Status) -> None:
    from pipeline.clients.status.runs import runs_now

    console = paper()
    console.print(f"[dim]asked {_when(found.at)} UTC[/]", highlight=False)
    for group in found.groups:
        running = counted(len(group.replicas), "replica")
        waits = f", the oldest waits for {_age(group.age)}" if group.age is not None else ""
        console.print(f"group {group.group}: {running} running, lag {group.lag:,}{waits}")
        if group.partitions:
            console.print(_topics(group))
    now = runs_now(found.runs, found.groups)
    for run in now:
        console.print(_run(run), soft_wrap=True)
        for words in _stuck(run):
            console.print(f"  {escape(words)}", soft_wrap=True)
    if any(run.channels for run in now):
        console.print(_channels(now))
    gaps = counted(found.gaps.total(), "open gap")
    console.print(f"{_at_most(found.dead_letters)} dead letters, {gaps}")
    for change in found.changes:
        console.print(f"[dim]{_when(change.at)}[/] {escape(change.words)}", highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"to know: {escape(note)}", style="yellow", soft_wrap=True, highlight=False)
    for problem in found.problems:
        console.print(f"needs a person: {escape(problem)}", style="bold red", soft_wrap=True, highlight=False)
    if not found.problems:
        idle = [group.group for group in found.groups if not group.replicas]
        console.print(f"[green]all is well[/]{f', but nobody runs for {idle[0]}' if idle else ''}")


def _run(run: RunState) -> str:
    """What a replica said last."""
    dead = sum(run.dead_letters.values())
    parts = [
        f"{run.rate:,.0f} alerts/s",
        f"{counted(run.alerts, 'alert')} judged",
        f"{dead:,} dead letters" if dead else "",
        f"half of the batches within {_within(run.half_within)}, 99 % within {_within(run.most_within)}"
        if run.half_within is not None
        else "",
        counted(run.partitions, "partition") + (f", {run.stuck_in_all} of them stuck" if run.stuck else ""),
        counted(run.workers, "worker"),
        counted(run.channels_on, "channel"),
    ]
    said = f"said {max(time.time() - run.at, 0):.0f} s ago, runs since {_when(run.began)}"
    return f"replica {run.replica} ({said}): {' · '.join(part for part in parts if part)}"


def _stuck(run: RunState) -> Iterator[str]:
    """A line for the partitions that are in the same state for the same reason."""
    alike = defaultdict(list)
    for one in run.stuck:
        alike[one.state, one.why].append(one)
    for (state, why), some in alike.items():
        first = some[0]  # for longest
        attempts = f", {first.attempts} attempts" if first.attempts else ""
        lasts = f"{state} for {run.at - first.since:,.0f} s{attempts}"
        because = f": {why}" if why else ""
        yield f"{counted(len(some), 'partition')} {lasts}, such as {first.partition}{because}"


def _within(seconds: float | None) -> str:
    return "more than 5 min" if seconds is None else f"{seconds:g} s"


def _at_most(count: int) -> str:
    return f"at most {count:,}" if count else "no"


def _channels(runs: list[RunState]) -> Table:
    """A row for each channel of which there is something to tell, over all replicas."""
    table = Table(box=None, pad_edge=False)
    for title in ("channel", "delivered", "missed", "raised", "state"):
        table.add_column(title, justify="left" if title in ("channel", "state") else "right")
    for name in sorted({name for run in runs for name in run.channels}):
        each = [run.channels[name] for run in runs if name in run.channels]
        sums = [sum(getattr(one, what) for one in each) for what in ("delivered", "missed", "raised")]
        state = next((f"suspended: {one.suspended}" for one in each if one.suspended), "")
        state = state or next((f"on, but {one.remark}" for one in each if one.remark), "on")
        table.add_row(name, *(f"{one:,}" for one in sums), escape(state))
    return table


def _topics(group: GroupStatus) -> Table:
    """A row a topic."""
    table = Table(box=None, pad_edge=False)
    for title in ("topic", "partitions", "lag", "waits for", "state"):
        table.add_column(title, justify="left" if title in ("topic", "state") else "right")
    by_topic = defaultdict(list)
    for one in group.partitions:
        by_topic[one.partition.topic].append(one)
    for topic, some in sorted(by_topic.items()):
        states = sorted({one.state for one in some})
        ages = [one.age for one in some if one.age is not None]
        lag = sum(one.lag for one in some)
        table.add_row(topic, f"{len(some)}", f"{lag:,}", _age(max(ages, default=None)), ", ".join(states))
    return table


def _when(at: float) -> str:
    """A Unix time, UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%m-%d %H:%M:%S}"


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.0f} s"
