"""All that may judge an alert at once: what one alert costs, and what it costs alert by alert in Python.

    python -m benchmarks.everything [--alerts 20000] [--runs 5]

Every registered ZTF filter (the fit of type Ia and the scores of stamps apart), and beside them a catalogue
of a million sources, a watchlist of 10,000 targets with radii of their own, and ten sky maps. Batches of
1,000 decoded alerts, one core. Ten of the filters, alone, stand beside the same rules as people write them
who read one packet at a time and stop at the first cut (benchmarks/rules.py), on packets that fastavro has
read: neither side pays for decoding. The ten filters themselves, given one alert at a time, are the other
peer.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pandas as pd

from benchmarks.crossmatch import anywhere
from benchmarks.rules import RULES
from commands.external.catalogues import add_catalogue
from filters import registered
from filters.external.add import add_notices
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set
from pipeline.worker.evaluate import Evaluator
from simulator import simulate
from simulator.sky.merger import merger_of
from simulator.sky.messages import sky_map

BATCH = 1_000
TOPIC = "ztf_20231012_programid1"
BAR, RATIO, SINGLE = 100.0, 50.0, 300
APART = ("type_ia", "stamp_point")
OUTSIDE = {
    "catalogue": "million.sep < 2 and million.mag < 20 and rb > 0.5",
    "watchlist": "targets.match and rb > 0.5",
    "sky maps": "maps.level < 0.9 and maps.days < 3",
}


class NoGuard:
    """Lets every filter run for as long as it likes."""

    @contextmanager
    def running(self, channel: str, seconds: float) -> Iterator[None]:
        """Within, the channel's filter runs."""
        yield


def fill(home: Path, jd: float) -> None:
    """A catalogue, a watchlist and ten sky maps of mergers of the night before."""
    rng = np.random.default_rng(1)
    ra, dec = anywhere(rng, 1_000_000)
    add_catalogue(pd.DataFrame({"ra": ra, "dec": dec, "mag": rng.normal(20, 1, len(ra))}), "million", 3.0)
    ra, dec = anywhere(rng, 10_000)
    targets = {"name": [f"target {n}" for n in range(len(ra))], "ra": ra, "dec": dec}
    targets["radius"] = rng.uniform(1, 5, len(ra))
    add_catalogue(pd.DataFrame(targets), "targets", 5.0, radius_column="radius")
    for number in range(10):
        ra, dec = anywhere(rng, 1)
        row = {"t0": jd - 0.5, "ra": ra[0], "dec": dec[0], "redshift": 0.02}
        merger = merger_of(row, number)
        made = sky_map(merger, (rng.uniform(2, 10), rng.uniform(1, 3)), rng)
        add_notices("maps", [made.fits(f"S231011{chr(97 + number)}", jd - 0.5, "H1,L1")])


def ten() -> dict[str, ChannelConfig]:
    """One for each filter of which there is a rule."""
    return {name: ChannelConfig(filter=name) for name in RULES}


def channels() -> dict[str, ChannelConfig]:
    """One for each filter, and those with external information."""
    names = [name for name in registered("ztf") if name not in APART]
    outside = {f"with-{name.replace(' ', '-')}": ChannelConfig(where=text) for name, text in OUTSIDE.items()}
    return {name: ChannelConfig(filter=name) for name in names} | outside


def evaluator_of(chosen: dict[str, ChannelConfig]) -> Evaluator:
    """Of these channels."""
    return Evaluator(channel_set(RunConfig(channels=chosen, topics=TOPIC)))


def judged(evaluator: Evaluator, packets: Sequence[bytes], size: int = BATCH) -> dict[str, float]:
    """Channel -> seconds, "" for all together, of a run over all batches.

    The first channel that needs a column pays for it: catalogues, histories.
    """
    spent: dict[str, float] = {"": 0.0}
    for first in range(0, len(packets), size):
        batch = packets[first : first + size]
        (found,) = evaluator.evaluate(
            [batch], TOPIC, NoGuard(), suspended={}, filter_seconds=60, failing_alerts=0
        )
        assert not found.gaps, found.failures
        spent[""] += found.seconds["filter"]
        for name, seconds in found.filter_seconds.items():
            spent[name] = spent.get(name, 0.0) + seconds
    return spent


def alert_by_alert(records: Sequence[Any]) -> float:
    """CPU seconds of the ten rules, each over every packet."""
    began = time.process_time()
    for rule in RULES.values():
        for record in records:
            rule(record)
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alerts", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    packets = [alert.packet for alert in simulate(min(arguments.alerts, 5_000), seed=3, stamps=False)]
    packets = (packets * (arguments.alerts // len(packets) + 1))[: arguments.alerts]
    records = [next(iter(fastavro.reader(io.BytesIO(packet)))) for packet in packets]
    with tempfile.TemporaryDirectory() as home:
        os.environ["ZADS_HOME"] = home
        fill(Path(home), records[0]["candidate"]["jd"])
        whole, few = evaluator_of(channels()), evaluator_of(ten())
        judged(whole, packets)  # loads the tiles of the catalogue
        runs = [judged(whole, packets) for _ in range(arguments.runs)]
        beside = [
            (judged(few, packets)[""], alert_by_alert(records), judged(few, packets[:SINGLE], 1)[""])
            for _ in range(arguments.runs)
        ]
    show(runs, len(packets))
    compare(*np.median(beside, axis=0) / (len(packets), len(packets), SINGLE) * 1e6)


def compare(ours: float, rules: float, single: float) -> None:
    """Microseconds an alert of the ten filters, and of their peers."""
    print(f"ten filters alone        {ours:8.2f} us an alert")
    for what, theirs in (("as plain rules", rules), ("one alert at a time", single)):
        word = "met" if theirs / ours >= RATIO else "MISSED"
        print(f"  {what:22s} {theirs:8.2f} us: {theirs / ours:.1f} x (bar {RATIO:g}: {word})")


def show(runs: Sequence[dict[str, float]], alerts: int) -> None:
    """Microseconds an alert of each channel, medians of the runs."""

    def each(name: str) -> float:
        return statistics.median(run[name] for run in runs) / alerts * 1e6

    for name in sorted(set(runs[0]) - {""}, key=each):
        print(f"{name:24s} {each(name):8.2f} us an alert")
    word = "met" if each("") <= BAR else "MISSED"
    print(f"{f'all {len(runs[0]) - 1} channels':24s} {each(''):8.2f} us an alert (bar {BAR:g}: {word})")


if __name__ == "__main__":
    main()
