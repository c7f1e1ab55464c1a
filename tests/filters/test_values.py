"""Values beside the cuts: the same however a night is cut into batches, typed alike, refused when wrong."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filters import alert_filter, history
from filters.errors import BadValue, FilterError
from filters.values import as_json, none_of
from schemas.frame import frame_maker
from tests.filters.packets import PHASES, alert, detection, packets

READS = ["rb", "fid", "jd", "magpsf", "prv_candidates.jd", "prv_candidates.magpsf"]


@alert_filter(reads=READS, gives={"rise": "mag/d", "brightest": "mag", "band": "text"})
def rising(alerts: pd.DataFrame, *, rb_min: float = 0.5) -> Any:
    """A filter with values: of the whole batch, of those that pass, and words."""
    seen = history(alerts, "prv_candidates")

    def band(passing: pd.DataFrame) -> pd.Series:
        return passing["fid"].map({1.0: "g", 2.0: "r"})

    rise = (seen["magpsf"].last() - alerts["magpsf"]) / (alerts["jd"] - seen["jd"].last())
    cuts = {"real": alerts["rb"] >= rb_min, "seen": seen.any()}
    return cuts, {"rise": rise, "brightest": seen["magpsf"].min(), "band": band}


def frame_of(batch: list[dict[str, Any]]) -> pd.DataFrame:
    return frame_maker(rising.require_reads(), "ztf").of_packets(batch)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(packets, st.integers(0, 100))
def test_batches_change_nothing(batch: list[dict[str, Any]], cut: int) -> None:
    frame = frame_of(batch)
    whole = rising.judge(frame)
    assert whole.mask.tolist() == rising.passes(frame).tolist()
    at = cut % (len(batch) + 1)
    parts = [rising.judge(frame_of(part)) for part in (batch[:at], batch[at:])]
    pd.testing.assert_frame_equal(pd.concat([p.values for p in parts], ignore_index=True), whole.values)
    one_by_one = [rising.judge(frame_of([packet])).values for packet in batch]
    together = pd.concat([none_of(rising.gives), *one_by_one], ignore_index=True)
    pd.testing.assert_frame_equal(together, whole.values)
    pd.testing.assert_frame_equal(rising.judge(frame[whole.mask]).values, whole.values)


def test_by_hand_and_through_a_pickle() -> None:
    batch = [alert([detection(144, magpsf=19.0)], magpsf=18.5), alert(), alert([detection(60)], fid=3)]
    for f in (rising, pickle.loads(pickle.dumps(rising))):
        values = f.judge(frame_of(batch)).values
        assert as_json(values) == [
            {"rise": pytest.approx(5.0, abs=1e-4), "brightest": 19.0, "band": "g"},
            {"rise": pytest.approx((18.5 - 15.0) * 24, rel=1e-4), "brightest": 18.5, "band": None},
        ]
    assert rising.gives == {"rise": "mag/d", "brightest": "mag", "band": "text"}


def test_json_has_no_nan_and_keeps_whole_numbers() -> None:
    frame = pd.DataFrame({"a": [1.5, np.nan, np.inf], "b": pd.array([2**60 + 1, None, 3], "Int64")})
    assert as_json(frame) == [{"a": 1.5, "b": 2**60 + 1}, {"a": None, "b": None}, {"a": None, "b": 3}]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"x": 1.0}, "not one value for each"),
        ({"y": lambda a: a["rb"]}, "differ in x, y"),
        ({"x": lambda a: a["rb"].iloc[:1]}, "an index of its own"),
        ({"x": lambda a: pd.Series(["a"] * len(a), index=a.index)}, "is no number"),
        ([1], "its cuts and a dictionary"),
    ],
)
def test_what_is_wrong_is_said(values: Any, says: str) -> None:
    @alert_filter(reads=["rb"], gives={"x": ""})
    def wrong(alerts: pd.DataFrame) -> Any:
        return {"all": alerts["rb"].notna()}, values

    with pytest.raises(BadValue, match=says):
        wrong.judge(frame_maker(wrong.require_reads(), "ztf").of_packets([alert(), alert()]))


def test_a_unit_is_text() -> None:
    with pytest.raises(FilterError, match="a name of a value and its unit"):
        alert_filter(reads=["rb"], gives={"x": 3})(lambda alerts: {})  # type: ignore[dict-item]
