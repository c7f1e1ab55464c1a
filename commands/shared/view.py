"""What an operator sees while channels run, and the summary afterwards."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from commands.shared.logs import log_for_people, say
from commands.shared.options import counted
from pipeline.channels.channel import ChannelSet
from pipeline.live.told.statistics import Matches, Statistics

log = logging.getLogger("zads")

_PLAIN_SECONDS, _SAME_SECONDS = 5.0, 60.0
EXIT_SUSPENDED = 3


class LiveView:
    """A live table on a terminal; a log line every few seconds where there is none.

    Parameters
    ----------
    channels
        The channels at the start.
    console
        Where to draw.
    plain
        Log lines also on a terminal.
    as_json
        Log lines as JSON objects.
    """

    def __init__(
        self, channels: ChannelSet, console: Console, *, plain: bool = False, as_json: bool = False
    ) -> None:
        self._channels, self._console, self._as_json = channels, console, as_json
        self._plain = plain or as_json or not console.is_terminal
        self._live = Live(
            Text("starting the Dask workers …"), console=console, refresh_per_second=4, transient=True
        )
        self._last_line = self._written = 0.0
        self._words = ""

    def __enter__(self) -> LiveView:
        if not self._as_json:
            log_for_people(self._console)
        if not self._plain:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, statistics: Statistics) -> None:
        """Show the present state; called a few times a second."""
        if not self._plain:
            self._live.update(
                Group(_headline(statistics), _bar(statistics), channel_table(statistics, self._channels))
            )
        elif time.monotonic() - self._last_line >= _PLAIN_SECONDS:
            self._last_line = time.monotonic()
            if self._as_json:
                say("progress", **_figures(statistics))
            else:
                self._line(_headline(statistics).plain)

    def _line(self, words: str) -> None:
        """With its time, as what is logged; what stays the same once a minute."""
        now = time.monotonic()
        if words != self._words or now - self._written >= _SAME_SECONDS:
            self._words, self._written = words, now
            log.info("%s", words)

    def end(self, statistics: Statistics) -> None:
        """Say what was done, when the run has ended."""
        if not self._as_json:
            summarise(statistics, self._channels, self._console)
            return
        delivered = {name: matches.alerts for name, matches in statistics.matches.items()}
        say("ended", **_figures(statistics), delivered=delivered, missed=dict(statistics.gaps))


def _figures(statistics: Statistics) -> dict[str, Any]:
    """What a headline tells, for programs."""
    return {
        "records": statistics.records,
        "alerts": statistics.alerts,
        "objects": len(statistics.objects),
        "rate": round(statistics.rate, 1),
        "lag": statistics.lag,
        "partitions_unknown": statistics.unknown,
        "broker_away": round(statistics.away, 1),
        "workers": statistics.workers,
        "dead_letters": dict(statistics.dead_letters),
        "attempts_lost": dict(statistics.attempts_lost),
        "suspended": dict(statistics.suspended),
        "set_aside": dict(statistics.set_aside),
        "lost": dict(statistics.lost),
        "made_again": dict(statistics.made_again),
        "deleted": dict(statistics.deleted),
    }


def _headline(statistics: Statistics) -> Text:
    dead = sum(statistics.dead_letters.values())
    parts = [
        f"{counted(statistics.alerts, 'alert')} of {counted(len(statistics.objects), 'object')}",
        f"{statistics.rate:,.0f} alerts/s",
        _lag(statistics),
        f"{statistics.workers} workers",
        f"{dead:,} dead letters",
    ]
    if statistics.set_aside:
        parts.append(f"{len(statistics.set_aside)} partitions set aside")
    if statistics.lost:
        parts.append(f"records lost in {len(statistics.lost)} partitions")
    if statistics.attempts_lost:
        parts.append(f"{statistics.attempts_lost.total()} attempts redone")
    return Text(" · ".join(parts), style="bold")


def _lag(statistics: Statistics) -> str:
    if statistics.away:
        return f"lag not known: the broker has not answered for {statistics.away:,.0f} s"
    return f"lag {statistics.lag:,}" + (" or more" if statistics.unknown else "")


def _bar(statistics: Statistics) -> ProgressBar:
    return ProgressBar(
        total=max(1, statistics.records + statistics.lag), completed=statistics.records, width=72
    )


def channel_table(statistics: Statistics, channels: ChannelSet) -> Table:
    """A row a channel: alerts, distinct objects, and what is wrong with it.

    channels: those at the start; the statistics know which are in force now.
    """
    table = Table(box=None, pad_edge=False)
    for title, justify in (("channel", "left"), ("alerts", "right"), ("objects", "right"), ("state", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for channel in (statistics.channels or channels).channels:
        matches = statistics.matches.get(channel.name, Matches())
        state = _state(statistics, channel.name)
        table.add_row(channel.topic, f"{matches.alerts:,}", f"{len(matches.objects):,}", state)
    return table


def _state(statistics: Statistics, channel: str) -> Text:
    if why := statistics.suspended.get(channel):
        return Text(f"suspended: {why}", style="bold red")
    if alarm := statistics.alarms.get(channel):
        return Text(f"on, but {alarm}", style="yellow")
    if surprise := statistics.unexpected.tonight.get(channel):
        return Text(f"on, but {surprise}", style="yellow")
    return Text("on", style="green")


def summarise(statistics: Statistics, channels: ChannelSet, console: Console) -> None:
    """Print what was done, what was refused and why, what failed and what to do about it.

    Parameters
    ----------
    statistics
        Of the run.
    channels
        The channels that ran.
    console
        Where to print.
    """
    console.print(channel_table(statistics, channels))
    seconds = max(statistics.elapsed, 1e-9)
    console.print(
        f"{counted(statistics.records, 'record')}, {counted(statistics.alerts, 'alert')} of"
        f" {counted(len(statistics.objects), 'object')} in {seconds:,.1f} s"
        f" ({statistics.alerts / seconds:,.0f} alerts/s), {counted(statistics.batches, 'batch')}"
    )
    if statistics.exposures or statistics.late:
        console.print(f"{statistics.exposures:,} exposures closed, {statistics.late:,} records came later")
    if statistics.not_public:
        console.print(f"{statistics.not_public:,} alerts are not public: no public channel saw them")
    for name, count in sorted(statistics.hidden.items()):
        console.print(f"{count:,} public alerts went out without {name}, which is not listed as public")
    for survey, count in sorted(statistics.other_surveys.items()):
        console.print(f"{count:,} packets of survey {survey} were counted, not evaluated")
    for reason, count in statistics.dead_letters.most_common():
        console.print(f"{count:,} dead letters: {reason}  (zads dead-letters list)")
    for topic, unread in sorted(statistics.made_again.items()):
        records = f": {unread:,} records of the one before were deleted unread" if unread else ""
        console.print(f"[yellow]topic {topic}[/] was made again and read from its beginning{records}")
    for topic, unread in sorted(statistics.deleted.items()):
        console.print(f"[bold red]topic {topic}[/] was deleted, and up to {unread:,} records of it unread")
    for partition, why in sorted(statistics.lost.items()):
        console.print(f"[bold red]{partition}[/]: {why}", soft_wrap=True)
    for partition, why in sorted(statistics.set_aside.items()):
        console.print(f"[bold red]{partition} could not be read[/]: {why}", soft_wrap=True)
    for (night, channel), surprise in sorted(statistics.unexpected.told.items()):
        console.print(f"[yellow]channel {channel}[/], night {night}: {surprise}")
    for channel, stopped in sorted(statistics.limited.items()):
        console.print(f"channel {channel}: {stopped:,} more alerts passed, its limits let them not through")
    for channel, why in statistics.suspended.items():
        console.print(f"[bold red]channel {channel} suspended[/]: {why}")
        if traceback := statistics.tracebacks.get(channel, "").rstrip():
            console.print(traceback, style="dim", markup=False, highlight=False)
        console.print(
            f"  missed {counted(statistics.gaps[channel], 'record')}; when that is mended,"
            f" `zads channel backfill {channel}` brings them"
        )
