"""An uploaded filter in the sandbox beside the same filter in process, and many owners at once.

    python -m benchmarks.sandbox [--batches 200] [--owners 30] [--rate 300]

Batches of 1,000 alerts with scalars and histories, interleaved in one run; the ratio is of the medians.
Then each owner's filter judges small batches as they come live: how long from a batch's arrival to the
last owner's verdict.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import time

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.filters import BATCH, READS, by_hand
from filters import Filter
from filters.external.externals import stored_columns, to_frame
from filters.sandbox.keeper import sandbox
from filters.sandbox.question import Program
from filters.sandbox.uploaded import uploaded
from schemas.packets.reader import PacketReader
from simulator import simulate

_HEAD = "from typing import Any\n\nimport pandas as pd\n\nfrom filters import alert_filter, history\n\n"


def text() -> str:
    """The filter as a user uploads it."""
    return f"{_HEAD}READS = {READS!r}\n\n\n{inspect.getsource(by_hand.function)}"


def tables(alerts: int) -> list[pa.Table]:
    """Decoded batches of simulated alerts."""
    packets = [alert.packet for alert in simulate(alerts, seed=3, stamps=False)]
    reader = PacketReader(stored_columns(READS))
    return [reader.read(packets[i : i + BATCH]).table for i in range(0, alerts, BATCH)]


def beside(decoded: list[pa.Table], times: int) -> tuple[list[float], list[float]]:
    """Seconds of each batch in process and in the sandbox."""
    there = uploaded(Program("one", text(), "by_hand.py", "by_hand"))
    took: dict[Filter, list[float]] = {by_hand: [], there: []}
    for number in range(times):
        for f, seconds in took.items():
            fresh = to_frame(
                decoded[number % len(decoded)], READS
            )  # as in the stream: nothing is known of it
            began = time.perf_counter()
            f.judge(fresh)
            seconds.append(time.perf_counter() - began)
    return took[by_hand], took[there]


def live(frame: pd.DataFrame, owners: int, rate: float, seconds: float = 20.0) -> np.ndarray:
    """Seconds from each batch's arrival to the last owner's verdict, at so many alerts a second."""
    every = [uploaded(Program(f"owner{n}", text(), "by_hand.py", "by_hand")) for n in range(owners)]
    for f in every:
        f.judge(frame.iloc[:1])
    waited, begun, done = [], time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        arrived = int(now * rate)
        if arrived == done:
            time.sleep(1 / rate)
            continue
        count = min(arrived - done, len(frame))
        for f in every:
            f.judge(frame.iloc[:count].copy())
        ages = time.perf_counter() - begun - np.arange(done + 1, done + count + 1) / rate
        waited.append(ages)
        done += count
    return np.concatenate(waited)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--batches", type=int, default=200)
    options.add_argument("--owners", type=int, default=30)
    options.add_argument("--rate", type=float, default=300)
    given = options.parse_args()
    decoded = tables(5000)
    here, there = beside(decoded, given.batches)
    for name, of in (("median", statistics.median), ("least", min)):
        own, other = 1e3 * of(here), 1e3 * of(there)
        print(f"a batch of 1,000, {name}: in process {own:.2f} ms, in the sandbox {other:.2f} ms", end="")
        print(f" ({other / own:.2f} x, {other - own:+.2f} ms)")
    waited = live(to_frame(decoded[0], READS), given.owners, given.rate)
    p50, p99 = np.percentile(waited, [50, 99])
    print(f"{given.owners} owners, {given.rate:.0f} alerts/s: p50 {p50:.3f} s, p99 {p99:.3f} s", end="")
    print(f", {len(waited)} alerts")
    sandbox().close()


if __name__ == "__main__":
    main()
