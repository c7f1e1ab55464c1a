"""Which channels a live run works with now, and which of them are suspended; both change under way.

A batch keeps the set that it was made with through all its attempts. So a change is effective between
two batches of a partition, at an offset that the worker writes to zads.applied. What was suspended under
an older set stays suspended in that set's batches, while a channel that was repaired starts again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.limits import LastHour
from pipeline.live.recovery import Recovery
from pipeline.worker.work import Report, Work

log = logging.getLogger(__name__)
log_of_external = logging.getLogger(f"{__name__}.external")


class InForce:
    """The channel set of a run, with a Recovery that remembers what went wrong in it."""

    def __init__(self, channels: ChannelSet, recovery: Recovery) -> None:
        self.channels, self.shipped = channels, channels.to_bytes()
        self._recovery, self._last_hour = recovery, LastHour()
        self.alarms: dict[str, str] = {}  # channel -> that it delivered more than it was to
        self._before: dict[str, tuple[ChannelSet, dict[str, str]]] = {}  # by version: what was suspended

    def switch(self, channels: ChannelSet, shipped: bytes) -> None:
        """From the next batch on these channels. What has changed is no longer suspended."""
        _tell(self.channels, channels)
        self._before[self.channels.version] = self.channels, dict(self._recovery.suspended)
        self.forgive_changed(self.channels, channels)
        self.channels, self.shipped = channels, shipped

    def renewed(self, work: Work) -> Work:
        """The same work as far as channels go, with what has been suspended since."""
        _, then = self._before.get(work.version, (None, {}))
        return replace(work, suspended={**then, **self._recovery.suspended})

    def settled(self, report: Report) -> None:
        """After recovery has judged a report: what it says of its set, and whether a channel floods.

        A report of an older set says nothing of a channel changed since.
        """
        changed: set[str] = set()
        if report.work.version != self.channels.version and report.work.version in self._before:
            older, suspended = self._before[report.work.version]
            changed = _changed(older, self.channels)
            for name in changed & self._recovery.suspended.keys():
                suspended[name] = self._recovery.suspended[name]
                self._recovery.forgive(name)
        if report.outcome == "committed":
            self.delivered(self.channels, report.matches, changed)

    def forgive_changed(self, old: ChannelSet, new: ChannelSet) -> None:
        """What has changed is no longer suspended, and has delivered nothing yet."""
        for name in _changed(old, new):
            self._recovery.forgive(name)
            self._last_hour.forget(name)
            self.alarms.pop(name, None)

    def delivered(
        self, channels: ChannelSet, matches: Mapping[str, Sequence[str]], changed: Collection[str] = ()
    ) -> None:
        """Suspend what has delivered more than its limit; batches in flight are delivered still.

        Parameters
        ----------
        channels : ChannelSet
            Whose limits count.
        matches : mapping
            Channel -> objectId of each alert delivered now.
        changed : collection of str
            Channels that were others when they delivered this.
        """
        for channel in channels.hourly:  # few: this is done for each batch of each partition
            if channel.name in changed:
                continue
            most, alarm = channel.limits.alerts_per_hour, channel.limits.alarm_per_hour
            alerts = len(matches.get(channel.name, ()))
            delivered = self._last_hour.add(channel.name, alerts, time.monotonic())
            self._tell_alarm(channel.name, delivered, alarm)
            if most is not None and delivered > most:
                why = f"it delivered {delivered:,} alerts within an hour, its limit is {most:,}"
                self._recovery.suspend(channel.name, why)

    def _tell_alarm(self, channel: str, delivered: int, alarm: int | None) -> None:
        """Say once that a channel delivers more than it was to, until it no longer does."""
        if alarm is None or delivered <= alarm:
            self.alarms.pop(channel, None)
            return
        if channel not in self.alarms:
            log.warning("channel %s: more than %d alerts within an hour", channel, alarm)
        self.alarms[channel] = f"{delivered:,} alerts within an hour, more than {alarm:,}"


def _changed(old: ChannelSet, new: ChannelSet) -> set[str]:
    before, after = _by_name(old), _by_name(new)
    return {name for name in before if name not in after or before[name].describe() != after[name].describe()}


def _by_name(channels: ChannelSet) -> dict[str, Channel]:
    return {channel.name: channel for channel in channels.channels}


def _tell(old: ChannelSet, new: ChannelSet) -> None:
    before, after = _by_name(old), _by_name(new)
    for name, version in new.externals.versions.items():
        if old.externals.versions.get(name) != version:
            log_of_external.info("%s: version %s from now on", name, version)
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            log.info("channel %s: off", name)
        elif name not in before:
            log.info("channel %s: on, %s", name, after[name].describe()["parameters"])
        elif name in _changed(old, new):
            log.info("channel %s: changed, %s", name, after[name].describe()["parameters"])
