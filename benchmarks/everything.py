"""All that may judge an alert at once: what one alert costs, and what it costs alert by alert in Python.

    python -m benchmarks.everything [--alerts 20000] [--runs 5]

Every registered ZTF filter (the fit of type Ia and the scores of stamps apart), and beside them a catalogue
of a million sources, a watchlist of 10,000 targets with radii of their own, and ten sky maps. Batches of
1,000 decoded alerts, one core. All of it stands beside the same rules as people write them who read one
packet at a time and stop at the first cut (benchmarks/rules.py and outside_rules.py), on packets that
fastavro has read: neither side pays for decoding. It is checked that both find the same alerts. The ten
filters that take longest, alone, stand beside their rules too, and beside themselves given one alert at a
time.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import fastavro
import numpy as np
import pandas as pd

from benchmarks.crossmatch import anywhere
from benchmarks.outside_rules import Map, Rule, rules
from benchmarks.rules import RULES
from commands.external.catalogues import add_catalogue
from filters import registered
from filters.external.add import add_notices
from filters.external.externals import frames_of
from filters.regions.skymap import read_fits
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set
from pipeline.worker.judging.evaluate import Evaluator
from schemas.packets.reader import PacketReader
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


def fill(near: Sequence[Any]) -> dict[str, Rule]:
    """A catalogue, a watchlist and ten sky maps of mergers of the night before; the rules that read them.

    near: alerts, beside each of which the catalogue has a source, and the watchlist one for some.
    """
    rng, jd = np.random.default_rng(1), near[0]["jd"]
    places = np.array([(one["ra"], one["dec"] + 0.5 / 3600) for one in near]).T
    ra, dec = np.concatenate([places, anywhere(rng, 1_000_000 - len(near))], axis=1)
    sources = {"ra": ra, "dec": dec, "mag": rng.normal(20, 1, len(ra))}
    add_catalogue(pd.DataFrame(sources), "million", 3.0)
    some = places[:, ::10]
    ra, dec = np.concatenate([some, anywhere(rng, 10_000 - some.shape[1])], axis=1)
    targets = {"ra": ra, "dec": dec, "radius": rng.uniform(1, 5, len(ra))}
    named = pd.DataFrame(targets).assign(name=[f"target {n}" for n in range(len(ra))])
    add_catalogue(named, "targets", 5.0, radius_column="radius")
    maps = []
    for number in range(10):
        row = {"t0": jd - 0.5, "ra": near[number]["ra"], "dec": near[number]["dec"], "redshift": 0.02}
        merger = merger_of(row, number)
        made = sky_map(merger, (rng.uniform(2, 10), rng.uniform(1, 3)), rng)
        content = made.fits(f"S231011{chr(97 + number)}", jd - 0.5, "H1,L1")
        add_notices("maps", [content])
        read = read_fits(content)
        maps.append(Map(read.jd, read.begins.tolist(), read.ends.tolist(), read.level.tolist()))
    return rules(tuple(sources.values()), tuple(targets.values()), maps)


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


def alert_by_alert(chosen: Mapping[str, Rule], records: Sequence[Any]) -> float:
    """CPU seconds of some rules, each over every packet."""
    began = time.process_time()
    for rule in chosen.values():
        for record in records:
            rule(record)
    return time.process_time() - began


def check(every: Mapping[str, Rule], packets: Sequence[bytes], records: Sequence[Any]) -> None:
    """Raise AssertionError unless each rule finds what its channel finds, and finds something."""
    found = channel_set(RunConfig(channels=channels(), topics=TOPIC)).by_name
    assert found.keys() == every.keys()
    for name, rule in every.items():
        f = found[name].filter
        maker = frames_of(f.require_reads(), "ztf")
        table = PacketReader(maker.columns).read(packets).table
        ours = f.passes(maker.frame(table)).tolist()
        theirs = [rule(record) for record in records]
        assert ours == theirs, f"{name}: {sum(ours)} pass as a channel, {sum(theirs)} by the rule"
        print(f"  {name:24s} {sum(ours):6,} of {len(ours):,} pass, both ways")


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
        every = fill([record["candidate"] for record in records[:1000:2]])
        check(every, packets[:1000], records[:1000])
        whole, few = evaluator_of(channels()), evaluator_of(ten())
        judged(whole, packets)  # loads the tiles of the catalogue
        runs = [judged(whole, packets) for _ in range(arguments.runs)]
        peers = [alert_by_alert(every, records) for _ in range(arguments.runs)]
        beside = [
            (judged(few, packets)[""], alert_by_alert(RULES, records), judged(few, packets[:SINGLE], 1)[""])
            for _ in range(arguments.runs)
        ]
    show(runs, len(packets))
    ratio("as plain rules", statistics.median(peers) / len(packets) * 1e6, all_of(runs, len(packets)))
    compare(*np.median(beside, axis=0) / (len(packets), len(packets), SINGLE) * 1e6)


def compare(ours: float, plain: float, single: float) -> None:
    """Microseconds an alert of the ten filters, and of their peers."""
    print(f"ten filters alone        {ours:8.2f} us an alert")
    for what, theirs in (("as plain rules", plain), ("one alert at a time", single)):
        ratio(what, theirs, ours)


def ratio(what: str, theirs: float, ours: float) -> None:
    """A peer's microseconds an alert, and how many times ours that is."""
    word = "met" if theirs / ours >= RATIO else "MISSED"
    print(f"  {what:22s} {theirs:8.2f} us: {theirs / ours:.1f} x (bar {RATIO:g}: {word})")


def all_of(runs: Sequence[dict[str, float]], alerts: int) -> float:
    """Microseconds an alert of all channels, median of the runs."""
    return statistics.median(run[""] for run in runs) / alerts * 1e6


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
