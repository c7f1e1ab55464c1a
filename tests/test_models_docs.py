"""docs/models.md: its filter runs, and its table is one that a model can have."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from filters.external.externals import stored_columns, to_frame
from filters.models import model
from pipeline.channels.config import channel_set, read_config
from schemas.packets.reader import PacketReader
from simulator import simulate
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "models.md").read_text()


def test_the_page() -> None:
    about = tomllib.loads(blocks(PAGE, "toml")[0])
    assert about["inputs"][0] == model("stamp_real").about["inputs"][0]
    assert about["outputs"] == model("stamp_real").about["outputs"]
    assert about["inputs"][1].keys() == {*model("light_curve_class").about["inputs"][0]}
    names: dict[str, Any] = {}
    exec(blocks(PAGE, "python")[0], names)
    f = names["by_the_model"]
    packets = [alert.packet for alert in simulate(100, seed=6)]
    judged = f.judge(to_frame(PacketReader(stored_columns(f.reads)).read(packets).table, f.reads))
    assert 0 < judged.mask.sum() < 100
    assert (judged.values["real"] > 0.5).all()


def test_the_channel_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "zads.toml").write_text(blocks(PAGE, "toml")[1])
    (channel,) = channel_set(read_config(tmp_path / "zads.toml")).channels
    assert channel.filter.values["kind"] == "supernova"
