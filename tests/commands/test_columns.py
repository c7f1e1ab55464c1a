"""`zads columns` and the page that it makes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from commands import application
from commands.columns import whole_page
from filters import history
from filters.external.add import add_region
from schemas.dictionary import dictionary, matching, near_words
from schemas.frame import FrameMaker
from schemas.packets.packet import read_packet
from schemas.surveys.registry import SURVEYS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "columns.md"


def run(*words: str, expect: int = 0) -> str:
    result = CliRunner().invoke(application(), ["columns", *words], env={"COLUMNS": "250"})
    assert result.exit_code == expect, result.output
    return result.output


def test_the_page_is_as_it_is_made() -> None:
    assert PAGE.read_text() == whole_page(), "make it anew: zads columns --page docs/columns.md"


def test_external_columns_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZADS_EXTERNAL", str(tmp_path))
    assert "galactic latitude" in run("gal_lat")
    run("spot", expect=1)
    add_region("spot", "cone 10 20 1")
    (spot,) = json.loads(run("spot", "--json"))
    assert (spot["name"], spot["kind"], spot["missing"]) == ("spot.inside", "true or false", "false")
    assert "whether the alert lies in the region" in run("spot")


@pytest.mark.parametrize("survey", SURVEYS)
def test_every_column_can_be_read_and_has_a_meaning(survey: str) -> None:
    words = dictionary(survey)
    assert [word.name for word in words] == SURVEYS[survey].names()
    assert not [word.name for word in words if not word.meaning or not word.missing]
    nothing = FrameMaker([word.name for word in words], survey).of_packets([])
    for word in words:
        kind = str(nothing[word.name].dtype)
        if not word.history and word.kind == "true or false":
            assert kind == "bool", word.name
        if not word.history and word.kind == "text":
            assert kind in ("str", "string", "object"), word.name


def test_what_the_page_says_of_histories_runs(real_alerts: Path) -> None:
    packet = read_packet(real_alerts / "ztf_4.01" / "2475433850015010009.avro")
    reads = ["jd", "prv_candidates.jd", "prv_candidates.magpsf", "prv_candidates.exposure"]
    past = history(FrameMaker(reads, "ztf").of_packets(packet), "prv_candidates")
    table = whole_page().partition("What histories can be asked")[2]
    found = re.findall(r"`(past[^`]+|\.\w+\(\))`", table)
    expressions = [text for text in found if " = " not in text]
    assert len(expressions) >= 12
    column = ""
    for text in expressions:
        column = text.rpartition(".")[0] if text.startswith("past") else column
        value = eval(text if text.startswith("past") else column + text, {"past": past})
        assert isinstance(value, pd.Series | pd.DataFrame) or len(value) >= 0


def test_a_pattern_finds_names_first() -> None:
    assert matching("^night$", "ztf")[0].name == "night"
    assert {word.survey for word in matching("^night$")} == set(SURVEYS)
    said = run("sgscore", "--survey", "ztf")
    assert "sgscore1" in said
    assert "-999" in said
    told = json.loads(run("^magpsf$", "--json"))
    assert next((one["name"], one["unit"]) for one in told) == ("magpsf", "mag")
    assert "did you mean" in run("magpfs", expect=1)
    assert "magpsf" in near_words("mag")
