"""How a run is, put together from what its parts know."""

from __future__ import annotations

import os
import socket
import time
from collections import deque

from pipeline.channels.config import RunConfig
from pipeline.channels.state import ChannelState, RunState
from pipeline.live.source import KafkaRanges
from pipeline.live.told.last_said import LastSaid
from pipeline.live.told.lasting import LongStates
from pipeline.live.told.statistics import Statistics, Waited

_RECENT_SECONDS = 60.0
_MOST_STUCK = 40
_MOST_QUIET = 40
"""With more channels those that have nothing to tell are left out."""


class StateOf:
    """Makes the state of a run, whenever it is asked for.

    Parameters
    ----------
    config
        Group and replica.
    statistics
        Of the run.
    said
        What the run has said last.
    """

    def __init__(self, config: RunConfig, statistics: Statistics, said: LastSaid) -> None:
        self._config, self._statistics, self._said = config, statistics, said
        self._began = time.time()
        self._long = LongStates()
        self._waited: deque[tuple[float, list[int]]] = deque()
        self._topics: set[str] = set()

    def now(self, source: KafkaRanges, ended: str = "") -> RunState:
        """How it is now.

        Parameters
        ----------
        source
            The head of the stream.
        ended
            Why the run has ended; "" while it goes on.
        """
        seen = self._statistics
        self._topics |= {partition.topic for partition in source.progress}
        stuck = self._long.look(source.progress, source.set_aside, seen.failing)
        half, most = self._within()
        return RunState(
            group=self._config.group,
            replica=self._config.replica,
            host=socket.gethostname(),
            pid=os.getpid(),
            began=self._began,
            at=time.time(),
            ended=ended,
            workers=seen.workers,
            records=seen.records,
            alerts=seen.alerts,
            rate=round(seen.rate, 1),
            half_within=half,
            most_within=most,
            partitions=seen.partitions,
            lag=seen.lag,
            stuck=tuple(stuck[:_MOST_STUCK]),
            stuck_in_all=len(stuck),
            topics=tuple(sorted(self._topics)),
            lost=_lost(seen),
            dead_letters=dict(seen.dead_letters),
            channels_on=len(seen.channels.channels) if seen.channels else 0,
            channels=_channels(seen),
            changes=self._said.changes,
        )

    def _within(self) -> tuple[float | None, float | None]:
        """Seconds within which half and 99 % of the batches of the last minute were done."""
        now, counts = time.monotonic(), list(self._statistics.waited.counts)
        self._waited.append((now, counts))
        while len(self._waited) > 1 and self._waited[1][0] < now - _RECENT_SECONDS:
            self._waited.popleft()
        recent = [new - old for new, old in zip(counts, self._waited[0][1], strict=True)]
        return edge_below(recent, 0.5), edge_below(recent, 0.99)


def edge_below(counts: list[int], share: float) -> float | None:
    """The edge of a histogram below which a share of what it counts is; None: there is none.

    Parameters
    ----------
    counts
        Up to each edge of `Waited`, and beyond the last.
    share
        0 to 1.
    """
    below, wanted = 0, share * sum(counts)
    for edge, count in zip(Waited.EDGES, counts, strict=False):
        below += count
        if below and below >= wanted:
            return edge
    return None


def _lost(seen: Statistics) -> dict[str, str]:
    words = "{:,} records were deleted before they were read"
    return seen.lost | {topic: words.format(unread) for topic, unread in seen.deleted_unread.items()}


def _channels(seen: Statistics) -> dict[str, ChannelState]:
    """All, or where these are many those of which there is something to tell."""
    topics = {channel.name: channel.topic for channel in seen.channels.channels} if seen.channels else {}
    surprises = seen.unexpected.tonight
    told = {
        name: ChannelState(
            topic=topics.get(name, ""),
            delivered=seen.matches[name].alerts if name in seen.matches else 0,
            missed=seen.gaps[name] + seen.filter_raised[name],
            raised=seen.filter_raised[name],
            suspended=seen.suspended.get(name, ""),
            remark=seen.alarms.get(name) or surprises.get(name) or "",
        )
        for name in topics.keys() | seen.suspended.keys()
    }
    every = len(told) <= _MOST_QUIET
    return {n: one for n, one in sorted(told.items()) if every or one != ChannelState(topic=one.topic)}
