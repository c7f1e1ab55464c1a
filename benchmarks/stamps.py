"""How fast stamps are read and scored: alerts/s on one core, reading of FITS and gzip included.

    python -m benchmarks.stamps [--alerts 2000] [--rounds 5]

Bar: 3,000 alerts/s of CPU time. Says the load of the machine beside its figures.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import pandas as pd

from filters import registered
from filters.external.externals import stored_columns, to_frame
from filters.stamps import images, point_score
from schemas.packets.packet import read_packet
from schemas.packets.reader import PacketReader
from simulator import simulate

BAR = 3_000
BATCH = 1_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    packets = [alert.packet for alert in simulate(options.alerts, seed=1)]
    stamps = pd.Series(
        [read_packet(packet)[0]["cutoutDifference"]["stampData"] for packet in packets], dtype=object
    )
    f = registered("ztf")["stamp_point"].using(rb_min=0.0, nbad=0)
    reads = f.require_reads()
    reader = PacketReader(stored_columns(reads))
    frames = [
        to_frame(reader.read(packets[at : at + BATCH]).table, reads) for at in range(0, len(packets), BATCH)
    ]
    print(f"{len(packets):,} alerts, batches of {BATCH:,}, load {os.getloadavg()[0]:.1f}")
    _say("read the stamps", options, lambda: images(stamps), len(packets))
    _say("read and score", options, lambda: point_score(images(stamps)), len(packets))
    _say("the filter, decoded batch", options, lambda: [f.judge(frame) for frame in frames], len(packets))
    _say(
        "packet to verdict",
        options,
        lambda: [
            f.judge(to_frame(reader.read(packets[at : at + BATCH]).table, reads))
            for at in range(0, len(packets), BATCH)
        ],
        len(packets),
    )


def _say(what: str, options: argparse.Namespace, call: Callable[[], object], alerts: int) -> None:
    taken = []
    for _ in range(options.rounds):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    rates = sorted(alerts / seconds for seconds in taken)
    median = rates[len(rates) // 2]
    met = "met" if median >= BAR else "NOT met"
    print(f"{what:28} {median:10,.0f} alerts/s ({rates[0]:,.0f} to {rates[-1]:,.0f})  bar {BAR:,}: {met}")


if __name__ == "__main__":
    main()
