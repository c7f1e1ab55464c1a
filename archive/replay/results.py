"""What a replay found: matches, funnels, alerts a night, and what another threshold would gain or lose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from archive.read.columns import Tally
from archive.replay.as_ran import Span, as_ran
from archive.replay.funnels import NightSum
from archive.replay.limited import limited
from archive.replay.matches import match_words, matches_of
from archive.replay.trial import SOURCE
from filters import Filter
from filters.errors import FilterError
from filters.limits import Limits
from filters.tables import text_of
from schemas.dictionary import Word
from schemas.json_text import to_json as json_text
from schemas.tabular import to_astropy, write_table

if TYPE_CHECKING:
    from astropy.table import Table as AstropyTable

    from archive.read.archive import Archive


NIGHTS = ("filter", "night", "alerts", "objects", "of", "unjudged", "complete")
"""Columns of the table of nights."""


@dataclass(frozen=True)
class Comparison:
    """What the second filter passes and the first does not (gained), and the other way round (lost).

    gained, lost: rows of matches; kept: how many alerts pass both. unjudged: alerts for which one of the two
    gave no answer, so that they may be gained or lost for no other reason.
    """

    first: str
    second: str
    gained: pd.DataFrame
    lost: pd.DataFrame
    kept: int
    unjudged: int = 0

    def nights(self) -> pd.DataFrame:
        """Alerts by night: night, gained, lost."""
        counts = {name: getattr(self, name).groupby("night").size() for name in ("gained", "lost")}
        return pd.DataFrame(counts).fillna(0).astype(int).rename_axis("night").reset_index()

    def examples(self, limit: int = 5, seed: int = 0) -> pd.DataFrame:
        """Some alerts of each kind, chosen at random: change ("gained", "lost"), candid, objectId, night."""
        some = []
        for change in ("gained", "lost"):
            rows = getattr(self, change)
            some.append(rows.sample(min(limit, len(rows)), random_state=seed).assign(change=change))
        return pd.concat(some, ignore_index=True)[["change", "candid", "objectId", "night"]]

    def __str__(self) -> str:
        return (
            f"{self.second} against {self.first}:"
            f" {len(self.gained):,} alert{'s' * (len(self.gained) != 1)} gained, "
            f"{len(self.lost):,} lost, {self.kept:,} kept"
            + (f"; {self.unjudged:,} alerts not judged by one of them" if self.unjudged else "")
        )


@dataclass(frozen=True, repr=False)
class Replay:
    """The result of a replay.

    filters: each with its values, numbered as given. sums: what each night came to. failures: alerts that
    a filter raised on. complete: False when it was ended early; `nights()` says which nights are whole.
    tally: what was read. seconds: of wall clock. values: columns that the matches carry too. `matches`
    has the columns of `match_columns`, and `variant`, the filter's number.
    """

    filters: tuple[Filter, ...]
    sums: tuple[NightSum, ...]
    failures: pd.DataFrame
    archive: Archive
    archive_version: int
    versions: str
    public: bool
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    complete: bool = True
    values: tuple[str, ...] = ()

    @cached_property
    def matches(self) -> pd.DataFrame:
        """One row an alert and filter, ordered by filter, night and candid."""
        return matches_of(self.filters, self.sums, self.versions == "all", self.archive.survey, self.values)

    def __repr__(self) -> str:
        nights = len(self.sums)
        labels = self.labels[0] if len(self.labels) == 1 else f"{len(self.labels)} filters"
        ended = "" if self.complete else ", ended early"
        unjudged = f", {sum(self.unjudged):,} not judged" if any(self.unjudged) else ""
        return (
            f"<Replay of {labels} on {self.alerts:,} alerts of {nights} night{'s' * (nights != 1)}:"
            f" {len(self.matches):,} matches{unjudged}{ended}>"
        )

    @property
    def alerts(self) -> int:
        """How many alerts every filter was asked about."""
        return sum(night.alerts for night in self.sums)

    @property
    def labels(self) -> list[str]:
        """What to call each filter: its name, and the values that differ from the defaults or the others'."""
        return [_label(f, self.filters) for f in self.filters]

    @property
    def unjudged(self) -> list[int]:
        """For each filter, how many alerts it gave no answer for: it raised, or was given up."""
        return [sum(one.funnels[n].unjudged for one in self.sums) for n in range(len(self.filters))]

    def which(self, given: int | str | Filter) -> int:
        """The number of a filter given by number, label, name or itself. Raises FilterError."""
        if (
            isinstance(given, int)
            and not isinstance(given, bool)
            and -len(self.filters) <= given < len(self.filters)
        ):
            return given % len(self.filters)
        wanted = [
            n
            for n, (f, label) in enumerate(zip(self.filters, self.labels, strict=True))
            if given in (label, f.name) or (isinstance(given, Filter) and _same(f, given))
        ]
        if len(wanted) != 1:
            raise FilterError(f"{given!r} names {len(wanted)} of the filters: {', '.join(self.labels)}")
        return wanted[0]

    def of(self, given: int | str | Filter = 0) -> pd.DataFrame:
        """The matches of one filter."""
        return self.matches[self.matches["variant"] == self.which(given)].reset_index(drop=True)

    def limited(self, limits: Limits, channel: str, given: int | str | Filter = 0) -> pd.DataFrame:
        """The matches of one filter that a channel's limits let through: see `archive.replay.limited`.

        Parameters
        ----------
        limits
            Of the channel.
        channel
            Its name, on which a sample depends.
        given
            The filter: its number, label, name, or itself.

        Raises
        ------
        FilterError
            For limits that need what the matches do not say.
        """
        return limited(self.of(given), limits, channel)

    def as_ran(self, spans: Sequence[Span]) -> pd.DataFrame:
        """The matches of the filter that was in force where each record is: see `archive.replay.as_ran`.

        Parameters
        ----------
        spans
            Which of the filters was in force in which offsets.

        Raises
        ------
        FilterError
            For a replay that does not keep its records: versions="all" does.
        """
        return as_ran(self.matches, spans)

    def funnel(self, given: int | str | Filter | None = None) -> pd.DataFrame:
        """What is left after each cut, "all" first: filter, night, cut, alerts, objects."""
        wanted = range(len(self.filters)) if given is None else [self.which(given)]
        labels = self.labels
        rows = [
            (labels[n], _night(one.night), *step)
            for n in wanted
            for one in self.sums
            for step in one.funnels[n].steps()
        ]
        return pd.DataFrame(rows, columns=["filter", "night", "cut", "alerts", "objects"])

    def nights(self) -> pd.DataFrame:
        """By filter and night: NIGHTS; alerts and objects that pass, of all alerts of the night.

        unjudged: alerts for which the filter raised. complete: every alert was read, and judged.
        """
        rows = [
            (label, _night(one.night), *f.passed, one.alerts, f.unjudged, one.complete and not f.unjudged)
            for n, label in enumerate(self.labels)
            for one in self.sums
            for f in [one.funnels[n]]
        ]
        return pd.DataFrame(rows, columns=[*NIGHTS])

    def costs(self) -> pd.DataFrame:
        """Time (wall clock) of each filter: filter, seconds, microseconds an alert; reading not counted."""
        seconds = sum((one.seconds for one in self.sums if len(one.seconds)), np.zeros(len(self.filters)))
        each = seconds / max(self.alerts, 1) * 1e6
        return pd.DataFrame({"filter": self.labels, "seconds": seconds, "microseconds": each})

    def compare(self, first: int | str | Filter = 0, second: int | str | Filter = 1) -> Comparison:
        """Two filters, versions or sets of parameters of this replay: gained, lost, kept."""
        a, b = self.which(first), self.which(second)
        change = compared(self.of(a), self.of(b), self.labels[a], self.labels[b])
        return replace(change, unjudged=max(self.unjudged[a], self.unjudged[b]))

    def packets(self, given: int | str | Filter = 0, limit: int = 6, seed: int = 0) -> list[bytes]:
        """Packets of a random sample of a filter's matches, as Avro files: `zads.show` draws them.

        Parameters
        ----------
        given
            The filter: its number, label or the filter itself.
        limit
            Most packets.
        seed
            Of the random choice.
        """
        rows = self.of(given)
        some = rows.sample(min(limit, len(rows)), random_state=seed)
        nights = sorted({str(n.date()) for n in some["night"] if not pd.isna(n)})
        candids = some["candid"].tolist()
        return list(self.archive.packets(candids, nights or None).values()) if candids else []

    def summary(self) -> dict[str, Any]:
        """Everything but the matches, as plain JSON values: what is kept with a channel."""
        return {
            "filters": [_described(f) for f in self.filters],
            "labels": self.labels,
            "archive": {"path": self.archive.path, "version": self.archive_version, "rows": self.versions},
            "public": self.public,
            **({"values": list(self.values)} if self.values else {}),
            "complete": self.complete,
            "alerts": self.alerts,
            "unjudged": dict(zip(self.labels, self.unjudged, strict=True)),
            "seconds": round(self.seconds, 3),
            "bytes_read": self.tally.bytes,
            "nights": _records(self.nights()),
            "funnel": _records(self.funnel()),
            "costs": _records(self.costs()),
            "failures": _records(self.failures),
        }

    def to_json(self) -> str:
        """Summary and matches; candids also as text (see `schemas.json_text`)."""
        return json_text({**self.summary(), "matches": _records(self.matches.drop(columns="variant"))})

    def write(self, path: str | Path) -> Path:
        """The matches as a file: .csv, .ecsv, .vot, .fits, .parquet, or .json with the summary.

        What they are of (filters, parameters, archive, funnel) goes along as metadata under "zads", where the
        format has a place for it. Raises NoSuchFormat.
        """
        if str(path).lower().endswith(".json"):
            Path(path).write_text(self.to_json())
            return Path(path)
        return write_table(self._shown, path, self.archive.survey, self._notes, words=self._words)

    def to_parquet(self, path: str | Path) -> None:
        """The matches as a Parquet file; the summary is in its metadata, under "zads"."""
        write_table(self._shown, path, self.archive.survey, self._notes, "parquet", self._words)

    def to_csv(self, path: str | Path) -> None:
        """The matches as comma-separated values."""
        write_table(self._shown, path, self.archive.survey, kind="ascii.csv")

    def to_votable(self, path: str | Path) -> None:
        """The matches as a VOTable, which TOPCAT and Aladin read; units and meanings with them."""
        write_table(self._shown, path, self.archive.survey, self._notes, "votable", self._words)

    def to_astropy(self) -> AstropyTable:
        """The matches as an astropy Table with units and meanings."""
        return to_astropy(self._shown, self.archive.survey, self._notes, self._words)

    @property
    def _shown(self) -> pd.DataFrame:
        return self.matches.drop(columns="variant")

    @property
    def _notes(self) -> dict[str, str]:
        return {"zads": json.dumps(self.summary())}

    @property
    def _words(self) -> dict[str, Word]:
        return match_words(self.filters, self.archive.survey, self.values)


def gathered(
    filters: Sequence[Filter],
    sums: Iterable[NightSum],
    archive: Archive,
    versions: str,
    public: bool,
    values: tuple[str, ...] = (),
) -> Replay:
    """The nights as one result; nights that are not complete are closed as they are.

    Parameters
    ----------
    filters
        The filters replayed.
    sums
        The nights' results.
    archive
        What was replayed.
    versions
        "newest" or "all", as for `Archive.alerts`.
    public
        Whether only public rows were replayed.
    values
        Columns that the matches carry too.
    """
    nights = sorted(sums, key=lambda one: str(one.night))
    for one in nights:
        if not one.funnels:
            one.close(complete=False)
    failures = [failure for one in nights for failure in one.failures]
    labels = [_label(f, filters) for f in filters]
    table = pd.DataFrame(
        {
            "filter": pd.array([labels[f.variant] for f in failures], dtype="str"),
            "night": pd.array([_night(f.night) for f in failures], dtype="datetime64[s]"),
            "candid": pd.array([f.candid for f in failures], dtype="Int64"),  # beside a None no float
            "error": pd.array([f.error for f in failures], dtype="str"),
        }
    )
    found = Replay(tuple(filters), tuple(nights), table, archive, archive.table_version, versions, public)
    return replace(found, values=values)


def compared(first: pd.DataFrame, second: pd.DataFrame, names: str, against: str) -> Comparison:
    """Compare two sets of matches over the same nights, by source record where both have it, else by candid.

    Parameters
    ----------
    first
        The matches to compare with.
    second
        The matches that gained or lost.
    names
        Label of `first`.
    against
        Label of `second`.
    """
    own = [name for name in SOURCE if name in first.columns and name in second.columns]
    keys = ["candid", *own]
    a, b = (pd.MultiIndex.from_frame(t[keys]) if own else pd.Index(t["candid"]) for t in (first, second))
    kept = int(b.isin(a).sum())
    return Comparison(
        names,
        against,
        second[~b.isin(a)].reset_index(drop=True),
        first[~a.isin(b)].reset_index(drop=True),
        kept,
    )


def _same(f: Filter, other: Filter) -> bool:
    return (f.name, f.version, dict(f.values)) == (other.name, other.version, dict(other.values))


def _label(f: Filter, every: Sequence[Filter]) -> str:
    """Name, values that are not the defaults or that tell it from its namesakes, version if that does."""
    namesakes = [g for g in every if g.name == f.name]
    told = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={text_of(value)}"
        for name, value in f.values.items()
        if value != f.parameters[name].default or any(g.values.get(name) != value for g in namesakes)
    ]
    version = [f"version {f.version}"] if any(g.version != f.version for g in namesakes) else []
    return " ".join([f.name, *version, *told])


def _described(f: Filter) -> dict[str, Any]:
    return {"filter": f.name, "version": f.version, "parameters": dict(f.values)}


def _night(night: date | None) -> Any:
    return pd.Timestamp(night) if night is not None else pd.NaT


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.copy()
    if "night" in plain:
        plain["night"] = [None if pd.isna(n) else str(pd.Timestamp(n).date()) for n in plain["night"]]
    if "utc" in plain:
        plain["utc"] = [None if pd.isna(t) else t.isoformat(timespec="milliseconds") for t in plain["utc"]]
    if "parameters" in plain:
        plain["parameters"] = [json.loads(text) for text in plain["parameters"]]
    rows = plain.astype(object).where(plain.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
