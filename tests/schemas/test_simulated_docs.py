"""docs/simulated_sky.md: its commands and its Python run, and the columns that it names exist."""

import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from commands import application
from schemas.simulated.truth import TRUTH_SCHEMA
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "simulated_sky.md").read_text()


def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in blocks(PAGE, "console")[0].splitlines():
        done = CliRunner().invoke(application(), shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)
    assert Path("score.png").stat().st_size > 0
    assert pq.read_table("night/truth.parquet").num_rows == 300
    for name in ("exposures.parquet", "catalogue.parquet", "messages", "truth_objects.parquet"):
        assert Path("month", name).exists()


@pytest.mark.parametrize("code", blocks(PAGE, "python"))
def test_the_python_of_the_page(code: str) -> None:
    exec(compile(code, "docs/simulated_sky.md", "exec"), {})


def test_the_columns_exist() -> None:
    rows = [line.split("|")[1] for line in PAGE.split("## Score")[0].splitlines() if line.startswith("| `")]
    named = {name.strip(" `") for row in rows for name in row.split(",")} - {"…"}
    assert named
    assert named <= set(TRUTH_SCHEMA.names)
