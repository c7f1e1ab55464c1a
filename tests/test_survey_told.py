"""Where nobody names a survey, the columns or the archive tell it: Rubin's users need not say it again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.ingest import ingest
from filters import alert_filter
from filters.external.externals import stored_columns, to_frame
from filters.testing import packet
from schemas.errors import NoSuchColumn
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS, survey_having
from schemas.tabular import to_astropy
from simulator import simulate, simulate_rubin
from tests.archive.helpers import write_packets

READS = ["reliability", "psfFlux"]


@alert_filter(reads=READS)
def bright(alerts: pd.DataFrame) -> dict[str, pd.Series]:
    """Reliable and brighter than a thousand nJy."""
    return {"reliable": alerts["reliability"] > 0.5, "bright": alerts["psfFlux"] > 1000}


names = st.sampled_from(
    ["rb", "drb", "psfFlux", "reliability", "jd", "mag", "galex.sep", "prv_candidates.magpsf", "nonsense"]
)


@given(st.lists(names))
def test_the_survey_that_has_most_of_the_columns(chosen: list[str]) -> None:
    """By the names alone; ZTF where as many are of both."""
    ztf = sum(name in ("rb", "drb", "jd", "mag", "prv_candidates.magpsf") for name in chosen)
    lsst = sum(name in ("psfFlux", "reliability", "jd", "mag") for name in chosen)
    assert survey_having(chosen) == ("lsst" if lsst > ztf else "ztf")


def test_a_filter_and_what_it_reads_are_rubins_by_its_columns() -> None:
    assert bright.surveys == ("lsst",)
    below = alert_filter(reads=["band"], extends=bright)
    assert below(lambda alerts: {"g": alerts["band"] == "g"}).surveys == ("lsst",)
    assert alert_filter(reads=["jd"])(lambda alerts: {"late": alerts["jd"] > 0}).surveys == ("ztf",)
    with pytest.raises(NoSuchColumn, match="reliability"):
        alert_filter(reads=["reliabilty", "psfFlux"])(lambda alerts: {})
    packets = [one.packet for one in simulate_rubin(20, seed=1, stamps=False)]
    table = PacketReader(stored_columns(READS)).read(packets).table
    assert bright.passes(to_frame(table, READS)).any()
    assert bright.one(packet(reliability=0.9, psfFlux=2000.0))
    assert to_astropy(pd.DataFrame({"psfFlux": [1.0], "reliability": [0.5]}))["psfFlux"].unit == "nJy"


def test_an_archive_of_one_survey_is_that_surveys(tmp_path: Path) -> None:
    assert Archive(tmp_path).survey == "ztf", "nothing is there"
    packets = [one.packet for one in simulate_rubin(20, seed=1, stamps=False)]
    ingest(write_packets(tmp_path / "rubin", packets), tmp_path / "archive")
    archive = Archive(tmp_path / "archive")
    assert archive.survey == "lsst"
    assert len(archive.alerts(columns=READS).compute()) == 20
    assert len(replay(bright, archive).matches) > 0
    more = [one.packet for one in simulate(5, seed=1, stamps=False)]
    ingest(write_packets(tmp_path / "more", more), tmp_path / "archive")
    assert Archive(tmp_path / "archive").survey == "ztf", "both are there"
    assert set(SURVEYS) == {"ztf", "lsst"}
