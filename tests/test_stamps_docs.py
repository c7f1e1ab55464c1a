"""docs/stamps.md: its code runs, and says what the page says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from filters.external.externals import stored_columns, to_frame
from schemas.packets.reader import PacketReader
from simulator import simulate
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "stamps.md").read_text()
FILTER, ROC = blocks(PAGE, "python")


def test_the_filter_of_the_page() -> None:
    names: dict[str, Any] = {}
    exec(FILTER, names)
    f = names["sharp_and_clean"]
    packets = [alert.packet for alert in simulate(100, seed=5)]
    frame = to_frame(PacketReader(stored_columns(f.reads)).read(packets).table, f.reads)
    left = f.funnel(frame)["alerts"].tolist()
    assert left[0] == 100
    assert 0 < left[3] < left[2]


def test_the_stamp_score_is_better_than_rb_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    exec(ROC.replace("simulate(1500", "simulate(500"), {})
    stamps, rb = map(float, re.findall(r"0\.\d+", capsys.readouterr().out))
    assert stamps > max(0.97, rb)
