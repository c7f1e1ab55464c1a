"""The contract: what a filter may declare, read and return, and what it says when that goes wrong."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

import filters.errors as wrong
from filters import history, registered
from filters.external.externals import to_frame
from schemas.errors import NoSuchColumn, ZadsError
from tests.filters.examples import NIGHT, a_filter, as_designed, frame
from tests.filters.packets import alert, detection, limit
from tests.frames import frame_of_packet, table_of_packets


class TestTheExample:
    def test_cuts(self) -> None:
        cuts = as_designed(frame(as_designed))
        assert cuts.columns.tolist() == ["positive", "seen again tonight", "none before"]
        assert cuts.to_numpy().tolist() == [[True, True, True], [True, False, True], [False, True, True]]
        assert set(cuts.dtypes) == {np.dtype(bool)}

    def test_same_as_the_one_that_comes_with_zads(self) -> None:
        f = registered()["two_detections_30min"]
        assert f.passes(frame(f)).tolist() == as_designed.passes(frame(as_designed)).tolist()

    def test_funnel_counts_alerts_and_objects(self) -> None:
        funnel = as_designed.funnel(frame(as_designed))
        assert funnel.to_numpy().tolist() == [
            ["all", 3, 2],
            ["positive", 2, 1],
            ["seen again tonight", 1, 1],
            ["none before", 1, 1],
        ]

    def test_explain(self) -> None:
        told = as_designed.explain(frame(as_designed), candid=2)
        assert told["cut"].tolist() == ["positive", "seen again tonight", "none before"]
        assert told["passed"].tolist() == [True, False, True]
        assert told["stopped"].tolist() == [False, True, False]
        assert told["saw"][0] == {"positive": True}
        assert set(told["saw"][1]) == {"jd", "night"} | {
            f"prv_candidates.{n}" for n in ("jd", "magpsf", "night")
        }
        assert told["saw"][1]["prv_candidates.magpsf"] == [18.5]

    def test_explain_of_an_alert_that_is_not_there(self) -> None:
        with pytest.raises(wrong.FilterError, match="no alert with candid 99 among the 3"):
            as_designed.explain(frame(as_designed), candid=99)

    def test_using(self) -> None:
        assert as_designed.using(gap=20).passes(frame(as_designed)).tolist() == [True, True, False]
        assert as_designed.using(gap="20.5").values == {"gap": 20.5}
        assert as_designed.values == {"gap": 30.0}

    def test_reads_gain_the_times_that_history_needs(self) -> None:
        f = a_filter(lambda a: {}, reads=["prv_candidates.magpsf"])
        assert f.reads == ("prv_candidates.magpsf", "jd", "prv_candidates.jd")


class TestReading:
    def test_undeclared_column_fails_the_same_everywhere(self) -> None:
        f = a_filter(lambda a: {"x": a["drb"] > 0})
        full = to_frame(table_of_packets(NIGHT, ["rb", "drb"]), ["rb", "drb"])
        messages = set()
        for run in (lambda: f(full), lambda: f(frame(f)), lambda: f.one(NIGHT[0]), lambda: f.funnel(full)):
            with pytest.raises(NoSuchColumn) as caught:
                run()
            messages.add(str(caught.value))
        assert len(messages) == 1
        assert "did you mean 'rb'?" in messages.pop()

    @pytest.mark.parametrize(
        "reading",
        [
            lambda a: {"x": a.drb > 0},
            lambda a: {"x": a[["rb", "drb"]].max(axis=1) > 0},
            lambda a: {"x": a["rb"] > 0, "y": lambda survivors: survivors["drb"] > 0},
            lambda a: {"x": history(a, "prv_candidates").any()},
        ],
    )
    def test_undeclared_in_other_ways(self, reading: Any) -> None:
        full = to_frame(table_of_packets(NIGHT, ["rb", "drb", "jd"]), ["rb", "drb", "jd"])
        with pytest.raises(NoSuchColumn):
            a_filter(reading)(full)

    def test_undeclared_field_of_a_history(self) -> None:
        f = a_filter(
            lambda a: {"x": history(a, "prv_candidates")["fid"].any()}, reads=["prv_candidates.magpsf"]
        )
        with pytest.raises(NoSuchColumn, match=r"prv_candidates\.fid"):
            f(frame(f))

    def test_a_filter_sees_its_columns_only(self) -> None:
        seen: list[list[str]] = []
        f = a_filter(lambda a: seen.append(list(a.columns)) or {"x": a["rb"] > 0})
        f(to_frame(table_of_packets(NIGHT, ["rb", "drb"]), ["rb", "drb"]))
        assert seen == [["rb", "candid", "objectId"]]

    def test_a_column_that_the_survey_lacks(self) -> None:
        with pytest.raises(NoSuchColumn, match="did you mean 'rb'"):
            a_filter(lambda a: {}, reads=["rbb"])

    def test_an_own_key_error_stays_what_it_is(self) -> None:
        with pytest.raises(KeyError, match="mine") as caught:
            a_filter(lambda a: {}["mine"])(frame(a_filter(None)))
        assert not isinstance(caught.value, ZadsError)

    def test_the_view_is_a_frame_like_any(self) -> None:
        wanted = to_frame(table_of_packets(NIGHT, ["rb", "drb", "fid"]), ["rb", "drb", "fid"])
        view = a_filter(None, reads=["fid", "rb"]).restricted(wanted)
        plain = wanted[["fid", "rb", "candid", "objectId"]]
        assert isinstance(view, pd.DataFrame)
        assert len(view) == 3
        pd.testing.assert_frame_equal(pd.DataFrame(view), plain)
        pd.testing.assert_frame_equal(view[view["fid"] == 1], plain)
        pd.testing.assert_frame_equal(view.assign(x=1), plain.assign(x=1))
        assert view.eval("rb + fid").tolist() == plain.eval("rb + fid").tolist()
        assert view.loc[:, "rb"].tolist() == plain["rb"].tolist()
        assert (view[["rb"]] > 0).to_numpy().tolist() == (plain[["rb"]] > 0).to_numpy().tolist()
        assert pickle.loads(pickle.dumps(view.copy())).equals(plain)
        assert np.asarray(view["rb"]).flags.writeable is False

    def test_writing_to_the_view_leaves_the_batch(self) -> None:
        def writes(alerts: pd.DataFrame) -> Any:
            alerts["rb"] = 1.0
            alerts.loc[:, "candid"] = 0
            return {"x": alerts["rb"] == 1.0}

        f = a_filter(writes)
        given, same = frame(f), frame(f)
        assert f.passes(given).all()
        pd.testing.assert_frame_equal(given, same)


class TestReturning:
    @pytest.mark.parametrize(
        ("returned", "says"),
        [
            (lambda a: a["rb"] > 0, "must return a dictionary"),
            (lambda a: {"x": a["rb"]}, "the cut 'x' is float64, not boolean"),
            (lambda a: {"x": (a["rb"] > 0)[:1]}, "the cut 'x' has an index of its own"),
            (lambda a: {"x": (a["rb"] > 0).reset_index(drop=True).set_axis([7, 8, 9])}, "index of its own"),
            (lambda a: {"x": True}, r"the cut 'x' is one value \(True\)"),
            (lambda a: {"x": [True, True, True]}, "the cut 'x' is list"),
            (lambda a: {"x": np.ones(2, bool)}, r"shape \(2,\) for 3 alerts"),
            (lambda a: {"x": a["rb"].astype(object)}, "not boolean"),
            (lambda a: {"x": lambda s: s["rb"]}, "the cut 'x' is float64"),
        ],
    )
    def test_wrong_cut(self, returned: Any, says: str) -> None:
        f = a_filter(returned)
        with pytest.raises(wrong.BadCut, match=says) as caught:
            f(frame(f))
        assert str(caught.value).startswith("broken")

    def test_epochs_for_alerts(self) -> None:
        f = a_filter(lambda a: {"x": history(a, "prv_candidates")["jd"] > 0}, reads=["prv_candidates.jd"])
        with pytest.raises(wrong.BadCut, match=r"end it with \.any\(\)"):
            f(frame(f))

    def test_missing_is_false(self) -> None:
        f = a_filter(lambda a: {"x": pd.Series([True, None, pd.NA], dtype="boolean"), "y": a["rb"] < np.nan})
        cuts = f(frame(f))
        assert cuts["x"].tolist() == [True, False, False]
        assert cuts["y"].tolist() == [False, False, False]

    def test_a_callable_sees_the_survivors_only(self) -> None:
        seen: list[list[int]] = []

        def late(survivors: pd.DataFrame) -> pd.Series:
            seen.append(survivors["candid"].tolist())
            return survivors["candid"] == 3

        f = a_filter(lambda a: {"odd": a["candid"] % 2 == 1, "late": late, "later": late, "none left": late})
        cuts = f(frame(f))
        assert seen == [[1, 3], [3], [3]]
        assert cuts["late"].tolist() == [False, False, True]
        assert f.passes(frame(f, [])).tolist() == []

    def test_what_a_filter_raises_is_passed_on(self) -> None:
        f = a_filter(lambda a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            f.passes(frame(f))


def test_one_alert_without_what_its_version_lacks() -> None:
    f = a_filter(
        lambda a: {"x": a["drb"].isna(), "y": history(a, "fp_hists").count() == 0},
        reads=["drb", "fp_hists.jd"],
    )
    assert f.one(alert())
    assert f.one(NIGHT[0] | {"fp_hists": None})


def test_limits_have_no_magnitude() -> None:
    packet = alert([limit(50), detection(40)])
    past = history(
        frame_of_packet(packet, ["jd", "prv_candidates.jd", "prv_candidates.magpsf"]), "prv_candidates"
    )
    assert past["magpsf"].isna().to_numpy().tolist() == [True, False]
