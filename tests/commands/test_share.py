"""A channel as a file: exported, replayed, imported, explained by somebody else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from archive.read.archive import Archive
from archive.replay.estimate import estimate
from archive.replay.replay import replay
from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands import application
from commands.shared.exported import export_of, read_export
from filters import load
from filters.external.add import add_region
from pipeline.channels.definition import Definition, by_value
from pipeline.channels.registry import read_registry
from schemas.errors import ZadsError
from tests.archive.helpers import night, write_packets

MINE = """from zads import alert_filter
LEAST = 0.3

@alert_filter(survey="ztf", reads=["rb", "magpsf"])
def mine(alerts, *, faint: float = 20.0):
    return {"real": alerts["rb"] > LEAST, "bright": alerts["magpsf"] < faint}
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("share")
    ingest(write_packets(folder / "in", [alert.packet for alert in night()]), folder / "archive")
    return folder / "archive"


def zads(*words: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(application(), list(words), env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result


def test_from_one_person_to_another(
    broker: Broker, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    there = ["--bootstrap", broker.bootstrap_servers]
    zads("channel", "create", "sharer", "faint=19.5", "--filter", "mine.py:mine", *there)
    zads("channel", "export", "sharer", "--out", "sharer.json", *there)
    (tmp_path / "mine.py").unlink()
    told = json.loads((tmp_path / "sharer.json").read_text())
    assert told["channel"]["source"] == MINE
    assert told["channel"]["parameters"] == {"faint": 19.5}
    assert (told["version"], told["external"]) == (read_export(tmp_path / "sharer.json").filter().version, {})

    zads("replay", "sharer.json", "--archive", str(archive), "--out", "theirs.parquet")
    (tmp_path / "again.py").write_text(MINE)
    own = replay(load("again.py:mine").using(faint=19.5), archive)
    theirs = pq.read_table("theirs.parquet").to_pandas()
    assert theirs["candid"].tolist() == own.matches["candid"].tolist()
    assert set(theirs["version"]) == {told["version"]} == {own.filters[0].version}
    candid = str(theirs["candid"][0])
    assert "passes" in zads("explain", "sharer.json", candid, "--archive", str(archive)).stdout
    assert "faint" in zads("filters", "sharer.json").stdout

    said = zads("channel", "import", "sharer.json", "--name", "mine-now", *there).stderr
    assert "is a draft" in said
    assert "version" not in said, "the code is the same here"
    kept = read_registry(broker.bootstrap_servers)["mine-now"]
    assert (kept.state, kept.source, kept.parameters) == ("draft", MINE, {"faint": 19.5})
    with pytest.raises(ZadsError, match="there is a channel sharer already"):
        zads("channel", "import", "sharer.json", *there)


def test_other_code_here_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    made = export_of(Definition(name="c", **by_value(f"{tmp_path / 'mine.py'}:mine")).with_changes())
    assert made.differences() == []
    changed = made.model_copy(update={"version": "0" * 12, "external": {"galex": "abc"}})
    first, second = changed.differences()
    assert "was 000000000000 there" in first
    assert "galex in version abc; here that is not there" in second


@pytest.mark.parametrize("content", [b"", b"{}", b"no json", b'{"format": "other"}'])
def test_what_is_no_export(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ZadsError, match="is no exported channel"):
        read_export(tmp_path / "x.json")


def test_an_estimate_before_a_long_replay(archive: Path) -> None:
    reader = Archive(archive)
    told = estimate(["real_bogus", "pure"], reader, parameters={"rb_min": [0.5, 0.6]})
    found = replay(["real_bogus", "pure"], reader, parameters={"rb_min": [0.5, 0.6]})
    assert told.rows == found.alerts
    assert told.filters == len(found.filters) == 4
    assert told.nights == len(found.sums)
    assert told.seconds > 0
    assert (
        told.bytes
        == reader.cost(None, list({n for f in found.filters for n in f.reads or ()}), public=True).bytes
    )
    said = zads("replay", "real_bogus", "--dry-run", "--archive", str(archive)).stderr
    assert "to read" in said
    assert "gained" not in said


def test_what_it_reads_may_come_later(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel that reads a region that is not here yet is a draft all the same, which cannot be enabled."""
    there = ["--bootstrap", broker.bootstrap_servers]
    monkeypatch.setenv("ZADS_EXTERNAL", str(tmp_path / "hers"))
    add_region("spot", "cone 10 20 1")
    file = tmp_path / "spotted.json"
    zads("channel", "create", "spotted", "--where", "spot.inside and rb > 0.9", "--owner", "nova", *there)
    zads("channel", "export", "spotted", "--out", str(file), *there)
    monkeypatch.setenv("ZADS_EXTERNAL", str(tmp_path / "his"))
    said = zads("channel", "import", str(file), "--name", "spotted-too", *there).stderr.replace("\n", " ")
    assert "here that is not there" in said
    assert "a draft, of nova" in said
    assert read_registry(broker.bootstrap_servers)["spotted-too"].state == "draft"
    with pytest.raises(ZadsError, match="no catalogue, region or sky map 'spot'"):
        zads("channel", "enable", "spotted-too", *there)
