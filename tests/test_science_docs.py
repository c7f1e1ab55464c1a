"""docs/science.md: its commands in their order, as somebody types them, and its Python."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner

from cluster.kafka.broker import Broker
from commands import application
from commands.shared.options import people
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "science.md").read_text()


def run(words: list[str]) -> str:
    result = CliRunner().invoke(application(), words)
    assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}\n{result.exception!r}"
    return result.output


@pytest.fixture(scope="module")
def followed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What every command of the page said, and the folder that it left; the broker is the tests' own."""
    folder = tmp_path_factory.mktemp("science")
    told: dict[str, Any] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ZADS_HOME", str(folder / "home"))
        patch.setenv("ZADS_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
        patch.setenv("COLUMNS", "160")
        patch.setattr(people, "width", 160)  # it was made when its module was imported
        patch.delenv("ZADS_ARCHIVE", raising=False)
        for line in "".join(blocks(PAGE, "console")).splitlines():
            program, *words = shlex.split(line)
            assert program == "zads"
            if words[0] == "broker":
                continue
            if {"CANDID", "OBJECTID"} & set(words):
                told |= (named := _named(folder))
                words = [named.get(word, word) for word in words]
            told[line] = run(words)
    return told


def _named(folder: Path) -> dict[str, str]:
    """Last night's alert of something else than a supernova, and a supernova."""
    truth = pq.read_table(folder / "month" / "truth.parquet").to_pandas()
    other = truth[(truth["class"] != "SN Ia") & (truth["night"] == truth["night"].max())].iloc[0]
    return {
        "CANDID": str(other["candid"]),
        "OBJECTID": truth.loc[truth["class"] == "SN Ia", "objectId"].iloc[-1],
    }


def said(followed: dict[str, Any], begin: str) -> str:
    return next(text for line, text in followed.items() if line.startswith(begin))


def test_why_an_alert_of_last_night_is_not_in_a_channel(followed: dict[str, Any]) -> None:
    text = said(followed, "zads explain channel.young")
    assert followed["CANDID"] in text
    assert "not in channel.young: its cut" in text
    assert "from the file" in text


def test_a_votable_with_values_for_a_colleague(followed: dict[str, Any]) -> None:
    table = Table.read(followed["folder"] / "young.vot")
    assert len(table) > 0
    assert {"ra", "dec", "jd", "utc", "band", "mag", "rb", "jdstarthist", "parameters"} <= set(table.colnames)
    assert (str(table["ra"].unit), str(table["mag"].unit)) == ("deg", "mag")
    truth = pq.read_table(followed["folder"] / "month" / "truth.parquet").to_pandas().set_index("candid")
    for row in table:
        assert row["ra"] == pytest.approx(truth.loc[int(row["candid"]), "ra"], abs=1e-3)
    curve = Table.read(followed["folder"] / "curve.ecsv")
    assert np.isfinite(curve["jd"]).all()


def test_a_finder_chart_and_cutouts(followed: dict[str, Any]) -> None:
    folder = followed["folder"]
    assert (folder / "finder.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "finder.png").stat().st_size > 20_000
    assert fits.open(folder / "stamps" / f"{followed['CANDID']}_Science.fits")[0].data.shape == (63, 63)
    assert followed["OBJECTID"] in said(followed, "zads show")


def test_a_threshold_from_a_sweep_with_truth(followed: dict[str, Any]) -> None:
    text = said(followed, "zads replay pure_transient --param")
    for word in ("completeness", "purity", "rb_min", "gained", "lost", "pure_transient seeks SN Ia"):
        assert word in text
    assert (followed["folder"] / "sweep.png").stat().st_size > 10_000


def test_another_persons_channel_replays(followed: dict[str, Any]) -> None:
    theirs = Table.read(followed["folder"] / "theirs.vot")
    own = Table.read(followed["folder"] / "young.vot")
    assert set(own["candid"]) <= set(theirs["candid"]), "rb_min=0.5 passes what 0.65 does"
    assert "theirs is a draft" in said(followed, "zads channel import")


def test_the_python_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZADS_HOME", str(tmp_path / "home"))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for number, block in enumerate(blocks(PAGE, "python")):
            exec(compile(block, f"science.md block {number}", "exec"), {"__name__": "page"})
    assert "deg" in out.getvalue()
    assert len(Table.read(tmp_path / "transients.vot")) > 0
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
