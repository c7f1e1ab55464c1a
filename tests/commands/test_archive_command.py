"""`zads archive` as an operator calls it, from the first packet to the removal of old files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from commands.archive import command
from schemas.errors import ZadsError
from tests.archive.helpers import as_words, night, packets_in, records_in, write_packets, write_tarball


def run(archive: Path, *arguments: str, expect: int = 0) -> Result:
    """`zads archive` in this process."""
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, ["archive", *arguments, "--archive", str(archive)])
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def test_a_life_of_an_archive(tmp_path: Path) -> None:
    packets = [alert.packet for alert in night()]
    archive = tmp_path / "archive"
    bad = write_packets(tmp_path / "bad", [b"hello", packets[0][:-100]])
    for half in (packets[::2], packets[1::2]):
        tarball = write_tarball(tmp_path / "night.tar.gz", half)
        run(archive, "ingest", str(tarball), str(bad))
    again = run(archive, "ingest", str(tarball), str(bad))
    assert "kept 0 alerts" in again.stderr
    assert f"skipped {len(half)} packets" in again.stderr

    told = json.loads(run(archive, "info", "--json").stdout)
    assert told["rows"] == len(packets)
    assert told["quarantined"] == {"not-avro": 1, "truncated": 1}
    assert f"{len(packets)} alerts" in run(archive, "check").stderr

    files = len(list((archive / "ztf").rglob("*.parquet")))
    run(archive, "optimize")
    assert "nothing to do" in run(archive, "optimize").stderr
    removed = run(archive, "vacuum", "--hours", "0", "--force").stdout.split()
    assert len(removed) == files
    assert as_words(packets_in(archive)) == as_words(p for raw in packets for p in records_in(raw))


def test_the_quarantine_is_shown_and_given_back(tmp_path: Path) -> None:
    bad = [b"hello", night()[0].packet[:-100]]
    run(tmp_path / "archive", "ingest", str(write_packets(tmp_path / "bad", bad)))
    result = run(tmp_path / "archive", "quarantine", "--json", "--save", str(tmp_path / "saved"))
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["reason"] for one in told] == ["not-avro", "truncated"]
    assert [one["source"] for one in told] == [str(tmp_path / "bad" / f"00000{n}.avro") for n in range(2)]
    assert [(tmp_path / "saved" / f"{one['number']}.avro").read_bytes() for one in told] == bad
    people = run(tmp_path / "archive", "quarantine")
    assert people.stdout == ""
    assert "truncated" in people.stderr


@pytest.mark.parametrize("what", ["info", "quarantine", "check", "optimize", "vacuum"])
def test_where_there_is_no_archive(tmp_path: Path, what: str) -> None:
    error = run(tmp_path / "none", what, expect=1).exception
    assert isinstance(error, ZadsError)
    assert "no archive" in str(error)
    assert not (tmp_path / "none").exists()


def test_old_files_are_removed_early_by_force_only(tmp_path: Path) -> None:
    run(tmp_path / "archive", "ingest", str(write_packets(tmp_path / "in", [night()[0].packet])))
    error = run(tmp_path / "archive", "vacuum", "--hours", "1", expect=1).exception
    assert "--force" in str(getattr(error, "hint", ""))
