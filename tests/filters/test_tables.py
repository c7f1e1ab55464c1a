"""Parameters that are tables: a batch is judged as if each alert had a filter with its own value."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from commands.replay import sweeps
from filters import Filter, alert_filter, expression, history, load, registered
from filters.errors import BadParameter, FilterError
from filters.external.externals import to_frame
from filters.tables import text_of
from pipeline.channels.config import channel_set, read_config
from pipeline.channels.definition import Definition
from pipeline.channels.registry import difference
from tests.filters.packets import PHASES, alert, detection, packets
from tests.frames import table_of_packets


@alert_filter(
    reads=["jd", "magpsf", "prv_candidates.jd", "prv_candidates.magpsf"],
    gives={"rise": "mag", "doubled": "mag"},
)
def risen(
    alerts: pd.DataFrame, *, rise: Annotated[float, "mag"] = 0.05, within: Annotated[float, "min"] = 40
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Uses its parameters on alerts, on epochs, and in a late cut."""
    past = history(alerts, "prv_candidates")
    lately = past[(past.alert["jd"] - past["jd"]) * 1440 < within]
    brighter = lately["magpsf"].max() - alerts["magpsf"]
    late = {"late": lambda left: left["magpsf"] < 19 - rise}
    return {"seen": lately["magpsf"].count() > 0, "risen": brighter > rise, **late}, {
        "rise": brighter,
        "doubled": lambda passing: passing["magpsf"] * 2,
    }


TABLES: list[tuple[Filter, dict[str, Any]]] = [
    (load("real_bogus"), {"rb_min": {"by": "fid", "1": 0.7, "2": 0.0, "else": 0.65}}),
    (
        risen,
        {"rise": {"by": "band", "g": -5.0, "r": 0.03}, "within": {"by": "night", "2482": 25, "else": 4000}},
    ),
    (expression("rb > {least: 0.65}; over = rb - least"), {"least": "positive:True=0.2,else=0.7"}),
    (load("two_detections_30min"), {"gap": {"by": "rb", "0.75": 10}}),
    (load("real_bogus"), {"rb_min": {"by": "sgscore1+fid", "0.5+1": 0.7, "0.5+2": 0.0, "+1": 0.9}}),
]


def frame_of(f: Filter, batch: list[dict[str, Any]]) -> pd.DataFrame:
    return to_frame(table_of_packets(batch, f.require_reads()), f.require_reads())


def own_values(f: Filter, packet: dict[str, Any]) -> dict[str, Any]:
    """What a person reads in the tables for this alert."""
    row, found = frame_of(f, [packet]).iloc[0], dict(f.values)
    for name, table in f.values.items():
        if isinstance(table, dict):
            keys = [row[column] for column in table["by"].split("+")]
            plain = [int(k) if isinstance(k, float) and k.is_integer() else k for k in keys]
            key = "+".join("" if pd.isna(one) else str(one) for one in plain)
            found[name] = table.get(key, table["else"])
    return found


@pytest.mark.parametrize(("f", "tables"), TABLES, ids=lambda one: getattr(one, "name", ""))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(batch=packets)
def test_each_alert_is_judged_by_its_own_values(f: Filter, tables: dict[str, Any], batch: list[dict]) -> None:
    by_table = f.using(**tables)
    judged = by_table.judge(frame_of(by_table, batch))
    alone = [f.using(**own_values(by_table, one)) for one in batch]
    each = [one.judge(frame_of(one, [packet])) for one, packet in zip(alone, batch, strict=True)]
    assert judged.mask.tolist() == [bool(one.mask[0]) for one in each]
    cuts = by_table(frame_of(by_table, batch))
    assert cuts.all(axis=1).tolist() == judged.mask.tolist()
    assert cuts.to_dict("records") == [one.one(p).cuts for one, p in zip(alone, batch, strict=True)]
    values = [row for one in each for row in one.values.to_dict("records")]
    assert repr(judged.values.to_dict("records")) == repr(values)


def test_how_a_table_is_written() -> None:
    f = registered()["real_bogus"]
    made = f.using(rb_min="band:g=0.7,r=0.6")
    assert made.values["rb_min"] == {"by": "band", "g": 0.7, "r": 0.6, "else": 0.65}
    assert (
        f.using(rb_min=made.values["rb_min"]).values == f.using(rb_min=text_of(made.values["rb_min"])).values
    )
    assert f.using(rb_min={"by": "night", "2017-01-03": 0.7}).values["rb_min"]["2"] == 0.7
    assert (
        text_of(json.loads(json.dumps(made.values["rb_min"], sort_keys=True))) == "band:g=0.7,r=0.6,else=0.65"
    )
    assert made.version == f.version
    assert made.reads == ("rb", "band")
    assert pickle.loads(pickle.dumps(made)).values == made.values
    assert made.using(rb_min=0.5).reads == ("rb",)
    both = f.using(rb_min="band+fid:g+1=0.7")
    assert both.reads == ("rb", "band", "fid")
    assert text_of(both.values["rb_min"]) == "band+fid:g+1=0.7,else=0.65"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"by": "bnd", "g": 0.7}, "did you mean 'band'"),
        ({"by": "prv_candidates.fid", "1": 0.7}, "a column of alerts"),
        ({"by": "band"}, "has entries"),
        ({"g": 0.7}, "names its column"),
        ({"by": "band", "g": "high"}, "is a number, not 'high'"),
        ("band:g=0.7,0.6", "is written band:g=0.7"),
        ({"by": "field", **{str(n): 0.5 for n in range(1001)}}, "1001 entries"),
    ],
)
def test_what_is_no_table(table: Any, says: str) -> None:
    with pytest.raises(BadParameter, match=says):
        registered()["real_bogus"].using(rb_min=table)


def test_a_filter_of_whole_exposures_takes_only_tables_that_leave_them_whole() -> None:
    f = load("filters.exposures.trails:no_trail")
    name = next(name for name, parameter in f.parameters.items() if parameter.kind is not str)
    assert f.using(**{name: f"band:g={f.values[name]}"}).tables == ("band",)
    with pytest.raises(BadParameter, match="whole exposures"):
        f.using(**{name: f"objectId:ZTF1={f.values[name]}"})


def test_a_filter_built_upon_one_takes_the_table_itself() -> None:
    batch = [alert([detection(31)], rb=0.7, fid=fid) for fid in (1, 2)]
    child = registered()["pure_transient"].using(rb_min="fid:1=0.9")
    assert child.passes(frame_of(child, batch)).tolist() == [False, True]
    parent = registered()["pure"].using(rb_min="fid:1=0.9")
    with pytest.raises(FilterError, match="built upon it"):
        parent.cuts_of(frame_of(parent, batch))


def test_a_table_some_value_of_which_makes_other_cuts_is_refused() -> None:
    f = registered()["two_detections_30min"].using(whole_survey="band:r=yes")
    with pytest.raises(BadParameter, match="other cuts"):
        f.cut_names()
    assert registered()["two_detections_30min"].using(gap="band:r=20").cut_names()


def test_explain_tells_the_value_of_the_alert() -> None:
    f = expression("rb > {least: 0.65}").using(least="band:g=0.9,r=0.3")
    one = alert(rb=0.5, fid=2) | {"candid": 7}
    assert f.explain(frame_of(f, [one]), 7)["saw"].tolist() == [{"rb": 0.5, "least": 0.3}]


def test_a_table_in_a_file_and_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "zads.toml").write_text(
        '[channels.bright]\nfilter = "real_bogus"\n[channels.bright.parameters]\n'
        'rb_min = { by = "field", 600 = 0.8, else = 0.6 }\n'
    )
    (channel,) = channel_set(read_config(tmp_path / "zads.toml")).channels
    assert channel.describe()["parameters"] == {"rb_min": {"by": "field", "600": 0.8, "else": 0.6}}
    assert sweeps(["rb_min=band:g=0.7,r=0.6", "gap=20,30"]) == {
        "rb_min": "band:g=0.7,r=0.6",
        "gap": ["20", "30"],
    }
    plain = Definition(name="bright", filter="real_bogus").with_changes()
    tabled = plain.with_changes(parameters={"rb_min": "band:g=0.7"})
    assert difference(plain, tabled) == "set rb_min 0.65 → band:g=0.7,else=0.65"
    assert Definition.model_validate_json(tabled.model_dump_json()).loaded().values == tabled.loaded().values
