"""The gate: a backtest's numbers beside the packets themselves, and what it refuses."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.replay.backtest import Limits, NothingToTry, backtest, most_within
from archive.tables.store import NoSuchArchive
from archive.write.ingest import ingest
from filters import alert_filter, load
from tests.archive.helpers import night, records_in, write_packets


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backtest")
    write_packets(folder / "in", [alert.packet for alert in night()])
    ingest(folder / "in", folder / "archive")
    return folder / "archive"


def public_candidates() -> list[dict]:
    found = [record["candidate"] for alert in night() for record in records_in(alert.packet)]
    return [one for one in found if one["programid"] == 1]


def test_its_numbers_are_those_of_the_packets(archive: Path) -> None:
    found = backtest(load("real_bogus").using(rb_min=0.9), archive, last=2)
    good = [one for one in public_candidates() if one["rb"] is not None and one["rb"] >= 0.9]
    report = found.report()
    assert sum(row["alerts"] for row in report["nights"]) == len(good) > 10
    assert sum(row["of"] for row in report["nights"]) == len(public_candidates())
    times = sorted(one["jd"] for one in good)
    assert report["alerts_per_hour"] == max(sum(a <= b < a + 1 / 24 for b in times) for a in times)
    assert {one["candid"] for one in report["examples"]} <= {one["candid"] for one in _with_candid(good)}


def _with_candid(candidates: list[dict]) -> list[dict]:
    wanted = {one["jd"] for one in candidates}
    records = [record for alert in night() for record in records_in(alert.packet)]
    return [{"candid": r["candid"]} for r in records if r["candidate"]["jd"] in wanted]


def test_only_the_last_nights(archive: Path) -> None:
    last = backtest(load("real_bogus"), archive, last=1).report()["nights"]
    both = backtest(load("real_bogus"), archive, last=9).report()["nights"]
    assert len(last) == 1
    assert len(both) == 2
    assert last == both[1:]


def test_a_flood_is_refused_and_a_trickle_is_not(archive: Path) -> None:
    flood = backtest(load("real_bogus").using(rb_min=0.0), archive)
    assert any("floods" in problem and "may" in problem for problem in flood.problems(Limits()))
    assert any("in an hour" in problem for problem in flood.problems(Limits(share=1, alerts_per_hour=5)))
    trickle = backtest(load("young_supernova"), archive)
    assert trickle.problems(Limits()) == []


def test_one_that_raises_is_refused(archive: Path) -> None:
    @alert_filter(survey="ztf", reads=["rb"])
    def broken(alerts):
        if (alerts["rb"] > 0.9).any():
            raise ValueError("too good")
        return {"never": alerts["rb"] > 2}

    problems = backtest(broken, archive).problems(Limits())
    assert any("raises" in problem and "too good" in problem for problem in problems)


def test_a_slow_one_is_refused(archive: Path) -> None:
    @alert_filter(survey="ztf", reads=["rb"])
    def waits(alerts):
        time.sleep(0.01 * len(alerts))  # a question to a server far away, say
        return {"never": alerts["rb"] > 2}

    found = backtest(waits, archive)
    (problem,) = found.problems(Limits())
    assert problem.startswith("slow: ")
    assert found.microseconds >= 10_000
    assert found.problems(Limits(microseconds=1e9)) == []


def test_an_archive_with_nothing_to_try(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchArchive):
        backtest(load("real_bogus"), tmp_path / "none")
    with pytest.raises(NothingToTry, match="1999-01-01"):
        backtest(load("real_bogus"), archive, "1999-01-01")


@given(st.lists(st.floats(0, 10), max_size=30), st.floats(0.01, 5))
def test_the_most_within_a_span(moments: list[float], span: float) -> None:
    slowly = [sum(a <= b < a + span for b in moments) for a in moments]
    assert most_within(np.array(moments), span) == max(slowly, default=0)
