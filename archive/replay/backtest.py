"""The check before a channel is enabled: its filter on recent nights, and reasons not to enable it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from archive.read.archive import Archive
from archive.replay.replay import Progress, replay
from archive.replay.results import Replay
from archive.tables.store import surveys_in
from filters import Filter
from filters.external.externals import Externals
from schemas.errors import ZadsError

_EXAMPLES = 5
_HOUR = 1 / 24  # days
_WORTH_JUDGING_SECONDS = 1.0
"""A filter that takes less in total is not called slow, however long it takes for each alert."""


class NothingToTry(ZadsError):
    """The archive holds no night to try a filter on."""


@dataclass(frozen=True)
class Limits:
    """What a channel may not exceed.

    share: of a night's alerts; microseconds: that an alert takes (wall clock).
    """

    share: float = 0.1
    alerts_per_hour: float = 10_000
    microseconds: float = 1_000


@dataclass(frozen=True)
class Backtest:
    """One filter on some nights. alerts_per_hour: the most that passed within any hour of theirs. others: the
    surveys that the filter is for too and the archive has, on which it was not tried."""

    found: Replay
    alerts_per_hour: int
    others: tuple[str, ...] = ()

    @property
    def microseconds(self) -> float:
        """What an alert took (wall clock)."""
        return float(self.found.costs()["microseconds"].iloc[0])

    @property
    def seconds(self) -> float:
        """That the filter took for all alerts (wall clock)."""
        return float(self.found.costs()["seconds"].iloc[0])

    @property
    def bytes_an_alert(self) -> int:
        """Of the packets of some alerts that passed, the mean; 0 where nothing passed."""
        some = self.examples["candid"].tolist()
        sizes = [len(raw) for raw in self.found.archive.packets(some).values()] if some else []
        return sum(sizes) // len(sizes) if sizes else 0

    @property
    def examples(self) -> pd.DataFrame:
        """Some rows of the matches, by chance."""
        rows = self.found.matches
        return rows.sample(min(_EXAMPLES, len(rows)), random_state=0)

    def problems(self, limits: Limits) -> list[str]:
        """Reasons not to enable the filter, one sentence each; empty when there are none."""
        problems = self._failures()
        problems += [] if self.found.complete else ["the replay was ended early"]
        problems += [
            f"floods: {row['alerts']:,} of {row['of']:,} alerts of {_day(row['night'])} pass,"
            f" {row['alerts'] / row['of']:.0%}; {limits.share:.0%} may"
            for row in self.found.nights().to_dict("records")
            if row["alerts"] > limits.share * row["of"]
        ]
        if self.alerts_per_hour > limits.alerts_per_hour:
            problems.append(
                f"floods: {self.alerts_per_hour:,} alerts in an hour; {limits.alerts_per_hour:,.0f} may"
            )
        if self.seconds > _WORTH_JUDGING_SECONDS and self.microseconds > limits.microseconds:
            problems.append(
                f"slow: {self.microseconds:,.0f} µs an alert; {limits.microseconds:,.0f} may be used"
            )
        return problems

    def _failures(self) -> list[str]:
        failures = self.found.failures
        if not len(failures):
            return []
        first = failures.iloc[0]
        where = "" if first["candid"] is pd.NA else f" on candid {first['candid']}"
        return [f"raises on {self.found.unjudged[0]:,} alerts, first{where}: {first['error']}"]

    def report(self) -> dict[str, Any]:
        """What is kept with the channel, as plain JSON values."""
        whole = self.found.summary()
        funnel: dict[str, dict[str, Any]] = {}
        for step in whole["funnel"]:
            one = funnel.setdefault(step["cut"], {"cut": step["cut"], "alerts": 0})
            one["alerts"] += step["alerts"]
        nights = [{key: row[key] for key in ("night", "alerts", "objects", "of")} for row in whole["nights"]]
        return {
            "archive": whole["archive"],
            "survey": self.found.archive.survey,
            "not_tried_on": list(self.others),
            "nights": nights,
            "funnel": list(funnel.values()),
            "alerts_per_hour": self.alerts_per_hour,
            "microseconds": round(self.microseconds, 1),
            "measured": self.seconds > _WORTH_JUDGING_SECONDS,
            "bytes_an_alert": self.bytes_an_alert,
            "seconds": whole["seconds"],
            "failures": len(whole["failures"]),
            "unjudged": self.found.unjudged[0],
            "examples": [
                {"candid": int(row["candid"]), "objectId": str(row["objectId"]), "night": _day(row["night"])}
                for row in self.examples.to_dict("records")
            ],
        }


def backtest(
    chosen: Filter,
    path: str | Path,
    nights: Any = None,
    *,
    last: int = 3,
    public: bool = True,
    survey: str | None = None,
    externals: Externals | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Backtest:
    """Try a filter on nights of an archive.

    Parameters
    ----------
    chosen
        The filter.
    path
        Address of the archive.
    nights
        As for `Archive.alerts`; None: the last ones.
    last
        How many of the last nights to take when `nights` is not given.
    public
        On the alerts and history rows that a public channel sees.
    survey
        Whose alerts, for a filter of several surveys; None: the first of them that the archive has.
    externals
        Where catalogues, regions and sky maps come from; the usual folder where left out.
    on_progress
        Called with the progress.

    Raises
    ------
    NoSuchArchive
        When there is no such archive.
    NothingToTry
        When it has no alerts in these nights.
    BadNights
        For nights that cannot be understood.
    FilterError
        For a filter that cannot be replayed.
    """
    there = [name for name in surveys_in(str(path)) if name in chosen.surveys] or list(chosen.surveys)
    archive = Archive(path, survey=survey or there[0])
    wanted = nights if nights is not None else recent(archive, last)
    chosen.cut_names()  # so that the time of its imports is not counted
    found = replay(chosen, archive, wanted, public=public, externals=externals, on_progress=on_progress)
    if not found.alerts and found.complete:
        asked = ", ".join(wanted) if isinstance(wanted, list) else wanted
        raise NothingToTry(f"the archive at {path} has no alerts in {asked}")
    others = tuple(name for name in there if name != archive.survey)
    return Backtest(found, _most_in_an_hour(found, public), others)


def recent(archive: Archive, nights: int) -> list[str]:
    """The last so many nights of an archive. Raises NothingToTry when it has none."""
    there = sorted(night for night in archive.nights()["night"] if night != "None")
    if not there:
        raise NothingToTry(f"the archive at {archive.path} has no night yet")
    return there[-nights:]


def _most_in_an_hour(found: Replay, public: bool) -> int:
    """The most alerts that passed within any sixty minutes of observing."""
    matches = found.matches
    if matches.empty:
        return 0
    nights = sorted({_day(night) for night in matches["night"]})
    alerts = found.archive.alerts(nights, ["jd"], public=public)
    passed = alerts[alerts["candid"].isin(matches["candid"].tolist())]
    return most_within(passed["jd"].compute(scheduler="threads").to_numpy(), _HOUR)


def most_within(moments: Sequence[float] | np.ndarray, span: float) -> int:
    """The most of `moments` that lie in any half-open interval as long as `span`."""
    ordered = np.sort(np.asarray(moments, dtype=float))
    if not len(ordered):
        return 0
    return int((np.searchsorted(ordered, ordered + span, side="left") - np.arange(len(ordered))).max())


def _day(night: Any) -> str:
    return str(night)[:10]
