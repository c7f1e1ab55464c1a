"""Compares what channels deliver in a night with their backtests, while the night goes on."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime

from pipeline.channels.channel import ChannelSet
from pipeline.channels.expected import Expected
from pipeline.worker.work import Report

log = logging.getLogger(__name__)

_DATE = re.compile(r"(?:^|_)(\d{8})(?:_|$)")


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
        """Count what was committed with exactly these channels; logs each surprise once a night."""
        if report.work.version != channels.version or not report.alerts:
            return
        topic = report.work.partition.topic
        night = _night(topic)
        self._newest = max(self._newest, night)
        for channel in channels.expecting:
            if channel.name in report.skipped or channel.expected is None:
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
