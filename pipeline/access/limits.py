"""How much a user's channels may take together, how much they take, and what exceeds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.channels.definition import Definition

MB = 1_000_000


class UserLimits(BaseModel):
    """What a user's channels may take together.

    channels: that are not retired, without those that wait for an operator because they are too many.
    alerts_a_night: delivered by all of them. bytes_a_day: the same in bytes; a day is the night that is
    observed in it. microseconds: that an alert may cost, over the filters of all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int = Field(default=20, ge=0)
    alerts_a_night: int = Field(default=10_000, ge=0)
    bytes_a_day: int = Field(default=1_000 * MB, ge=0)
    microseconds: float = Field(default=1_000, ge=0)


@dataclass(frozen=True)
class Night:
    """What channels have delivered in the newest night. delivered: channel -> alerts, bytes."""

    night: str = ""
    delivered: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Use:
    """What a user's channels take together, without those that an operator answers for.

    channels: that are not retired. waiting: more of them, made beyond the limit. night, alerts, bytes:
    delivered in the newest night. usual_alerts, usual_bytes: that those which are enabled deliver in a
    night, and microseconds: that they take for an alert, by their backtests.
    """

    channels: int = 0
    waiting: int = 0
    night: str = ""
    alerts: int = 0
    bytes: int = 0
    usual_alerts: int = 0
    usual_bytes: int = 0
    microseconds: float = 0.0

    def beside(self, limits: UserLimits) -> str:
        """In words, beside the limits."""
        night = f" ({self.night})" if self.night else ""
        more = f", {self.waiting:,} more wait for an operator" if self.waiting else ""
        return (
            f"use: {self.channels:,} of {limits.channels:,} channels{more};"
            f" last night{night} {self.alerts:,} of {limits.alerts_a_night:,} alerts"
            f" and {self.bytes / MB:,.1f} of {limits.bytes_a_day / MB:,.1f} MB;"
            f" {self.microseconds:,.0f} of {limits.microseconds:,.0f} µs an alert"
        )

    def overrun(self, limits: UserLimits) -> list[str]:
        """What was delivered in the newest night beyond the limits, a sentence each."""
        found = []
        if self.alerts > limits.alerts_a_night:
            found.append(
                f"{self.alerts:,} alerts in the night {self.night}, {limits.alerts_a_night:,} may be"
            )
        if self.bytes > limits.bytes_a_day:
            found.append(
                f"{self.bytes / MB:,.1f} MB in the night {self.night}, {limits.bytes_a_day / MB:,.1f} may be"
            )
        return found

    def too_much(self, limits: UserLimits) -> list[str]:
        """What would be beyond the limits, by backtests, a sentence each."""
        found = []
        if self.usual_alerts > limits.alerts_a_night:
            found.append(f"{self.usual_alerts:,} alerts a night, {limits.alerts_a_night:,} may be")
        if self.usual_bytes > limits.bytes_a_day:
            found.append(f"{self.usual_bytes / MB:,.1f} MB a night, {limits.bytes_a_day / MB:,.1f} may be")
        if self.microseconds > limits.microseconds:
            found.append(f"{self.microseconds:,.0f} µs an alert, {limits.microseconds:,.0f} may be")
        return found


def use_of(user: str, definitions: Iterable[Definition], last: Night) -> Use:
    """What a user's channels take.

    Parameters
    ----------
    user
        The owner.
    definitions
        Of every channel, as the registry has them.
    last
        What was delivered in the newest night.
    """
    own = [one for one in definitions if one.owned_by == user]
    counted = [one for one in own if not one.granted]
    sent = [last.delivered.get(one.name, (0, 0)) for one in counted]
    reports = [one.report or {} for one in counted if one.state == "enabled"]
    usual = [_usual_alerts(report) for report in reports]
    return Use(
        channels=sum(one.state != "retired" and not one.beyond for one in counted),
        waiting=sum(one.state != "retired" and one.beyond for one in counted),
        night=last.night,
        alerts=sum(alerts for alerts, _ in sent),
        bytes=sum(size for _, size in sent),
        usual_alerts=sum(usual),
        usual_bytes=round(sum(n * r.get("bytes_an_alert", 0) for n, r in zip(usual, reports, strict=True))),
        microseconds=sum(r.get("microseconds", 0) for r in reports if r.get("measured")),
    )


def _usual_alerts(report: Mapping[str, Any]) -> int:
    """The most alerts of a night of a backtest."""
    return max((int(row["alerts"]) for row in report.get("nights", ())), default=0)
