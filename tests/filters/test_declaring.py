"""What a filter may declare, how it travels between processes, how it is found."""

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import cloudpickle
import pandas as pd
import pytest

import filters.errors as wrong
from commands.external.lists import add_list
from filters import alert_filter, expression, history, load, registered
from filters.external import Store
from filters.external.externals import to_frame
from filters.external.store import kept_in
from schemas.errors import NoSuchColumn
from tests.filters.examples import NIGHT, as_designed
from tests.filters.packets import alert, detection
from tests.frames import table_of_packets


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

    def test_scope_exposure_reads_exposure(self) -> None:
        @alert_filter(survey="ztf", reads=["rb"], scope="exposure")
        def crowded(alerts: pd.DataFrame) -> Any:
            return {"x": alerts.groupby("exposure")["rb"].transform("size") > 10}

        assert crowded.reads == ("rb", "exposure")
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
            [code, code + "\n# OTHER = 1\n", code.replace("0.5", "0.6"), code.replace("'rb'", "'drb'")]
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

    def test_the_name_of_a_column_is_an_expression_of_this_flag(self, tmp_path: Path) -> None:
        assert load("positive").version == expression("(positive)").version
        with pytest.raises(wrong.FilterError, match="`rb` is a number"):
            load("rb")
        with kept_in(tmp_path / "lists"):
            with pytest.raises(wrong.UnknownFilter, match=r"no module 'targets.match'") as nothing:
                load("targets.match")
            assert "(targets.match)" in str(nothing.value.hint)
            add_list(
                pd.DataFrame({"name": ["M31"], "ra": [10.7], "dec": [41.3]}), "targets", Store(), radius=5.0
            )
            assert load("targets.match").version == expression("(targets.match)").version
            with pytest.raises(NoSuchColumn, match=r"targets.mach"):
                load("targets.mach")

    def test_a_broken_file_says_what_is_wrong_with_it(self, tmp_path: Path) -> None:
        file = tmp_path / "bad.py"
        file.write_text("import not_a_module_that_exists")
        with pytest.raises(wrong.BadFile, match="not_a_module_that_exists"):
            load(f"{file}:f")
