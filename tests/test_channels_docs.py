"""docs/channels.md: its commands run in their order, on a real broker and a real archive."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands import application
from pipeline.channels.config import channel_set, read_config
from pipeline.channels.registry import read_registry
from tests.archive.helpers import night, write_packets
from tests.test_docs import ROOT, blocks

CHANNELS = (ROOT / "docs" / "channels.md").read_text()


def test_the_commands_of_the_page(
    own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_packets(tmp_path / "in", [alert.packet for alert in night()])
    ingest(tmp_path / "in", tmp_path / "archive")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZADS_BOOTSTRAP_SERVERS", own_broker.bootstrap_servers)
    monkeypatch.setenv("ZADS_ARCHIVE", str(tmp_path / "archive"))
    (tmp_path / "channels.toml").write_text(blocks(CHANNELS, "toml")[-1].replace("bright", "brightest"))
    (tmp_path / "limits.toml").write_text(blocks(CHANNELS, "toml")[1])
    (tmp_path / "tables.toml").write_text(blocks(CHANNELS, "toml")[0])
    (tuned,) = channel_set(read_config(tmp_path / "tables.toml")).channels
    assert tuned.filter.values["rb_min"]["600"] == 0.8
    limits = {c.name: str(c.limits) for c in channel_set(read_config(tmp_path / "limits.toml")).channels}
    assert limits == {"supernovae": "", "new_supernovae": "once=true"}
    names: dict[str, Any] = {}
    exec(blocks(CHANNELS, "python")[0], names)
    assert names["calm"](tmp_path / "archive").values["usual"]["by"] == "rcid"
    lines = [line for block in blocks(CHANNELS, "console") for line in block.splitlines()]
    for line in [*lines, "zads channel apply channels.toml --yes"]:
        done = CliRunner().invoke(application(), shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)
    found = read_registry(own_broker.bootstrap_servers)
    assert [one.annotate for one in found.history if one.name == "deep"] == [True, False]
    states = {name: definition.state for name, definition in found.definitions.items()}
    assert states == {
        "bright": "retired",
        "faint": "draft",
        "tuned": "draft",
        "deep": "draft",
        "brightest": "enabled",
        "nuclear": "paused",
    }
