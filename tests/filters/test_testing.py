"""What authors of filters get: packets by hand, the laws tried, a file to begin with."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from commands import application
from filters import alert_filter, history, registered
from filters.errors import FilterError
from filters.features import FEATURES, rise_rate
from filters.testing import Finding, check, kept, missing_reads, packet
from schemas.errors import NoSuchColumn
from tests.filters.packets import alert, detection

ROOT = Path(__file__).resolve().parents[2]
BATCH = [alert([detection(60 * k)], rb=0.1 * k, magpsf=15.0 + k) for k in range(1, 9)]


def broken(findings: list[Finding]) -> set[str]:
    return {finding.check for finding in findings if finding.ok is False}


@pytest.mark.parametrize("name", [name for name, f in registered().items() if f.surveys == ("ztf",)])
def test_every_filter_keeps_the_laws(name: str) -> None:
    findings = check(registered()[name], BATCH)
    assert kept(findings), broken(findings)


def test_what_breaks_a_law_is_named() -> None:
    @alert_filter(reads=["magpsf"])
    def brightest(alerts: pd.DataFrame) -> dict[str, Any]:
        return {"brightest": alerts["magpsf"] == alerts["magpsf"].min()}

    @alert_filter(reads=["magpsf"])
    def every_other(alerts: pd.DataFrame) -> dict[str, Any]:
        return {"even": pd.Series([k % 2 == 0 for k in range(len(alerts))], index=alerts.index, dtype=bool)}

    calls = [0]

    @alert_filter(reads=["magpsf"])
    def fickle(alerts: pd.DataFrame) -> dict[str, Any]:
        calls[0] += 1
        return {"sometimes": alerts["magpsf"] > 100 * (calls[0] % 2)}

    @alert_filter(reads=["magpsf"])
    def undeclared(alerts: pd.DataFrame) -> dict[str, Any]:
        return {"real": alerts["rb"] > 0.5}

    @alert_filter(reads=["magpsf"])
    def never_empty(alerts: pd.DataFrame) -> dict[str, Any]:
        return {"first": alerts["magpsf"] > alerts["magpsf"].iloc[0] - 100}

    neighbours, order = "neighbours in a batch change nothing", "order changes nothing"
    assert broken(check(brightest, BATCH)) == {neighbours}
    assert broken(check(every_other, BATCH)) >= {neighbours, order}
    assert "the same answer twice" in broken(check(fickle, BATCH))
    assert "runs on these alerts" in broken(check(undeclared, BATCH))
    assert broken(check(never_empty, BATCH)) == {"nothing in, nothing out"}


def test_every_column_that_is_not_declared_is_said_at_once() -> None:
    needed = ["jd", "mag", "band", *(f"prv_candidates.{name}" for name in FEATURES["rise_rate"].rows)]

    @alert_filter(reads=["rb"])
    def fast(alerts: pd.DataFrame) -> dict[str, Any]:
        return {
            "real": alerts["rb"] > 0.5,
            "fast": rise_rate(alerts, history(alerts, "prv_candidates")) > 0,
            "near": alerts.distnr < 5,
        }

    (only,) = check(fast, BATCH)
    assert only.ok is False
    assert "suggest_reads" in only.detail
    names = missing_reads(fast, BATCH, "ztf")
    assert f"does not declare: {', '.join(names)}: write" in only.detail
    assert set(names) | {"jd", "prv_candidates.jd"} == {*needed, "distnr"}
    assert kept(check(replace(fast, declared=("rb", *names)), BATCH))


def test_a_check_in_which_nothing_passes_says_so() -> None:
    @alert_filter(reads=["magpsf"])
    def nothing(alerts: pd.DataFrame) -> dict[str, Any]:
        return {"brighter than Venus": alerts["magpsf"] < -5}

    first, *others = check(nothing, BATCH)
    assert first.ok is None
    assert "use --packets FOLDER" in first.detail
    assert others
    assert "--packets" not in check(registered()["real_bogus"], BATCH)[0].detail


def test_a_packet_by_hand() -> None:
    made = packet("ztf", rb=0.9, magpsf=17.0, history=[{"jd": 2460000.5, "magpsf": 18.0}])
    assert made["candidate"]["rb"] == 0.9
    assert made["prv_candidates"] == [{"jd": 2460000.5, "magpsf": 18.0}]
    with pytest.raises(NoSuchColumn, match="did you mean 'rb'"):
        packet("ztf", rbb=1)


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_a_new_filter_passes_its_own_test_and_the_check(survey: str, tmp_path: Path) -> None:
    arguments = ["filter", "new", "mine", "--survey", survey, "--folder", str(tmp_path)]
    assert CliRunner().invoke(application(), arguments).exit_code == 0
    again = CliRunner().invoke(application(), arguments)
    assert isinstance(again.exception, FilterError)
    assert "is there already" in str(again.exception)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = CliRunner().invoke(
        application(), ["filter", "check", str(tmp_path / "mine.py"), "--alerts", "60"]
    )
    assert checked.exit_code == 0, checked.output
    assert "µs an alert" in checked.output


def test_the_check_fails_for_a_broken_law(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from zads import alert_filter\n\n"
        "@alert_filter(reads=['magpsf'])\n"
        "def bad(alerts):\n"
        "    return {'brightest': alerts['magpsf'] == alerts['magpsf'].min()}\n"
    )
    done = CliRunner().invoke(application(), ["filter", "check", str(tmp_path / "bad.py"), "--alerts", "60"])
    assert done.exit_code == 1
    assert "broken" in done.output
