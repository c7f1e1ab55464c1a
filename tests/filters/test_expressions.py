"""Expressions: equal to filters in Python and to a reading of the rules one alert at a time; and harmless."""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from filters import alert_filter, expression, filter_or_expression, history, load
from filters.errors import FilterError
from filters.expressions import BadExpression, is_expression
from filters.expressions.syntax import with_heads
from filters.expressions.terms import Shared
from filters.external.externals import external_names, frames_of, to_frame
from filters.testing import packet
from schemas.errors import NoSuchColumn, ZadsError
from tests.filters.oracle import there
from tests.filters.packets import NOW, PHASES, alert, detection, limit, packets
from tests.frames import table_of_packets

Packets = list[dict[str, Any]]


def frame_of(f: Any, batch: Packets) -> pd.DataFrame:
    return to_frame(table_of_packets(batch, f.require_reads()), f.require_reads())


# An oracle: expressions as nested tuples, evaluated in plain Python with None for missing.

NUMBERS = ["rb", "magpsf", "fid", "sgscore1", "distpsnr1", "jd", "ndethist", "magdiff", "ssdistnr"]
EPOCH_NUMBERS = ["prv_candidates.magpsf", "prv_candidates.fid", "prv_candidates.jd", "prv_candidates.pid"]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
CALCULATE: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
MINUS_999 = {"sgscore1", "distpsnr1", "ssdistnr"}


def numbers(names: list[str]) -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.sampled_from(names).map(lambda n: ("field", n)),
        st.sampled_from([0, 1, 2, 0.5, 0.65, 1.5, 18.5, -1, 30, NOW]).map(lambda c: ("constant", c)),
    )
    return st.recursive(
        leaves, lambda inner: st.tuples(st.sampled_from([*CALCULATE]), inner, inner), max_leaves=3
    )


def flags(names: list[str], flag_fields: list[str], more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    values = st.one_of(numbers(names), more) if more is not NOTHING else numbers(names)
    leaves = st.one_of(
        st.tuples(st.sampled_from([*COMPARE]), values, values),
        st.tuples(
            st.sampled_from(["in", "not in"]),
            st.sampled_from(names).map(lambda n: ("field", n)),
            st.lists(st.sampled_from([1, 2, 0.5, 18.5]), min_size=1, max_size=3),
        ),
        st.sampled_from(names).map(lambda n: ("missing", n)),
        st.sampled_from(flag_fields).map(lambda n: ("field", n)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)
        ),
        max_leaves=4,
    )


def has_epochs(tree: Any) -> bool:
    return "prv_candidates" in repr(tree)


NOTHING: Any = st.nothing()
EPOCH_FLAGS = flags([*EPOCH_NUMBERS, "fid", "magpsf"], ["prv_candidates.positive"], NOTHING).filter(
    has_epochs
)
AGGREGATES = st.one_of(
    st.tuples(st.just("count"), EPOCH_FLAGS),
    st.tuples(st.sampled_from(["min", "max", "count"]), numbers(EPOCH_NUMBERS).filter(has_epochs)),
)
TERMS = flags(NUMBERS, ["positive"], AGGREGATES) | st.tuples(st.sampled_from(["any", "all"]), EPOCH_FLAGS)


def text_of(tree: Any) -> str:
    head = tree[0]
    if head == "field":
        return str(tree[1])
    if head == "constant":
        return repr(tree[1])
    if head == "missing":
        return f"missing({tree[1]})"
    if head in ("in", "not in"):
        return f"({text_of(tree[1])} {head} {tuple(tree[2])!r})"
    if head == "not":
        return f"(not {text_of(tree[1])})"
    if head in ("any", "all", "count", "min", "max"):
        return f"{head}({text_of(tree[1])})"
    return f"({text_of(tree[1])} {head} {text_of(tree[2])})"


def seen(name: str, packet: Mapping[str, Any], row: Mapping[str, Any] | None) -> Any:
    """The value of a field by the definitions; None where it is missing."""
    record = packet["candidate"]
    if name.startswith("prv_candidates."):
        assert row is not None
        name, record = name.partition(".")[2], row
    if name == "positive":
        return record.get("isdiffpos") in ("t", "1")
    value = record.get(name)
    if not there(value) or (record is not row and name in MINUS_999 and value == -999):
        return None
    rewritten = name == "ssdistnr" and value == 60 and record.get("ssnamenr") in (None, "null")
    return None if rewritten else value


def past(packet: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    now = packet["candidate"]["jd"]
    return [row for row in packet["prv_candidates"] or [] if there(row["jd"]) and row["jd"] < now]


def judge(tree: Any, packet: Mapping[str, Any], row: Mapping[str, Any] | None = None) -> Any:
    head, *rest = tree
    if head == "field":
        return seen(rest[0], packet, row)
    if head == "constant":
        return rest[0]
    if head == "missing":
        return seen(rest[0], packet, row) is None
    if head == "not":
        return not judge(rest[0], packet, row)
    if head == "and":
        return judge(rest[0], packet, row) and judge(rest[1], packet, row)
    if head == "or":
        return judge(rest[0], packet, row) or judge(rest[1], packet, row)
    if head in ("in", "not in"):
        value = judge(rest[0], packet, row)
        return there(value) and (value in rest[1]) == (head == "in")
    if head in ("any", "all", "count", "min", "max"):
        values = [judge(rest[0], packet, epoch) for epoch in past(packet)]
        if head in ("any", "all"):
            return any(values) if head == "any" else all(values)
        if head == "count":
            return sum(1 for value in values if there(value) and value is not False)
        values = [float(value) for value in values if there(value)]
        return (min if head == "min" else max)(values) if values else None
    left, right = judge(rest[0], packet, row), judge(rest[1], packet, row)
    if not there(left) or not there(right):
        return None if head in CALCULATE else False
    if head in CALCULATE:
        answer = CALCULATE[head](float(left), float(right))
        return None if math.isnan(answer) else answer
    if isinstance(left, float) or isinstance(right, float):  # whole numbers are exact among themselves only
        left, right = float(left), float(right)
    return COMPARE[head](left, right)


@settings(max_examples=150, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(st.lists(TERMS, min_size=1, max_size=3), packets)
def test_equals_the_rules_read_one_alert_at_a_time(trees: list[Any], batch: Packets) -> None:
    text = " and ".join(text_of(tree) for tree in trees)
    f = expression(text)
    expected = [all(judge(tree, packet) for tree in trees) for packet in batch]
    assert f.passes(frame_of(f, batch)).tolist() == expected, text
    assert f.mask(Shared(frame_of(f, batch))).tolist() == expected, text


@alert_filter(
    reads=["rb", "nbad", "magpsf", "fid", "sgscore1", "prv_candidates.magpsf", "prv_candidates.fid"]
)
def by_hand(alerts: pd.DataFrame, *, rb_min: float = 0.65) -> dict[str, Any]:
    """What a person would write for BY_TEXT."""
    seen = history(alerts, "prv_candidates")
    return {
        "real": alerts["rb"] >= rb_min,
        "clean": alerts["nbad"] == 0,
        "bright or in g, r": (alerts["magpsf"] < 18) | alerts["fid"].isin([1, 2]),
        "no star": ~(alerts["sgscore1"] > 0.5),
        "other band": alerts["fid"] != 2,
        "seen twice": seen[seen["magpsf"] < 19].count() >= 2,
        "never in another band": (seen["fid"] == seen.alert["fid"]).all(),
    }


BY_TEXT = """rb >= {rb_min: 0.65} and nbad == 0 and (magpsf < 18 or fid in (1, 2)) and not (sgscore1 > 0.5)
    and fid != 2 and count(prv_candidates.magpsf < 19) >= 2 and all(prv_candidates.fid == fid)"""


@settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(packets, st.sampled_from([0.65, 0.75, 0.5]))
def test_equals_the_filter_in_python_cut_by_cut(batch: Packets, rb_min: float) -> None:
    hand, text = by_hand.using(rb_min=rb_min), expression(BY_TEXT).using(rb_min=rb_min)
    assert hand(frame_of(hand, batch)).to_numpy().tolist() == text(frame_of(text, batch)).to_numpy().tolist()


@settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(packets, st.lists(st.sampled_from([0.65, 0.75, 0.5, 0.9]), min_size=1, max_size=6))
def test_what_expressions_share_of_a_frame_changes_none_of_them(
    batch: Packets, thresholds: list[float]
) -> None:
    """The same terms with other parameters, one after the other on one frame."""
    texts = [BY_TEXT, "rb >= {rb_min: 0.1} and fid != 2", "any(prv_candidates.magpsf < 18 + {rb_min: 0.1})"]
    made = [expression(text).using(rb_min=one) for one in thresholds for text in texts]
    frame = frame_of(expression(BY_TEXT), batch)
    shared = Shared(frame)
    for f in made:
        assert f.is_plain
        assert f.mask(shared).tolist() == f.judge(frame).mask.tolist()


def test_not_equal_to_a_missing_value_is_false_in_alerts_and_in_histories() -> None:
    @alert_filter(reads=["fid", "sgscore1", "ssnamenr", "prv_candidates.fid"])
    def differs(alerts: pd.DataFrame) -> dict[str, Any]:
        epochs = history(alerts, "prv_candidates")
        return {
            "alert": alerts["sgscore1"] != 0.5,
            "computed": (alerts["sgscore1"] - 1) != 0.5,
            "method": alerts["sgscore1"].ne(0.5),
            "text": alerts["ssnamenr"] != "Ceres",
            "reversed": alerts["sgscore1"] != 0.5,
            "two columns": alerts["fid"] != alerts["sgscore1"],
            "epochs": (epochs["fid"] != 1).any(),
        }

    missing = alert([detection(30, fid=None)], sgscore1=-999.0, ssnamenr="null")
    assert set(differs.one(missing).cuts.values()) == {False}
    present = alert([detection(30, fid=2)], sgscore1=0.25, ssnamenr="Vesta")
    assert set(differs.one(present).cuts.values()) == {True}
    answer = expression("sgscore1 != 0.5 and any(prv_candidates.fid != 1)").one(missing)
    assert set(answer.cuts.values()) == {False}
    assert bool(expression("not (sgscore1 != 0.5)").one(missing))


def test_cuts_have_the_text_of_their_term_as_their_name() -> None:
    f = expression("rb > 0.65 and  (magpsf < 18\n or fid == 1) and rb > 0.65", name="mine")
    assert f.cut_names() == ["rb > 0.65", "magpsf < 18 or fid == 1", "rb > 0.65 (#2)"]
    assert f.name == "mine"
    table = f.explain(frame_of(f, [alert(rb=0.25)]), 2**61 + 1)
    assert table["stopped"].tolist() == [True, False, False]
    assert table["saw"].iloc[0] == {"rb": 0.25}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("first(prv_candidates.magpsf) == 19.5 and last(prv_candidates.magpsf) == 18.5", True),
        ("count(prv_candidates) == 3 and count(prv_candidates.magpsf) == 2", True),
        ("max(prv_candidates.magpsf, where=prv_candidates.fid == 2) == 19.5", True),
        ("max(prv_candidates.magpsf, where=prv_candidates.fid == 3) < 99", False),
        ("any(prv_candidates, where=prv_candidates.fid == 2)", True),
        ("(jd - min(prv_candidates.jd)) * 1440 > {gap: (80, 'min')}", True),
        ("between(mean(prv_candidates.magpsf), 18.9, 19.1)", True),
        ("all(prv_candidates.magpsf < 30)", False),
        ("all(prv_candidates.magpsf < 30 or missing(prv_candidates.magpsf))", True),
        ("objectId == 'ZTF18abcdefg' and candid == 2305843009213693953", True),
        ("candid == 2305843009213693952", False),  # the same float64
        ("abs(magdiff) < 0.1 and -1 < magdiff and sqrt(magpsf) > 3", True),
        ("positive and not (positive and fid == 2)", True),
    ],
)
def test_by_hand(text: str, passes: bool) -> None:
    rows = [detection(90, fid=2, magpsf=19.5), limit(60), detection(30, magpsf=18.5)]
    assert bool(expression(text).one(alert(rows))) is passes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rbb > 1", "did you mean 'rb'"),
        ("rb", "`rb` is a number: compare it"),
        ("rb > 'high'", "compares a number with text"),
        ("rb > 0.5 & fid == 1", "use `and`"),
        ("prv_candidates.jd > 1", "a value an epoch"),
        ("prv_candidates > 1", "is a history: name a field"),
        ("any(rb > 1)", "here is none"),
        ("count(prv_candidates.jd > fp_hists.jd) > 1", "mixes the epochs of"),
        ("any(prv_candidates.magpsf)", "any is of true or false"),
        ("rb in 1", "after `in` comes a list"),
        ("rb in (fid, 1)", "the list holds a number only"),
        ("medain(prv_candidates.magpsf) > 1", "no function `medain`"),
        ("rb >", "not an expression"),
        ("", "empty"),
        ("rb > {jd: 3}", "jd is a column"),
        ("rb > {a: 1} and fid > {a: 2}", "two defaults"),
        ("__import__('os').system('true')", "no function"),
        ("().__class__.__bases__ == 1", "is not allowed"),
        ("(lambda: rb)() > 1", "is not allowed"),
        ("rb.real > 1", "no column 'rb.real'"),
        ("open('/etc/passwd') > 1", "no function `open`"),
        ("(rb := 1) > 0", "is not allowed"),
        ("'%999999999d' % 3 == 'x'", "not a number"),
        ("(" * 60 + "rb" + ")" * 60 + " and " + "not " * 60 + "positive", "nested"),
        (" and ".join(["rb > 1"] * 300), "more than"),
        ("rb > " + "1" * 5000, "characters"),
    ],
)
def test_what_is_refused_and_how(text: str, says: str) -> None:
    with pytest.raises((BadExpression, NoSuchColumn, FilterError)) as raised:
        expression(text)
    assert says in str(raised.value)


PIECES = ["rb", "fid", "prv_candidates", ".", "magpsf", "jd", "__class__", *"()[]{}:,-%'\\#1é", "f'", "1e308"]
PIECES += [
    "and",
    "or",
    "not",
    "in",
    "if",
    "else",
    "lambda",
    "<",
    "==",
    "!=",
    "**",
    "where=",
    "import",
    "exec",
]
PIECES += ["9" * 30, "\n", " "]


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@example("pixelFlags_injected")
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join)))
def test_any_text_is_an_expression_or_is_refused_with_a_sentence(text: str) -> None:
    is_expression(text)
    try:
        f = expression(text)
    except ZadsError:
        return
    if external_names(f.require_reads()):
        return  # of catalogues that are not there
    if "ztf" in f.surveys:
        frame = frame_of(f, [alert([detection(30)]), alert()])
    else:  # such as pixelFlags_injected, which Hypothesis knows from our own code
        frame = frames_of(f.require_reads(), "lsst").of_packets([packet("lsst"), packet("lsst")])
    assert len(f.passes(frame)) == 2


def test_huge_powers_cost_nothing() -> None:
    assert not expression("9**9**9**9 < rb").one(alert())
    assert expression("2**1023 * 2 > rb").one(alert())


def test_load_takes_an_expression_where_it_takes_a_name(tmp_path: Path) -> None:
    assert load("rb > 0.65").cut_names() == ["rb > 0.65"]
    assert load("positive and rb > 0.65").reads is not None
    for name in ("real_bogus", "my_filters.py:mine", "a.b:c", "~/x/y.py:f"):
        assert not is_expression(name)
    flag = filter_or_expression("", "positive")
    assert load(flag).cut_names() == ["positive"]


def test_the_version_is_that_of_the_text() -> None:
    assert expression("rb > 0.65").version == expression("rb  >  0.65 ").version
    assert expression("rb > 0.65").version != expression("rb > 0.66").version


@pytest.mark.parametrize(
    ("text", "surveys"),
    [
        ("rb > 0.65", {"ztf"}),
        ("reliability > 0.5 and flux > 0", {"lsst"}),
        ("mag < 19 and positive", {"ztf", "lsst"}),
        ("count(prv_candidates.magpsf < 19) >= 2", {"ztf"}),
        ("diaObject.nDiaSources <= 3", {"lsst"}),
        ("rise_rate() > 0.1 and rb > 0", {"ztf"}),
        ("rise_rate() > 0.1 and reliability > 0", {"lsst"}),
        ("galex.sep < 2", {"ztf", "lsst"}),
    ],
)
def test_an_expression_is_for_the_surveys_that_have_its_columns(text: str, surveys: set[str]) -> None:
    made = expression(text)
    assert set(made.surveys) == surveys
    assert pickle.loads(pickle.dumps(made)).surveys == made.surveys


def test_an_expression_for_both_surveys_judges_both() -> None:
    bright = expression("mag < 18 and positive")
    assert bright.one(packet("ztf", magpsf=17.0, isdiffpos="t"))
    assert not bright.one(packet("ztf", magpsf=18.5, isdiffpos="t"))
    assert bright.one(packet("lsst", psfFlux=10 ** (13.5 / 2.5), isNegative=False))  # 31.4 - 2.5 log10(nJy)
    assert not bright.one(packet("lsst", psfFlux=10 ** (13.3 / 2.5), isNegative=False))


def test_what_no_survey_has_is_told_of_the_survey_that_is_meant() -> None:
    with pytest.raises(NoSuchColumn, match="reliability"):
        expression("relability > 0.5 and flux > 0")
    with pytest.raises(NoSuchColumn, match="'magpsf'"):
        expression("magpf < 19 and nbad == 0")
    with pytest.raises(BadExpression, match="for lsst and ztf"):
        expression("rise_rate() > 0.1")


def test_explain_shows_what_was_computed_and_the_parameters_in_force() -> None:
    past = [{"jd": NOW - 3.0, "magpsf": 18.5}, {"jd": NOW - 1.0, "magpsf": 18.0}]
    one = packet("ztf", jd=NOW, rb=0.9, magpsf=17.0, history=past)
    text = "rb > {rb_min: 0.65} and abs(magpsf - 18) < 2 and count(prv_candidates.magpsf < 18.2) >= 2"
    f = expression(text).using(rb_min=0.95)
    cuts = f.explain(frame_of(f, [one]), one["candid"])
    saw = [
        {name: value for name, value in row.items() if name not in f.require_reads()} for row in cuts["saw"]
    ]
    assert saw == [
        {"rb_min": 0.95},
        {"magpsf - 18": -1.0, "abs(magpsf - 18)": 1.0},
        {"count(prv_candidates.magpsf < 18.2)": 1.0},
    ]


def test_the_values_of_an_alert_that_does_not_pass() -> None:
    @alert_filter(reads=["rb", "magpsf"], gives={"brightness": "mag", "later": ""})
    def gives(alerts: pd.DataFrame) -> Any:
        """Some values."""
        values = {"brightness": 20 - alerts["magpsf"], "later": lambda passing: passing["rb"] * 2}
        return {"real": alerts["rb"] > 0.5}, values

    for rb, told in ((0.75, {"brightness": 3.0, "later": 1.5}), (0.25, {"brightness": 3.0})):
        assert gives.values_of(frame_of(gives, [packet("ztf", rb=rb, magpsf=17.0)])) == told


VALUES = """rb > {least: 0.65} ; excess = (magnr - magpsf, "mag"); score = rb; m = magpsf; near = ssnamenr;
    up = positive; rows = count(prv_candidates); over = rb - least"""


def test_values_of_an_expression_travel_with_those_that_pass() -> None:
    f = expression(VALUES)
    units = {"excess": "mag", "score": "", "m": "mag", "near": "text", "up": "", "rows": "", "over": ""}
    assert f.gives == units
    some = [
        alert([detection(3)], rb=0.75, magnr=19.0, magpsf=17.5, ssnamenr="Vesta"),
        alert(rb=0.5),
        alert(rb=None),
    ]
    judged = f.using(least=0.5).judge(frame_of(f, some))
    assert judged.mask.tolist() == [True, False, False]
    told = {"excess": 1.5, "score": 0.75, "m": 17.5, "near": "Vesta", "up": 1.0, "rows": 1.0, "over": 0.25}
    assert judged.values.to_dict("records") == [told]
    assert pickle.loads(pickle.dumps(f)).version == f.version != expression(VALUES + "; a = 1").version
    assert expression("rb > 0; a = galex.sep").reads == ("rb", "galex.sep")
    assert set(expression("mag < 19; m = mag").surveys) == {"ztf", "lsst"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = rb; rb > 0.65", "begins with a condition"),
        ("rb > 0.65; 3", "score = rb"),
        ("rb > 0.65; import os", "score = rb"),
        ("rb > 0.65; a.b = 3", "score = rb"),
        ("rb > 0.65; a = b = rb", "score = rb"),
        ("rb > 0.65; a = rb; a = magpsf", "twice"),
        ("rb > 0.65; a = (rb, 3)", "unit"),
        ("rb > 0.65; a = prv_candidates.magpsf", "value an epoch"),
        ("rb > 0.65; a = [x for x in rb]", "not allowed"),
        ("rb > 0.65; a = open('x')", "no function"),
    ],
)
def test_what_is_no_value(text: str, says: str) -> None:
    with pytest.raises(BadExpression, match=says):
        expression(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("near.sep < 2 and rb > 0.5", "ann__near.sep < 2 and rb > 0.5"),
        ("near.match and  not near.a.b", "ann__near.match and not ann__near.a.b"),
        ("rb > 0.5; x = (near.sep, 'arcsec')", "rb > 0.5; x = (ann__near.sep, 'arcsec')"),
        ("x.near > 1 and near > 2 and nearer.sep < 1", "x.near > 1 and near > 2 and nearer.sep < 1"),
        ("name == 'near.sep < é' and near.match", "name == 'near.sep < é' and ann__near.match"),
        ("any(prv_candidates.magpsf < near.mag)", "any(prv_candidates.magpsf < ann__near.mag)"),
    ],
)
def test_what_stands_before_a_dot_is_called_otherwise(text: str, told: str) -> None:
    assert with_heads(text, {"near": "ann__near"}) == told
    assert with_heads(told, {}) == told


def test_a_text_that_is_none_is_refused_before_it_is_changed() -> None:
    with pytest.raises(BadExpression, match="not an expression"):
        with_heads("near.sep <", {"near": "ann__near"})
