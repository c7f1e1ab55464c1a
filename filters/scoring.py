"""How good a filter is, against the truth of a simulated sky: completeness, purity, confusion, time.

The filter itself never sees the truth: the scorer takes the candids that passed, from wherever it ran (packet
files, a channel, a replay), and the truth table that `zads simulate` writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from filters.contract import Filter
from filters.errors import FilterError
from filters.external.externals import frames_of
from schemas.errors import near_names
from schemas.frame import is_public
from schemas.packets.reader import PacketReader

UNREADABLE = ("corrupt", "truncated")
_BATCH = 2000
_TRUTH_COLUMNS = ("candid", "objectId", "class", "damage", "jd", "true_mag")
_TRUTH_HINT = "`zads simulate` writes truth.parquet beside the packets"

SUPERNOVAE = ("SN Ia", "SN II", "SN Ibc")
STARS = (
    *("RR Lyrae", "Cepheid", "long-period variable", "eclipsing binary", "spotted star"),
    *("dwarf nova", "nova", "stellar outburst", "flare star"),
)
SOLAR_SYSTEM = ("asteroid", "unknown asteroid", "near-Earth asteroid")
REAL = (*STARS, *SUPERNOVAE, *SOLAR_SYSTEM, "AGN", "TDE", "kilonova")
SEEKS: dict[str, tuple[str, ...]] = {
    "asteroid": ("unknown asteroid", "near-Earth asteroid"),
    "blue_outburst": ("dwarf nova", "nova"),
    "nuclear": ("TDE", "AGN"),
    "pure": REAL,
    "pure_transient": (*SUPERNOVAE, "TDE", "kilonova"),
    "real_bogus": REAL,
    "solar_system": ("asteroid",),
    "stamp_point": REAL,
    "star_galaxy": STARS,
    "stellar_outburst": ("stellar outburst", "dwarf nova", "nova", "flare star"),
    "two_detections_20min": (*SUPERNOVAE, "dwarf nova", "nova", "flare star", "kilonova"),
    "two_detections_30min": (*SUPERNOVAE, "dwarf nova", "nova", "flare star", "kilonova"),
    "type_ia": ("SN Ia",),
    "young_supernova": SUPERNOVAE,
    "point_like": REAL,
    "reliable": REAL,
    "known_object": ("asteroid",),
    "unknown_mover": ("unknown asteroid", "near-Earth asteroid"),
    "new_transient": (*SUPERNOVAE, "TDE", "kilonova"),
    "rising": (*SUPERNOVAE, "TDE", "kilonova", "dwarf nova"),
    "fading": (*SUPERNOVAE, "TDE", "kilonova", "dwarf nova"),
    "large_amplitude": STARS,
    "negative_source": STARS,
}
"""Filter -> the classes of the simulated sky that it is for."""


@dataclass(frozen=True)
class Answer:
    """What a filter said: the candids that it was asked about and could read, and those that passed."""

    asked: frozenset[int]
    passed: frozenset[int]


@dataclass(frozen=True)
class Score:
    """A filter's answers beside the truth.

    alerts: the truth table's rows that the filter was asked about, one a candid, and `passed`, `sought`.
    unreadable: alerts that came damaged and could not be asked about.
    """

    filter: str
    seeks: tuple[str, ...]
    alerts: pd.DataFrame
    unreadable: int

    @property
    def purity(self) -> float:
        """The share of alerts that pass which belong to a class sought; NaN when none passes."""
        return float(self.alerts.loc[self.alerts["passed"], "sought"].mean())

    @property
    def completeness(self) -> float:
        """The share of the alerts of the classes sought that pass; NaN when there are none."""
        return float(self.alerts.loc[self.alerts["sought"], "passed"].mean())

    @property
    def object_completeness(self) -> float:
        """The share of the objects of the classes sought that some alert of passes; NaN without any."""
        return float(self.alerts[self.alerts["sought"]].groupby("objectId")["passed"].any().mean())

    def by_class(self) -> pd.DataFrame:
        """By class: class, sought, alerts, passed, completeness, objects, found, object_completeness; classes
        sought first, then by alerts that pass."""
        groups = self.alerts.groupby("class")
        table = groups.agg(sought=("sought", "first"), alerts=("candid", "size"), passed=("passed", "sum"))
        table["completeness"] = table["passed"] / table["alerts"]
        table["objects"] = groups["objectId"].nunique()
        found = self.alerts[self.alerts["passed"]].groupby("class")["objectId"].nunique()
        table["found"] = found.reindex(table.index, fill_value=0)
        table["object_completeness"] = table["found"] / table["objects"]
        return table.sort_values(["sought", "passed", "alerts"], ascending=False).reset_index()

    def by_magnitude(self, width: float = 0.5) -> pd.DataFrame:
        """Alerts of the classes sought by true magnitude: low, high, alerts, passed, completeness."""
        sought = self.alerts[self.alerts["sought"]]
        bins = np.floor(sought["true_mag"] / width).astype(int)
        table = sought.groupby(bins).agg(alerts=("candid", "size"), passed=("passed", "sum"))
        table.insert(0, "low", table.index * width)
        table.insert(1, "high", (table.index + 1) * width)
        table["completeness"] = table["passed"] / table["alerts"]
        return table.reset_index(drop=True)

    def confusion(self) -> pd.DataFrame:
        """Alerts: rows sought and other, columns passes and stopped."""
        kinds = pd.Categorical(np.where(self.alerts["sought"], "sought", "other"), ["sought", "other"])
        says = pd.Categorical(np.where(self.alerts["passed"], "passes", "stopped"), ["passes", "stopped"])
        table = pd.crosstab(kinds, says, dropna=False)
        return table.rename_axis(index=None, columns=None)

    def delays(self) -> pd.DataFrame:
        """The objects sought that some alert of passes: objectId, class, first_jd (of any alert), passed_jd,
        after_first and after_begin (days from the first alert and from `t0` to the first that passes; the
        latter NaN where the class has no beginning)."""
        sought = self.alerts[self.alerts["sought"]]
        kept = sought[sought["passed"]].groupby("objectId")["jd"].min().rename("passed_jd")
        columns = {"class": ("class", "first"), "first_jd": ("jd", "min"), "t0": ("t0", "first")}
        table = sought.groupby("objectId").agg(**columns).join(kept, how="inner").reset_index()
        table["after_first"] = table["passed_jd"] - table["first_jd"]
        table["after_begin"] = table["passed_jd"] - table["t0"]
        return table.drop(columns="t0")

    def summary(self) -> dict[str, Any]:
        """The whole as plain JSON values."""
        delays = self.delays()
        return {
            "filter": self.filter,
            "seeks": list(self.seeks),
            "alerts": len(self.alerts),
            "unreadable": self.unreadable,
            "completeness": _plain(self.completeness),
            "purity": _plain(self.purity),
            "confusion": {row: {k: int(v) for k, v in c.items()} for row, c in self.confusion().T.items()},
            "by_class": _records(self.by_class()),
            "by_magnitude": _records(self.by_magnitude()),
            "median_days_after_first_alert": _plain(delays["after_first"].median()),
            "median_days_after_begin": _plain(delays["after_begin"].median()),
        }


def with_candid(path: Path) -> pa.Table:
    """The rows of a Parquet file that have a candid: pandas makes floats of whole numbers with a null."""
    table = pq.read_table(path)
    return table.filter(table["candid"].is_valid())


def read_truth(path: str | Path) -> pd.DataFrame:
    """The truth table that `zads simulate` writes. Raises FilterError for a file that is none."""
    try:
        truth: pd.DataFrame = with_candid(Path(path)).to_pandas()
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it has other content"
        raise FilterError(f"{path} cannot be read as a truth table: {why}", hint=_TRUTH_HINT) from None
    if lacking := [name for name in _TRUTH_COLUMNS if name not in truth.columns]:
        raise FilterError(f"{path} is no truth table: it has no column {lacking[0]}", hint=_TRUTH_HINT)
    return truth


def ask(chosen: Filter, packets: Iterable[bytes], public: bool = False) -> Answer:
    """Run a filter over packets in batches, as live; packets that cannot be read are skipped.

    Parameters
    ----------
    chosen
        The filter; it must declare what it reads.
    packets
        The packets, of any survey; those of surveys that the filter is not for are skipped.
    public
        Only public alerts (ZTF: programid 1), with public history rows.

    Raises
    ------
    ReadsRequired
        When the filter does not declare what it reads.
    NoSuchColumn
        For a column that a survey does not have.
    """
    reads = chosen.require_reads()
    makers = [frames_of(reads, survey, public) for survey in chosen.surveys]
    readers = [PacketReader(maker.columns, maker.survey.name) for maker in makers]
    asked: set[int] = set()
    passed: set[int] = set()
    stream = iter(packets)
    while batch := list(islice(stream, _BATCH)):
        for maker, reader in zip(makers, readers, strict=True):
            table = reader.read(batch).table
            if public:
                table = table.filter(is_public(table, maker.survey))
            frame = maker.frame(table)
            asked.update(frame["candid"].tolist())
            passed.update(frame.loc[chosen.passes(frame), "candid"].tolist())
    return Answer(frozenset(asked), frozenset(passed))


def score(
    name: str, truth: pd.DataFrame, answer: Answer | Collection[int], seeks: Sequence[str] | None = None
) -> Score:
    """Compare a filter's answer with the truth.

    Parameters
    ----------
    name
        Name of the filter.
    truth
        The table that `zads simulate` writes, one row a packet.
    answer
        An Answer; or only the candids that passed, when all readable alerts of `truth` were asked about.
    seeks
        Classes that the filter is for; None: those of `SEEKS`.

    Raises
    ------
    FilterError
        When it is not known what the filter seeks, or a class is not in the truth.
    """
    wanted = classes_sought(name, truth, seeks)
    damaged = truth["damage"].isin(UNREADABLE)
    rows = truth[~damaged].drop_duplicates("candid")
    passed = answer.passed if isinstance(answer, Answer) else frozenset(answer)
    if isinstance(answer, Answer):
        rows = rows[rows["candid"].isin(answer.asked)]
    rows = rows.assign(passed=rows["candid"].isin(passed), sought=rows["class"].isin(wanted))
    return Score(name, wanted, rows.reset_index(drop=True), int(damaged.sum()))


def classes_sought(name: str, truth: pd.DataFrame, seeks: Sequence[str] | None = None) -> tuple[str, ...]:
    """The classes that a filter is for.

    Parameters
    ----------
    name
        Name of the filter.
    truth
        The table that `zads simulate` writes.
    seeks
        The classes, if they are named; None: those of `SEEKS`.

    Raises
    ------
    FilterError
        When it is not known what the filter seeks, or a class is not in the truth.
    """
    known = set(truth["class"])
    if seeks is None and name not in SEEKS:
        raise FilterError(
            f"which classes is {name} for? Name them: --seeks 'SN Ia,SN II', seeks=[…] in Python",
            hint=f"the truth has {', '.join(sorted(known))}",
        )
    wanted = tuple(SEEKS[name] if seeks is None else seeks)
    if seeks is not None and (strange := [c for c in wanted if c not in known]):
        raise FilterError(f"no object of class {strange[0]!r} in this truth; {near_names(strange[0], known)}")
    return wanted


def roc(scores: np.ndarray, sought: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The receiver operating characteristic of a score, from the highest threshold to the lowest.

    Gives the share of the others and the share of what is sought that have at least each threshold; a missing
    score is below all of them. scores: (n,) float. sought: (n,) bool.
    """
    values = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], np.asarray(sought, bool)[order]
    last = np.append(values[1:] != values[:-1], True)[: len(values)]  # of equal scores all or none are taken
    found, wrong = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    return np.append(0.0, wrong / max((~hits).sum(), 1)), np.append(0.0, found / max(hits.sum(), 1))


def roc_area(scores: np.ndarray, sought: np.ndarray) -> float:
    """The area below the curve of `roc`: 1 for a score that separates, 0.5 for one that says nothing."""
    wrong, found = roc(scores, sought)
    return float(np.trapezoid(found, wrong))


def _plain(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 6)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
