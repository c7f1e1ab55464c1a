"""What channels deliver in a night beside what their backtest said, while the night goes on.

What is compared is the share of the alerts that pass, since a night that is not over, or clouds, change
how many there are. The share has left the backtest's when it is beyond those of all its nights by a factor
and by more than chance.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.channels import ChannelSet
    from pipeline.work import Report

log = logging.getLogger(__name__)

FACTOR = 3
CHANCE = 0.00135
"""What lies beyond three standard deviations, on one side."""
_DATE = re.compile(r"(?:^|_)(\d{8})(?:_|$)")


@dataclass(frozen=True)
class Expected:
    """The least and the greatest share of alerts that passed in a night of a backtest made at `when`."""

    least: float
    most: float
    when: str = ""

    @classmethod
    def of(cls, nights: Iterable[Mapping[str, Any]], when: str = "") -> Expected | None:
        """From the nights of a backtest's report; None when it had no alerts.

        A night of N alerts in which nothing passed does not rule out one in N.
        """
        counts = [(night["alerts"], night["of"]) for night in nights if night["of"]]
        if not counts:
            return None
        return cls(min(n / of for n, of in counts), max(max(n, 1) / of for n, of in counts), when)

    def surprise(self, passed: int, of: int) -> str:
        """What there is to say about `passed` of `of` alerts; "" when that was to be expected."""
        low, high = self.least * of, self.most * of
        many = passed > FACTOR * high and _chance(passed, high) < CHANCE
        few = passed < low / FACTOR and _chance(passed, low) < CHANCE
        if not (many or few):
            return ""
        likely = f"{low:,.3g}" if low == high else f"{low:,.3g} to {high:,.3g}"
        return f"{passed:,} of {of:,} alerts passed, by its backtest {likely} would"


def _chance(counted: int, mean: float) -> float:
    """At most this is the chance of a Poisson count as far from its mean, or farther (Chernoff's bound)."""
    return math.exp(counted - mean - (counted * math.log(counted / mean) if counted else 0.0))


class Unexpected:
    """Which channels deliver, night by night, another share of the alerts than their backtest said.

    told: (night, channel) -> what is surprising about it now.
    """

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], str] = {}
        self._counts: dict[tuple[str, str, Expected], tuple[int, int]] = {}  # passed, of
        self._logged: set[tuple[str, str]] = set()
        self._newest = ""

    @property
    def tonight(self) -> dict[str, str]:
        """By channel, of the newest night read."""
        return {channel: what for (night, channel), what in self.told.items() if night == self._newest}

    def add(self, report: Report, channels: ChannelSet) -> None:
        """Count what was committed under these very channels; says each surprise once a night."""
        if report.work.version != channels.version or not report.alerts:
            return
        topic = report.work.partition.topic
        night = _night(topic)
        self._newest = max(self._newest, night)
        for channel in channels.channels:
            if channel.expected is None or channel.name in report.skipped:
                continue
            if not channels.reads(channel, topic):
                continue
            seen = report.alerts - (report.not_public if channel.public else 0)
            key = (night, channel.name, channel.expected)
            passed, of = self._counts.get(key, (0, 0))
            passed, of = passed + len(report.matches.get(channel.name, ())), of + seen
            self._counts[key] = passed, of
            self._tell(night, channel.name, channel.expected.surprise(passed, of))

    def _tell(self, night: str, channel: str, surprise: str) -> None:
        key = (night, channel)
        if not surprise:
            self.told.pop(key, None)
            return
        self.told[key] = surprise
        if key not in self._logged:
            self._logged.add(key)
            log.warning("channel %s, night %s: %s", channel, night, surprise)


def _night(topic: str) -> str:
    """The night that a topic is named for, YYYYMMDD; the UTC date of today for one that names none."""
    named = _DATE.search(topic)
    return named[1] if named else f"{datetime.now(UTC):%Y%m%d}"
