"""Filters on decoded batches of simulated alerts, beside the same rules written another way.

    python -m benchmarks.filters [--alerts 20000] [--runs 7]

An expression beside the same filter in Python, interleaved in one run; the ratio is of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import pandas as pd

from filters import alert_filter, expression, history
from filters.external.externals import stored_columns, to_frame
from schemas.packets.reader import PacketReader
from simulator import simulate

BATCH = 1000
TEXT = """rb >= 0.65 and nbad == 0 and (magpsf < 18 or fid in (1, 2)) and not (sgscore1 > 0.5) and positive
    and count(prv_candidates.magpsf < 19) >= 2 and jd - min(prv_candidates.jd) > 0.02"""
READS = [
    "rb",
    "nbad",
    "magpsf",
    "fid",
    "sgscore1",
    "positive",
    "jd",
    "prv_candidates.magpsf",
    "prv_candidates.jd",
]


@alert_filter(reads=READS)
def by_hand(alerts: pd.DataFrame) -> dict[str, Any]:
    """The rules of TEXT as a person writes them in Python."""
    past = history(alerts, "prv_candidates")
    return {
        "real": alerts["rb"] >= 0.65,
        "clean": alerts["nbad"] == 0,
        "bright or in g, r": (alerts["magpsf"] < 18) | alerts["fid"].isin([1, 2]),
        "no star": ~(alerts["sgscore1"] > 0.5),
        "positive": alerts["positive"],
        "seen twice": past[past["magpsf"] < 19].count() >= 2,
        "long known": alerts["jd"] - past["jd"].min() > 0.02,
    }


def batches(alerts: int) -> list[pd.DataFrame]:
    """Frames of BATCH alerts each, with the columns of READS."""
    packets = [alert.packet for alert in simulate(min(alerts, 5000), seed=3, stamps=False)]
    packets = (packets * (alerts // len(packets) + 1))[:alerts]
    reader = PacketReader(stored_columns(READS))
    parts = [packets[i : i + BATCH] for i in range(0, alerts, BATCH)]
    return [to_frame(reader.read(part).table, READS) for part in parts]


def microseconds(f: Any, frames: list[pd.DataFrame]) -> float:
    """CPU time an alert."""
    began = time.process_time()
    for frame in frames:
        f.passes(frame)
    return (time.process_time() - began) / sum(map(len, frames)) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alerts", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    frames = batches(arguments.alerts)
    text = expression(TEXT)
    assert all((text.passes(frame) == by_hand.passes(frame)).all() for frame in frames)
    times: dict[str, list[float]] = {"expression": [], "Python": []}
    for _ in range(arguments.runs):
        fresh = [frame.copy() for frame in frames]  # histories are flattened anew, as in the stream
        times["expression"].append(microseconds(text, fresh))
        fresh = [frame.copy() for frame in frames]
        times["Python"].append(microseconds(by_hand, fresh))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:12s} {medians[name]:6.2f} us an alert (min {min(values):.2f}, max {max(values):.2f})")
    ratio = medians["expression"] / medians["Python"]
    print(f"an expression costs {ratio:.2f} x the filter in Python (bar 1.3)")


if __name__ == "__main__":
    main()
