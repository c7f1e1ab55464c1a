"""Compares live with replay: the records that channels delivered and those that a replay finds."""

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
    """Archive everything that is in some topics now; return the number of alerts kept.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    pattern
        Regular expression for the topics.
    folder
        Folder of the archive.
    """
    from archive.write.appenders import Appenders
    from pipeline.clients.following.follow import Follower

    appender = Appenders(str(folder))
    Follower(appender, pattern, bootstrap, "zads-demo-archive").run(until_drained=True)
    return appender.appended.kept


def agreements(bootstrap: str, channels: ChannelSet, folder: Path) -> list[Agreement]:
    """Compare each channel's messages with a replay of its filter over the archive, by source record.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    channels
        The channels.
    folder
        Folder of the archive.
    """
    from archive.read.archive import Archive
    from archive.replay.replay import replay
    from archive.tables.store import surveys_in

    replayed: dict[str, Counter[Place]] = {channel.name: Counter() for channel in channels.channels}
    for survey in surveys_in(str(folder)):
        for access in ("public", "collaboration"):
            ours = [c for c in channels.channels if c.access == access and survey in c.filter.surveys]
            if ours:
                part, public = Archive(folder, survey), access == "public"
                filters, outside = [c.filter for c in ours], channels.externals
                again = replay(filters, part, versions="all", public=public, externals=outside)
                for number, channel in enumerate(ours):
                    replayed[channel.name] += _places(again, number)
    return [_agreement(bootstrap, channel, replayed[channel.name]) for channel in channels.channels]


def _places(again: Replay, number: int) -> Counter[Place]:
    """The source records of a filter's matches."""
    matches = again.of(number)
    partitions, offsets = matches["_partition"].tolist(), matches["_offset"].tolist()
    return Counter(zip(matches["_topic"], partitions, offsets, strict=True))


def _agreement(bootstrap: str, channel: Channel, replayed: Counter[Place]) -> Agreement:
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
