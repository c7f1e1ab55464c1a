"""Lines of alerts: counted as a reading of the words counts them, and the simulated trails are found."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from filters import load
from filters.exposures.trails import most_on_a_line
from filters.external.externals import frames_of, stored_columns, to_frame
from schemas.packets.reader import PacketReader
from simulator import simulate, truth_table
from tests import rubin

places = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


def slowly(found: list[tuple[int, int]], width: float) -> list[int]:
    most = []
    for x, y in found:
        best = 1
        for u, v in found:
            length = math.dist((x, y), (u, v))
            if length > width:
                away = [abs((u - x) * (b - y) - (v - y) * (a - x)) / length for a, b in found]
                best = max(best, sum(d <= width + 1e-9 for d in away))
        most.append(best)
    return most


@given(places, st.sampled_from([0.53, 2.17, 5.51]))
def test_lines_are_counted_as_the_words_say(found: list[tuple[int, int]], width: float) -> None:
    x, y = (np.array([place[i] for place in found], float) for i in (0, 1))
    assert most_on_a_line(x, y, width).tolist() == slowly(found, width)


def test_a_place_that_is_missing_is_alone() -> None:
    x = np.array([0.0, 10, np.nan, 20, 30])
    assert most_on_a_line(x, np.zeros(5), 1.0).tolist() == [4, 4, 1, 4, 4]
    assert most_on_a_line(x[:0], x[:0], 1.0).tolist() == []


def test_the_simulated_trails_are_rejected_and_their_neighbours_kept() -> None:
    f = load("filters.exposures.trails:no_trail")
    alerts = list(simulate(3000, seed=23, stamps=False))
    reads = f.require_reads()
    frame = to_frame(PacketReader(stored_columns(reads)).read([a.packet for a in alerts]).table, reads)
    truth = truth_table(alerts).to_pandas()
    assert truth["candid"].tolist() == frame["candid"].tolist()
    trail = truth["artefact"].isin(["streak", "bleed trail"])
    group = frame["exposure"].astype(str) + truth["designation"].fillna("")
    long = trail & (group.map(group[trail].value_counts()).fillna(0) >= 5)
    kept = f.passes(frame)
    assert long.sum() > 20
    assert (~kept[long]).mean() > 0.9
    assert kept[~trail & (truth["artefact"] != "hot column")].mean() > 0.97


def test_exposures_do_not_see_each_other() -> None:
    f = load("filters.exposures.trails:no_trail")
    line = pd.DataFrame({"xpos": [0.0, 10, 20, 30, 40], "ypos": 0.0, "rb": 1.0, "exposure": [1, 1, 1, 1, 1]})
    line = line.assign(candid=range(5), objectId="ZTF18a")
    other = line.assign(exposure=[2, 2, 2, 2, 3])
    judged = f.judge(pd.concat([line, other], ignore_index=True))
    assert judged.mask.tolist() == [False] * 5 + [True] * 5
    assert judged.values["on_line"].tolist() == [4, 4, 4, 4, 1]
    assert f.using(most=4).passes(line).all()
    both = pd.concat([line, other.assign(candid=range(5, 10))], ignore_index=True)
    told = [f.explain(both, candid) for candid in range(10)]
    assert [not one["stopped"].any() for one in told] == judged.mask.tolist()
    assert [one["members"].iloc[0] for one in told] == [5] * 5 + [4] * 4 + [1]
    assert [one["exposure"].iloc[0] for one in told] == [1] * 5 + [2] * 4 + [3]
    assert f.values_of(line, 4) == {"on_line": 5.0}


def test_of_rubin_too_and_detectors_do_not_see_each_other() -> None:
    f = load("filters.exposures.trails:no_trail_rubin")
    rows = [(9, 100.0 + 300 * n, 50.0 + 30 * n, n) for n in range(5)] + [(8, 2000.0, 3000.0, 7)]
    packets = [
        rubin.alert(candid=n + 1, visit=900, detector=detector, x=x, y=y + 4.0 * (n % 2), reliability=0.9)
        for n, (detector, x, y, _) in enumerate(rows)
    ]
    reads = f.require_reads()
    judged = f.judge(frames_of(reads, "lsst").of_packets(packets))
    assert judged.mask.tolist() == [False] * 5 + [True]
    assert f.using(width=1.0).passes(frames_of(reads, "lsst").of_packets(packets)).all()
    calm = load("filters.exposures.crowded:no_crowd_rubin").using(
        usual="detector:9=1,else=100", least=1, factor=3
    )
    counted = calm.judge(frames_of(calm.require_reads(), "lsst").of_packets(packets))
    assert counted.mask.tolist() == [False] * 5 + [True]
    assert counted.values["alerts_here"].tolist() == [1.0]
