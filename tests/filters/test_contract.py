"""The contract: what a filter may declare, read and return, and what it says when that goes wrong."""

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

import filters.errors as wrong
from filters import Filter, alert_filter, history, load, registered
from filters.packet import frame_of_packet, table_of_packets
from schemas.errors import NoSuchColumn, ZadsError
from schemas.frame import to_frame
from tests.filters.packets import alert, detection, limit


@alert_filter(
    survey="ztf",
    reads=["jd", "night", "positive", "prv_candidates.jd", "prv_candidates.night", "prv_candidates.magpsf"],
)
def as_designed(alerts, *, gap: Annotated[float, "min"] = 30):  # type: ignore[no-untyped-def]
    """Two detections tonight more than `gap` apart, none before (Bellm et al. 2017)."""
    past = history(alerts, "prv_candidates")  # flat, Arrow-backed, one row an epoch
    seen = past[past["magpsf"].notna()]
    tonight = seen["night"] == seen.alert["night"]  # the alert's own value on each of its rows
    minutes = (seen.alert["jd"] - seen["jd"]) * 1440
    return {
        "positive": alerts["positive"],
        "seen again tonight": seen[tonight & (minutes > gap)].any(),
        "none before": seen[~tonight].count() == 0,
    }


NIGHT = [
    alert([detection(31)]) | {"candid": 1},
    alert([detection(29)]) | {"candid": 2},
    alert([detection(31)], isdiffpos="f") | {"candid": 3, "objectId": "ZTF18other"},
]


def frame(f: Filter, packets: list[dict[str, Any]] | None = None) -> pd.DataFrame:
    reads = f.require_reads()
    return to_frame(table_of_packets(NIGHT if packets is None else packets, reads), reads)


def a_filter(body: Any, reads: list[str] | None = None) -> Filter:
    """A filter with this body, named `broken`."""

    def broken(alerts: pd.DataFrame) -> Any:
        return body(alerts)

    return alert_filter(survey="ztf", reads=["rb"] if reads is None else reads)(broken)


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
        full = to_frame(table_of_packets(NIGHT, ["rb", "drb", "prv_candidates.jd"]), ["rb", "drb", "jd"])
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


class TestDeclaring:
    def test_parameters(self) -> None:
        parameter = as_designed.parameters["gap"]
        assert (parameter.default, parameter.unit, parameter.kind) == (30.0, "min", float)
        assert str(parameter) == "30.0 min"

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"gapp": 3}, "no parameter 'gapp'; did you mean 'gap'?"),
            ({"gap": "soon"}, "gap is a number in min, not 'soon'"),
            ({"gap": None}, "gap is a number in min, not None"),
            ({"gap": True}, "gap is a number in min, not True"),
            ({"gap": float("nan")}, "gap is a number in min, not nan"),
            ({"gap": [1]}, "gap is a number"),
        ],
    )
    def test_wrong_values(self, values: dict[str, Any], says: str) -> None:
        with pytest.raises(wrong.BadParameter, match=says.replace("?", r"\?")):
            as_designed.using(**values)

    def test_kinds(self) -> None:
        @alert_filter(survey="ztf", reads=["rb"])
        def kinds(
            alerts: pd.DataFrame,
            *,
            whole: Annotated[bool, ""] = False,
            times: Annotated[int, "epochs"] = 5,
            band: Annotated[str, ""] = "g",
        ) -> Any:
            return {"x": alerts["rb"] > 0}

        assert kinds.using(whole="true", times="7", band="r").values == {
            "whole": True,
            "times": 7,
            "band": "r",
        }
        assert kinds.using(whole=0).values["whole"] is False
        with pytest.raises(wrong.BadParameter, match=r"times is a whole number in epochs, not 1\.5"):
            kinds.using(times=1.5)
        with pytest.raises(wrong.BadParameter, match="whole is true or false, not 'perhaps'"):
            kinds.using(whole="perhaps")

    def test_wrong_declarations(self) -> None:
        def positional(alerts: Any, gap: float = 3) -> Any: ...
        def without_default(alerts: Any, *, gap: float) -> Any: ...
        def of_another_kind(alerts: Any, *, gap: Annotated[list, ""] = []) -> Any: ...  # noqa: B006
        def others(alerts: Any, **rest: Any) -> Any: ...
        def nothing() -> Any: ...

        for function in (positional, without_default, of_another_kind, others, nothing):
            with pytest.raises(wrong.FilterError, match=function.__name__):
                alert_filter(survey="ztf", reads=["rb"])(function)
        with pytest.raises(wrong.FilterError, match="parentheses"):
            alert_filter(positional)  # type: ignore[arg-type]
        with pytest.raises(wrong.FilterError, match="scope"):
            alert_filter(scope="galaxy")
        with pytest.raises(NoSuchColumn, match="no survey 'ztff'"):
            alert_filter(survey="ztff", reads=["rb"])(as_designed.function)

    def test_scope_exposure_reads_pid(self) -> None:
        @alert_filter(survey="ztf", reads=["rb"], scope="exposure")
        def crowded(alerts: pd.DataFrame) -> Any:
            return {"x": alerts.groupby("pid")["rb"].transform("size") > 10}

        assert crowded.reads == ("rb", "pid")
        assert crowded.scope == "exposure"

    def test_reads_may_be_left_out_in_a_notebook(self) -> None:
        @alert_filter()
        def sketch(alerts: pd.DataFrame) -> Any:
            past = history(alerts, "prv_candidates")
            return {
                "real": alerts["rb"] > 0.5,
                "seen": lambda left: past[past["magpsf"] > 0].any()[left.index],
            }

        reads = ["rb", "fid", "magpsf", "jd", "prv_candidates.jd", "prv_candidates.magpsf"]
        full = to_frame(table_of_packets(NIGHT, reads), reads)
        assert sketch.passes(full).tolist() == [True, True, True]
        assert sketch.suggest_reads(full) == ["rb", "jd", "prv_candidates.jd", "prv_candidates.magpsf"]
        assert sketch.one(NIGHT[0])
        with pytest.raises(wrong.ReadsRequired, match="suggest_reads"):
            sketch.require_reads()

    def test_extending(self) -> None:
        pure, child = registered()["pure"], registered()["pure_transient"]
        assert set(pure.parameters) < set(child.parameters)
        assert set(pure.reads or ()) < set(child.reads or ())
        assert not child.using(rb_min=0.9).one(alert([detection(31)]))


class TestTravelling:
    @pytest.mark.parametrize("name", sorted(registered()))
    def test_registered_filters_go_by_name(self, name: str) -> None:
        f = registered()[name]
        sent = pickle.dumps(f)
        assert len(sent) < 2000
        got = pickle.loads(sent)
        assert (got.name, got.version, got.values) == (f.name, f.version, f.values)

    def test_values_travel(self) -> None:
        f = registered()["two_detections_30min"].using(gap=20)
        assert pickle.loads(pickle.dumps(f)).values["gap"] == 20

    def test_a_users_file_goes_by_value_to_a_process_that_lacks_it(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(
            textwrap.dedent(
                """
                from typing import Annotated
                from filters import alert_filter
                from filters.ztf.pure import pure
                LIMIT = 0.5
                def real(alerts, rb_min):
                    return alerts["rb"] > max(rb_min, LIMIT)
                @alert_filter(survey="ztf", reads=["rb"])
                def bright(alerts, *, rb_min: Annotated[float, ""] = 0.1):
                    return {"real": real(alerts, rb_min)}
                @alert_filter(survey="ztf", reads=["magpsf"], extends=pure)
                def pure_and_bright(alerts, *, limit: Annotated[float, "mag"] = 16, **others):
                    return pure.cuts_of(alerts, **others) | {"bright": alerts["magpsf"] < limit}
                """
            )
        )
        f = load(f"{file}:pure_and_bright").using(limit=15.5)
        sent = tmp_path / "sent"
        sent.write_bytes(cloudpickle.dumps([f, load(f"{file}:bright")]))
        file.unlink()
        script = (
            "import pickle, sys; from tests.filters.packets import alert;"
            f"f, g = pickle.load(open({str(sent)!r}, 'rb'));"
            "print(f.version, bool(f.one(alert())), f.one(alert(magpsf=16)).stopped_by, bool(g.one(alert())))"
        )
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [f.version, "True", "bright", "True"]

    def test_version_changes_with_code_helpers_and_reads_only(self, tmp_path: Path) -> None:
        code = (
            "from filters import alert_filter\n"
            "def half(): return 0.5\n"
            "@alert_filter(survey='ztf', reads=['rb'])\n"
            "def f(alerts, *, rb_min: float = 0.1): return {'real': alerts['rb'] > half()}\n"
        )
        versions = []
        for n, text in enumerate(
            [code, code + "\nOTHER = 1\n", code.replace("0.5", "0.6"), code.replace("'rb'", "'drb'")]
        ):
            file = tmp_path / f"v{n}.py"
            file.write_text(text)
            versions.append(load(str(file)).version)
        assert versions[0] == versions[1]
        assert len(set(versions)) == 3
        assert all(len(v) == 12 for v in versions)
        f = load(str(tmp_path / "v0.py"))
        assert f.using(rb_min=0.2).version == f.version


class TestLoading:
    def test_by_name_and_module(self) -> None:
        assert load("pure") is registered()["pure"]
        assert load("filters.ztf.pure:pure") is registered()["pure"]
        assert load("filters.ztf.pure_transient").name == "pure_transient"

    @pytest.mark.parametrize(
        ("where", "says"),
        [
            ("asteroids", "no filter 'asteroids'; did you mean 'asteroid'?"),
            ("filters.ztf.pure:purr", "no filter 'purr' in 'filters.ztf.pure'; did you mean 'pure'?"),
            ("filters.zzz:pure", "no module 'filters.zzz'"),
            ("nowhere.py:f", "no file nowhere.py"),
        ],
    )
    def test_not_found(self, where: str, says: str) -> None:
        with pytest.raises(wrong.UnknownFilter) as caught:
            load(where)
        assert says in str(caught.value)

    def test_a_broken_file_says_what_is_wrong_with_it(self, tmp_path: Path) -> None:
        file = tmp_path / "bad.py"
        file.write_text("import not_a_module_that_exists")
        with pytest.raises(ModuleNotFoundError):
            load(f"{file}:f")


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
