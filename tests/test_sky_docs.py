"""docs/simulated_sky.md: its commands and its Python run, and leave what the page says."""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from commands import application
from simulator.sky.kinds import KINDS
from tests.test_docs import ROOT, blocks

SKY = (ROOT / "docs" / "simulated_sky.md").read_text()


def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks(SKY, "console")).splitlines():
        done = CliRunner().invoke(application(), shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)
    assert Path("score.png").stat().st_size > 10_000
    for folder in ("night", "month", "rough"):
        truth = pq.read_table(Path(folder, "truth.parquet"))
        assert len(list(Path(folder).glob("*.avro"))) == truth.num_rows
        for name in ("truth_objects", "exposures", "catalogue"):
            assert pq.read_table(Path(folder, f"{name}.parquet")).num_rows
    assert any(Path("month", "messages").iterdir())
    assert len(list(Path("rubin").glob("*.avro"))) == pq.read_table("rubin/truth.parquet").num_rows == 300
    assert set(pq.read_table("rough/truth.parquet")["damage"].to_pylist()) > {None, "corrupt", "truncated"}
    names = set(pq.read_table("night/truth.parquet").column_names)
    said = SKY[SKY.index("`truth.parquet`") : SKY.index("`truth_objects.parquet`")].split("`")[3::2]
    assert set(said) <= names


def test_the_python_of_the_page() -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for number, block in enumerate(blocks(SKY, "python")):
            exec(compile(block, f"simulated_sky.md block {number}", "exec"), {"__name__": "page"})
    assert any(kind in said.getvalue() for kind in KINDS)
