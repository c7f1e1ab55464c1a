"""Scores against counting by hand; and the command on a simulated sky."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cluster.kafka.broker import Broker
from commands.score.command import register
from filters import load, registered
from filters.errors import FilterError
from filters.scoring import SEEKS, Answer, ask, roc, roc_area, score
from pipeline.clients.publish import publish_packets
from simulator import damaged, simulate, write_truth

CLASSES = ("SN Ia", "SN II", "AGN", "bogus")


def truth_of(rows: list[tuple]) -> pd.DataFrame:
    columns = ["candid", "objectId", "class", "jd", "t0", "true_mag", "programid", "damage"]
    return pd.DataFrame(rows, columns=columns)


@st.composite
def skies(draw: st.DrawFn) -> tuple[pd.DataFrame, set[int]]:
    """A truth table, and candids that passed (some of which are not in it)."""
    rows = []
    for candid in range(draw(st.integers(1, 40))):
        number = draw(st.integers(0, 9))
        kind = CLASSES[number % 4]
        began = 100.0 + number if kind.startswith("SN") else None
        jd = 103.0 + number + draw(st.integers(0, 20))
        damage = draw(st.sampled_from([None, None, None, "corrupt", "repeated"]))
        rows.append((candid, f"o{number}", kind, jd, began, 15 + number / 2, 1, damage))
        if damage == "repeated":
            rows.append(rows[-1])
    passed = draw(st.sets(st.integers(0, 45)))
    return truth_of(rows), passed


@settings(deadline=None)
@given(skies())
def test_every_number_by_hand(sky: tuple[pd.DataFrame, set[int]]) -> None:
    truth, passed = sky
    result = score(
        "mine", truth, passed, ["SN Ia", "SN II"] if {"SN Ia", "SN II"} <= set(truth["class"]) else []
    )
    seeks = set(result.seeks)
    once = {row["candid"]: row for row in truth.to_dict("records") if row["damage"] != "corrupt"}
    good = [r for c, r in once.items() if c in passed and r["class"] in seeks]
    sought = [r for r in once.values() if r["class"] in seeks]
    all_passed = [r for c, r in once.items() if c in passed]
    if sought:
        assert result.completeness == pytest.approx(len(good) / len(sought))
    if all_passed:
        assert result.purity == pytest.approx(len(good) / len(all_passed))
    table = result.confusion()
    assert table.loc["sought", "passes"] == len(good)
    assert table.loc["other", "passes"] == len(all_passed) - len(good)
    assert table.to_numpy().sum() == len(once)
    by_class = result.by_class().set_index("class")
    for kind in by_class.index:
        own = [r for r in once.values() if r["class"] == kind]
        assert by_class.loc[kind, "alerts"] == len(own)
        assert by_class.loc[kind, "objects"] == len({r["objectId"] for r in own})
        assert by_class.loc[kind, "found"] == len({r["objectId"] for r in own if r["candid"] in passed})
    magnitudes = result.by_magnitude()
    assert magnitudes["alerts"].sum() == len(sought)
    assert magnitudes["passed"].sum() == len(good)
    for row in result.delays().to_dict("records"):
        own = [r for r in sought if r["objectId"] == row["objectId"]]
        first = min(r["jd"] for r in own if r["candid"] in passed)
        assert row["after_first"] == first - min(r["jd"] for r in own)
        assert row["after_begin"] == first - own[0]["t0"]
    assert json.loads(json.dumps(result.summary()))["alerts"] == len(once)


def test_alerts_that_it_was_not_asked_about_do_not_count() -> None:
    truth = truth_of([(c, f"o{c}", "SN Ia", 1.0, 0.0, 18.0, 1, None) for c in range(10)])
    result = score("mine", truth, Answer(frozenset(range(4)), frozenset({1})), ["SN Ia"])
    assert result.completeness == 0.25


def test_who_seeks_nothing_is_asked() -> None:
    truth = truth_of([(1, "o", "SN Ia", 1.0, 0.0, 18.0, 1, None)])
    with pytest.raises(FilterError, match="--seeks"):
        score("mine", truth, set())
    with pytest.raises(FilterError, match="SN Ia"):
        score("mine", truth, set(), ["SN 1a"])


def test_every_registered_filter_has_a_purpose() -> None:
    assert set(SEEKS) >= set(registered("ztf"))


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packets, a tenth of them damaged, and its truth."""
    folder = tmp_path_factory.mktemp("sky")
    alerts = list(damaged(simulate(1500, seed=5, stamps=False), 0.1, 5))
    for n, alert in enumerate(alerts):
        (folder / f"{n:05d}.avro").write_bytes(alert.packet)
    write_truth(alerts, folder / "truth.parquet")
    return folder


def test_what_a_filter_says_is_what_it_says_alert_by_alert(sky: Path) -> None:
    chosen = load("solar_system")
    packets = [p.read_bytes() for p in sorted(sky.glob("*.avro"))]
    answer = ask(chosen, packets)
    truth = pq.read_table(sky / "truth.parquet").to_pandas()
    readable = truth[~truth["damage"].isin(["corrupt", "truncated"])]
    assert answer.asked == set(readable["candid"])
    assert answer.passed == set(readable.loc[readable["class"] == "asteroid", "candid"])
    result = score("solar_system", truth, answer)
    assert result.completeness == result.purity == 1
    public = ask(chosen, packets, public=True)
    assert public.asked == set(readable.loc[readable["programid"] == 1, "candid"])


def run(*arguments: str):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["score", *arguments])


def test_the_command_tells_and_draws(sky: Path, tmp_path: Path) -> None:
    picture = tmp_path / "score.png"
    # The runner's terminal has 80 columns.
    result = run("pure_transient", "--truth", str(sky / "truth.parquet"), "--plot", str(picture))
    assert "…" not in result.stdout, "whole at 80 columns"
    assert result.exit_code == 0, result.output
    for word in ("completeness", "purity", "SN Ia", "confusion"):
        assert word in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_scores_what_a_replay_found(sky: Path, tmp_path: Path) -> None:
    truth = pq.read_table(sky / "truth.parquet").to_pandas()
    found = truth[truth["class"] == "AGN"][["candid"]].assign(filter="nuclear")
    others = truth[truth["class"] == "bogus"][["candid"]].assign(filter="pure")
    pd.concat([found, others]).to_parquet(tmp_path / "matches.parquet")
    result = run(
        "nuclear",
        "--truth",
        str(sky / "truth.parquet"),
        "--matches",
        str(tmp_path / "matches.parquet"),
        "--json",
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["purity"] == 1
    agn = next(row for row in said["by_class"] if row["class"] == "AGN")
    assert agn["completeness"] == 1


def test_a_threshold_changes_the_score(sky: Path) -> None:
    def completeness(value: str) -> float:
        said = run(
            "real_bogus", "--truth", str(sky / "truth.parquet"), "--param", f"rb_min={value}", "--json"
        )
        return json.loads(said.stdout)["completeness"]

    assert completeness("0.9") < completeness("0.65") < completeness("0.1")


def test_the_command_scores_what_a_channel_delivered(sky: Path, broker: Broker) -> None:
    truth = pq.read_table(sky / "truth.parquet").to_pandas()
    files = sorted(sky.glob("*.avro"))
    lost = truth["damage"].isin(["corrupt", "truncated"])
    sent = [
        p.read_bytes() for p, k, d in zip(files, truth["class"], lost, strict=True) if k == "TDE" and not d
    ]
    publish_packets(sent, broker.bootstrap_servers, topic="channel.scored")
    where = ("--topic", "channel.scored", "--bootstrap", broker.bootstrap_servers)
    result = run("nuclear", "--truth", str(sky / "truth.parquet"), *where, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["purity"] == 1
    classes = {row["class"]: row["completeness"] for row in said["by_class"]}
    assert classes["TDE"] == 1
    assert classes["AGN"] == 0


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, float("nan")]), st.booleans()), max_size=30))
def test_the_area_below_a_roc_is_the_chance_that_a_pair_is_in_order(found: list[tuple[float, bool]]) -> None:
    ours = [-1.0 if s != s else s for s, sought in found if sought]
    others = [-1.0 if s != s else s for s, sought in found if not sought]
    scores, sought = np.array([s for s, _ in found]), np.array([s for _, s in found], bool)
    wrong, right = roc(scores, sought)
    assert (np.diff(wrong) >= 0).all()
    assert (np.diff(right) >= 0).all()
    if ours and others:
        pairs = [(a > b) + 0.5 * (a == b) for a in ours for b in others]
        assert roc_area(scores, sought) == pytest.approx(sum(pairs) / len(pairs))
