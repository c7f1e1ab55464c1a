"""Flat histories against plain loops, on generated packets; and what they say when they are misused."""

import gc
import math
import pickle
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from filters import history
from filters.errors import BadSelection, FilterError
from filters.external.externals import to_frame
from filters.history import History, _kept
from filters.view import AlertView
from schemas.errors import NoSuchColumn
from tests.filters.packets import NOW, PHASES, alert, detection, limit, packets
from tests.frames import table_of_packets

FIELDS = ("jd", "fid", "exposure", "magpsf", "isdiffpos", "candid", "night", "positive", "flux")
READS = ["jd", "fid", "night", *(f"prv_candidates.{name}" for name in FIELDS)]


def frame(batch: list[dict[str, Any]]) -> pd.DataFrame:
    return to_frame(table_of_packets(batch, READS), READS)


def past_rows(packet: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in packet["prv_candidates"] or [] if row["jd"] < packet["candidate"]["jd"]]


def missing(x: Any) -> bool:
    return x is None or x != x


def same(got: pd.Series, expected: list[float | None]) -> bool:
    pairs = zip(got.tolist(), expected, strict=True)
    return all(
        (missing(a) and missing(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in pairs
    )


LOOPS: dict[str, Callable[[list[float]], float | None]] = {
    "min": lambda x: min(x, default=None),
    "max": lambda x: max(x, default=None),
    "mean": lambda x: statistics.fmean(x) if x else None,
    "std": lambda x: statistics.pstdev(x) if x else None,
    "sum": lambda x: math.fsum(x),
    "count": len,
}

relaxed = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)


@relaxed
@given(packets)
def test_reductions_are_loops_over_each_alert(batch: list[dict[str, Any]]) -> None:
    past = history(frame(batch), "prv_candidates")
    for field, names in (("magpsf", LOOPS), ("fid", LOOPS), ("jd", ("min", "max", "count"))):
        each = [[row[field] for row in past_rows(p) if not missing(row[field])] for p in batch]
        if any(abs(x) > 1e6 and field == "magpsf" for values in each for x in values):
            continue  # a sum with 1e30 in it is about rounding, not about histories
        for name in names:
            expected = [LOOPS[name](values) for values in each]
            assert same(getattr(past[field], name)(), expected), (field, name)


@relaxed
@given(packets)
def test_selection_count_first_and_last(batch: list[dict[str, Any]]) -> None:
    past = history(frame(batch), "prv_candidates")
    bright = past[past["magpsf"] < 18.6]
    rows = [[r for r in past_rows(p) if not missing(r["magpsf"]) and r["magpsf"] < 18.6] for p in batch]
    assert bright.count().tolist() == [len(r) for r in rows]
    assert bright.any().tolist() == [bool(r) for r in rows]
    in_time = [sorted(r, key=lambda row: row["jd"]) for r in rows]
    assert same(bright["magpsf"].first(), [r[0]["magpsf"] if r else None for r in in_time])
    ordered = bright.by_time()
    assert ordered["jd"].to_numpy().tolist() == [row["jd"] for r in in_time for row in r]
    steps = [b["jd"] - a["jd"] for r in in_time for a, b in zip([None, *r], r, strict=False) if a]
    assert [x for x in ordered["jd"].diff().to_numpy().tolist() if x == x] == steps


@relaxed
@given(packets)
def test_rows_not_past_are_left_out_and_counted(batch: list[dict[str, Any]]) -> None:
    past = history(frame(batch), "prv_candidates")
    assert past.count().tolist() == [len(past_rows(p)) for p in batch]
    assert past.not_past.tolist() == [len(p["prv_candidates"] or []) - len(past_rows(p)) for p in batch]


@relaxed
@given(packets)
def test_once_an_exposure_keeps_the_first_stored(batch: list[dict[str, Any]]) -> None:
    once = history(frame(batch), "prv_candidates").once_an_exposure()
    for position, packet in enumerate(batch):
        first: dict[Any, float] = {}
        for number, row in enumerate(past_rows(packet)):
            # Of rows without a pid nobody can say that they are one exposure.
            first.setdefault(row["pid"] if row["pid"] is not None else f"unknown {number}", row["jd"])
        got = once["jd"].to_numpy()[once.rows == position]
        assert got.tolist() == list(first.values())


def test_alert_values_are_repeated_on_its_epochs() -> None:
    past = history(
        frame([alert([detection(9), detection(8)]), alert(None), alert([limit(7)], fid=2)]), "prv_candidates"
    )
    assert past.alert["fid"].to_numpy().tolist() == [1, 1, 2]
    assert (past["fid"] == past.alert["fid"]).to_numpy().tolist() == [True, True, False]
    assert past["fid"][past["fid"] == past.alert["fid"]].count().tolist() == [2, 0, 0]


def test_frame_is_plain_pandas() -> None:
    batch = [
        alert([detection(-5), detection(9), limit(8)]) | {"candid": 5},
        alert([limit(7)]) | {"candid": 6},
    ]
    past = history(frame(batch), "prv_candidates")
    plain = past.frame()
    assert plain.index.tolist() == [(5, 1), (5, 2), (6, 0)]
    assert plain.index.names == ["candid", "row"]
    assert plain.columns.tolist() == list(FIELDS)
    assert plain["magpsf"].isna().tolist() == [False, True, True]
    assert past[past["magpsf"].notna()].frame().index.tolist() == [(5, 1)]


def test_words_and_large_integers() -> None:
    big = 2**61 + 1
    rows = [detection(9, candid=big), detection(8, candid=None, isdiffpos="1"), limit(7, candid=big + 1)]
    past = history(frame([alert(rows)]), "prv_candidates")
    assert (past["candid"] == big).to_numpy().tolist() == [True, False, False]
    assert (past["candid"] != big).to_numpy().tolist() == [False, False, True]  # with a missing one: false
    assert (past["isdiffpos"] == "t").to_numpy().tolist() == [True, False, False]
    assert np.equal("t", past["isdiffpos"]).to_numpy().tolist() == [True, False, False]
    assert past["isdiffpos"].isin(["t", "1"]).to_numpy().tolist() == [True, True, False]
    assert past["isdiffpos"].isna().to_numpy().tolist() == [False, False, True]
    assert past["candid"].fillna(0).to_numpy().tolist() == [big, 0, big + 1]
    assert past["positive"].sum().tolist() == [2]
    assert past["positive"].all().tolist() == [False]


def test_arithmetic_is_numpys() -> None:
    past = history(
        frame([alert([detection(9, magpsf=19.0), limit(8), detection(7, magpsf=17.0)])]), "prv_candidates"
    )
    m = past["magpsf"]
    assert ((18 - m) ** 2).to_numpy()[[0, 2]].tolist() == [1, 1]
    assert np.sqrt(abs(18 - m)).to_numpy()[[0, 2]].tolist() == [1, 1]
    assert m.between(18, 20).to_numpy().tolist() == [True, False, False]
    assert (m != 19.0).to_numpy().tolist() == [False, False, True]  # a comparison with NaN is false
    assert (~(m > 18) & m.notna()).to_numpy().tolist() == [False, False, True]
    assert m.fillna(0).to_numpy().tolist() == [19, 0, 17]
    assert m.series().max() == 19
    assert past[m.series() > 18].count().tolist() == [1]
    assert m.std(ddof=1).tolist() == [math.sqrt(2)]
    assert m.last().tolist() == [17]


def test_what_filters_share_nobody_can_change() -> None:
    alerts = frame([alert([detection(9, magpsf=19.0), detection(7, magpsf=17.0)], rb=0.5)])
    view = AlertView(alerts, map(str, alerts))
    jd = view["jd"].iloc[0]
    mine = view["jd"]
    mine.iloc[0] = 1.0
    assert view["jd"].iloc[0] == alerts["jd"].iloc[0] == jd
    view.remember()
    past = history(view, "prv_candidates")
    assert history(view, "prv_candidates") is past
    mean = past["magpsf"].mean()
    mean.iloc[0] = 0.0
    assert past["magpsf"].mean().tolist() == [18]
    with pytest.raises(ValueError, match="read-only"):
        past["magpsf"].notna().values[0] = False


class TestMisuse:
    def past(self) -> History:
        return history(frame([alert([detection(9), detection(8)]), alert([limit(7)])]), "prv_candidates")

    def test_mask_of_another_selection(self) -> None:
        past = self.past()
        seen, other = past[past["magpsf"].notna()], past[past["magpsf"].isna()]
        same = past[~past["magpsf"].isna()]
        assert (seen[same["jd"] > 0].count() == seen.count()).all()
        with pytest.raises(BadSelection, match="another selection"):
            seen[other["jd"] > 0]
        with pytest.raises(BadSelection, match="another selection"):
            _ = seen["jd"] + past["jd"]
        with pytest.raises(BadSelection, match="not on the epochs"):
            past[seen["jd"].series() > 0]
        with pytest.raises(BadSelection, match="2 times true or false"):
            seen[np.ones(3, bool)]
        with pytest.raises(BadSelection, match="float64"):
            seen[seen["jd"]]

    def test_column_of_alerts_among_epochs(self) -> None:
        alerts = frame([alert([detection(9)])])
        past = history(alerts, "prv_candidates")
        for mix in (lambda: past["jd"] < alerts["jd"], lambda: alerts["jd"] - past["jd"]):
            with pytest.raises(BadSelection, match=r"seen\.alert\['jd'\]"):
                mix()

    def test_truth_of_a_column(self) -> None:
        with pytest.raises(FilterError, match=r"use \.any\(\)"):
            assert self.past()["jd"] > 0
        with pytest.raises(FilterError, match="true and false"):
            self.past()["jd"].any()

    def test_names(self) -> None:
        with pytest.raises(NoSuchColumn, match=r"prv_candidates\.magpsf"):
            self.past()["magps"]
        with pytest.raises(NoSuchColumn):
            history(frame([]), "fp_hists")
        with pytest.raises(NoSuchColumn):
            self.past().alert["rb"]

    def test_values_cannot_be_written(self) -> None:
        with pytest.raises(ValueError, match="read-only"):
            self.past()["jd"].to_numpy()[0] = 0


def test_flattening_is_shared_by_views_and_let_go_with_the_frame() -> None:
    alerts = frame([alert([detection(9)])])
    first, again = history(alerts, "prv_candidates"), history(alerts[list(READS)], "prv_candidates")
    assert first["jd"].values is again["jd"].values
    assert first["fid"].values is again["fid"].values
    kept = len(_kept)
    del alerts, first, again
    gc.collect()
    assert len(_kept) < kept


def test_threads_agree() -> None:
    batch = [alert([detection(n + m) for m in range(n)]) for n in range(30)]

    def count(_: int) -> list[float]:
        alerts = shared if _ % 2 else frame(batch)
        past = history(alerts, "prv_candidates")
        return past[past["positive"]]["jd"].max().tolist()

    shared = frame(batch)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(count, range(64)))
    assert len({pickle.dumps(answer[1:]) for answer in answers}) == 1


def test_now_is_not_past() -> None:
    past = history(frame([alert([detection(0), detection(1e-4)])]), "prv_candidates")
    assert past["jd"].to_numpy().tolist() == [NOW - 1e-4 / 1440]
    assert past.not_past.tolist() == [1]


def test_words_of_two_kinds_of_pandas_text_compare() -> None:
    """Dask turns the text of a frame without rows, and only that, into pandas' other kind of text."""
    batch = [alert([detection(30, fid=2), detection(60, fid=1)], fid=2), alert([])]
    reads = ["jd", "band", "prv_candidates.jd", "prv_candidates.band"]
    some = to_frame(table_of_packets(batch, reads), reads)
    for night in (some, some.iloc[:0]):
        other = night.astype({"band": "string"})
        seen = history(other, "prv_candidates")
        assert (seen["band"] != seen.alert["band"]).any().tolist() == [True, False][: len(night)]
