"""docs/external.md: its commands run, its filter is a filter, its channels can be loaded."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest
from astropy.table import Table
from typer.testing import CliRunner

from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands import application
from filters import Filter
from pipeline.channels.config import ChannelConfig, configured_channel
from simulator import Month, simulate
from simulator.sky.messages import messages_of
from tests.archive.helpers import write_packets
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "external.md").read_text()


def notice() -> bytes:
    """The first notice of a simulated merger."""
    month = Month(nights=6, density=0.05, seed=3, fields=2, quadrants=2, merging=True, stamps=False)
    merger = month.merger(month.survey())
    assert merger is not None
    texts = messages_of(merger, month.seed)
    return next(text for name, text in texts.items() if name.endswith("1-preliminary.json"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: Broker) -> Path:
    monkeypatch.chdir(tmp_path)
    packets = [alert.packet for alert in simulate(40, 5, stamps=False)]
    ingest(write_packets(tmp_path / "in", packets), tmp_path / "archive")
    monkeypatch.setenv("ZADS_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("ZADS_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setenv("ZADS_EXTERNAL", str(tmp_path / "external"))
    (tmp_path / "sources.csv").write_text("ra,dec,nuv_mag\n10.0,5.0,19.5\n10.1,5.0,-999\n")
    targets = "name,ra,dec,radius\nM31,10.68,41.27,3\nM33,23.46,30.66,60\nA,10.0,5.0,3\n"
    (tmp_path / "targets.csv").write_text(targets)
    (tmp_path / "followed.csv").write_text("objectId,why\nZTF18a,bright\n")
    (tmp_path / "notice.json").write_bytes(notice())
    return tmp_path


def test_the_commands_and_what_they_make(folder: Path) -> None:
    shown = {}
    for block in blocks(PAGE, "console"):
        for line in block.splitlines():
            done = CliRunner().invoke(application(), shlex.split(line)[1:])
            assert done.exit_code == 0, (line, done.output, done.exception)
            shown[line] = done.output
    assert "galex.nuv_mag" in shown["zads catalogue show galex"]
    assert "targets.name" in shown["zads watchlist show targets"]
    assert (folder / "seen.csv").read_text().startswith("candid,")
    near = Table.read(folder / "near.vot")
    assert {"galex.match", "galex.sep", "galex.nuv_mag"} <= set(near.colnames)
    assert (str(near["galex.sep"].unit), str(near["galex.nuv_mag"].unit)) == ("arcsec", "mag")
    assert "bulge" in shown["zads region list"]
    assert "90 %" in shown["zads skymaps list"]
    names: dict[str, Filter] = {}
    for block in blocks(PAGE, "python"):
        exec(block, names)
    (folder / "my_filters.py").write_text(blocks(PAGE, "python")[0])
    for name, table in tomllib.loads(blocks(PAGE, "toml")[0])["channels"].items():
        channel = configured_channel(name, ChannelConfig.model_validate(table))
        assert channel.external_reads
        assert channel.filter.cut_names()
    assert names["ultraviolet"].gives == {"colour": "mag", "how": "text"}
