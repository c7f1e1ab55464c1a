"""`zads simulate` writes what it says, where it says."""

from pathlib import Path

import pyarrow.parquet as pq
import typer
from typer.testing import CliRunner

from commands.simulate.command import register
from simulator import simulate


def run(*arguments: str):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_a_folder_of_packets_and_their_truth(tmp_path: Path) -> None:
    result = run("--alerts", "25", "--seed", "4", "--out", str(tmp_path / "night"))
    assert result.exit_code == 0
    assert result.stdout == "", "standard output is for pipes"
    assert "25" in result.stderr
    truth = pq.read_table(tmp_path / "night" / "truth.parquet")
    files = {int(p.stem): p.read_bytes() for p in (tmp_path / "night").glob("*.avro")}
    assert set(files) == set(truth.column("candid").to_pylist())
    assert files == {a.candid: a.packet for a in simulate(25, seed=4)}


def test_a_second_run_replaces_the_first_and_spares_other_files(tmp_path: Path) -> None:
    own = tmp_path / "mine.avro"
    own.write_bytes(b"not a simulated packet")
    assert run("--alerts", "12", "--seed", "1", "--no-stamps", "--out", str(tmp_path)).exit_code == 0
    assert run("--alerts", "5", "--seed", "2", "--no-stamps", "--out", str(tmp_path)).exit_code == 0
    assert own.exists()
    assert len(list(tmp_path.glob("*.avro"))) == 5 + 1
    assert pq.read_table(tmp_path / "truth.parquet").num_rows == 5


def test_without_a_destination_it_says_what_to_give() -> None:
    result = run("--alerts", "3")
    assert result.exit_code == 2
    assert "--out" in result.stderr
    assert "--topic" in result.stderr


def test_an_unknown_schema_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    result = run("--alerts", "3", "--schema", "9.9", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "4.01" in result.stderr
