"""The filters on a sky whose truth is known: what each finds, and how much of what it finds is what it seeks.

Numbers are printed (`pytest -s`); asserted is only that a filter finds some alert of the class it is for.
"""

import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from filters import registered
from filters.external.externals import stored_columns, to_frame
from filters.scoring import SEEKS
from schemas.packets.reader import PacketReader
from simulator import simulate, truth_table

ALERTS, SEED, NIGHTS = 3000, 7, 3
OF_STAMPS = {"stamp_point"}  # this sky has none: see test_stamps.py
SOUGHT = {n: classes for n, classes in SEEKS.items() if n in registered("ztf") and n not in OF_STAMPS}


@pytest.fixture(scope="module")
def sky() -> pd.DataFrame:
    """One row an alert: its object, its true class, and for each filter whether it passes."""
    reads = list(dict.fromkeys(name for f in registered("ztf").values() for name in f.require_reads()))
    alerts = list(simulate(ALERTS, seed=SEED, nights=NIGHTS, stamps=False))
    batch = PacketReader(stored_columns(reads)).read([alert.packet for alert in alerts])
    assert not batch.refused
    frame = to_frame(batch.table, reads)
    truth = truth_table(alerts).to_pandas()
    assert truth["candid"].tolist() == frame["candid"].tolist()
    masks = pd.DataFrame({name: f.passes(frame) for name, f in registered("ztf").items()})
    return truth[["objectId", "class"]].join(masks)


def test_each_filter_finds_what_it_seeks(sky: pd.DataFrame) -> None:
    table = Table(
        "filter", "passes: alerts", "objects", "purity", "class", "found", "of alerts", "completeness"
    )
    for name, classes in SOUGHT.items():
        passed = sky[sky[name]]
        sought = passed["class"].isin(classes)
        table.add_row(name, str(len(passed)), str(passed["objectId"].nunique()), f"{sought.mean():.0%}")
        for kind in classes:
            found, there = (passed["class"] == kind).sum(), (sky["class"] == kind).sum()
            table.add_row("", "", "", "", kind, str(found), str(there), f"{found / max(there, 1):.0%}")
        assert sought.any(), name
        assert passed["objectId"].nunique() > 0
    Console(width=130).print(table)


def test_what_a_filter_is_for_is_commoner_in_it_than_in_the_sky(sky: pd.DataFrame) -> None:
    for name, classes in SOUGHT.items():
        assert sky[sky[name]]["class"].isin(classes).mean() > sky["class"].isin(classes).mean(), name
