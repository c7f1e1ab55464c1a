"""Live = replay, shown: the records that a night's channels delivered beside those that a replay finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from archive.replay.replay import Replay
    from pipeline.channels.channel import Channel, ChannelSet

Place = tuple[str, int, int]


@dataclass(frozen=True)
class Agreement:
    """One channel: how many records it delivered live and finds in replay, and how many are on one side."""

    channel: str
    live: int
    replayed: int
    differing: int


def archive_topics(bootstrap: str, pattern: str, folder: Path) -> int:
    """Keep everything that is in the topics now in an archive in `folder`; the number of alerts kept."""
    from archive.write.appender import Appender
    from pipeline.clients.follow import Follower

    appender = Appender(str(folder))
    Follower(appender, pattern, bootstrap, "zads-demo-archive").run(until_drained=True)
    return appender.appended.kept


def agreements(bootstrap: str, channels: ChannelSet, folder: Path) -> list[Agreement]:
    """Each channel's messages beside a replay of its filter over the archive, by source record."""
    from archive.replay.replay import replay

    found = []
    for access in ("public", "collaboration"):
        chosen = [channel for channel in channels.channels if channel.access == access]
        if chosen:
            again = replay([c.filter for c in chosen], folder, versions="all", public=access == "public")
            found += [_agreement(bootstrap, channel, again, n) for n, channel in enumerate(chosen)]
    return found


def _agreement(bootstrap: str, channel: Channel, again: Replay, number: int) -> Agreement:
    matches = again.of(number)
    replayed = Counter(
        zip(matches["_topic"], matches["_partition"].tolist(), matches["_offset"].tolist(), strict=True)
    )
    live = Counter(_delivered(bootstrap, channel.topic))
    differing = (live - replayed) + (replayed - live)
    return Agreement(channel.name, live.total(), replayed.total(), differing.total())


def _delivered(bootstrap: str, topic: str) -> list[Place]:
    from pipeline.broker.listen import listen

    return [alert.source for alert in listen(topic, bootstrap, until_drained=True)]


def agreement_table(found: list[Agreement]) -> Table:
    """For people."""
    table = Table(box=None)
    for column in ("channel", "live", "replay", ""):
        table.add_column(column, justify="right" if column in ("live", "replay") else "left")
    for row in found:
        verdict = f"[red]{row.differing:,} differ[/red]" if row.differing else "[green]the same[/green]"
        table.add_row(row.channel, f"{row.live:,}", f"{row.replayed:,}", verdict)
    return table
