"""Replay and look-ups over an archive of a million alerts, beside the same rules over fastavro:

    python -m benchmarks.replay [--alerts 1000000] [--archive FOLDER]

The archive (see benchmarks.million) has stub bodies and takes a minute to make; with --archive it is kept
and used again. The peer asks the same rules, in plain Python, of the packets that the archive's rows are
copies of, decoded with fastavro as carefully as one can: schema parsed once, nothing after the histories
read. It is given both cores: its rate is twice that of one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archive.read.archive import Archive
from archive.read.columns import Tally, size
from archive.read.versions import forget
from archive.replay.replay import replay
from benchmarks.crossmatch import anywhere
from benchmarks.million import Made, load, make
from benchmarks.peers import Careful
from benchmarks.rules import RULES
from commands.external.catalogues import add_catalogue
from filters import Filter, expression

SCALAR, HISTORY = "asteroid", "two_detections_30min"
BARS = {SCALAR: 2_000_000, HISTORY: 1_000_000}
CATALOGUE_BAR = 300_000
CORES = 2
_TIMES = 3
_LOOKUP_SECONDS = 1.0


def rate_of(archive: Archive, filters: Sequence[str | Filter], **given: Any) -> tuple[float, float, Tally]:
    """Alerts/s, best and median of some passes, and what a pass reads. Which rows are replaced by newer ones
    is found out each time anew."""
    rates = []
    for _ in range(_TIMES):
        forget()
        began = time.perf_counter()
        found = replay(filters, archive, threads=CORES, **given)
        rates.append(found.alerts / (time.perf_counter() - began))
    return max(rates), statistics.median(rates), found.tally


def rate_of_peer(packets: Sequence[bytes], rules: Sequence[str]) -> float:
    """Alerts/s of a plain loop in one process."""
    decode, asked = Careful(), [RULES[name] for name in rules]
    decode(packets[0])
    began = time.perf_counter()
    for raw in packets:
        packet = decode(raw)
        for rule in asked:
            rule(packet)
    return len(packets) / (time.perf_counter() - began)


def measure(made: Made) -> None:
    archive, packets = made.archive, made.packets
    alerts = int(archive.nights()["rows"].sum())
    print(f"{alerts:,} alerts, {made.history_rows:.0f} rows of prv_candidates each; {CORES} threads")
    replay([SCALAR, HISTORY], archive)  # what is compiled is compiled, what is cached by the kernel cached
    for name in (SCALAR, HISTORY):
        best, median, read = rate_of(archive, [name])
        peer = CORES * rate_of_peer(packets, [name])
        word = "holds" if median >= BARS[name] else "MISSED"
        print(
            f"{name}: {median:,.0f} alerts/s (best {best:,.0f}), {size(read.bytes)} read; "
            f"bar {BARS[name]:,} {word}; fastavro {peer:,.0f}, ratio {median / peer:,.0f}"
        )
    ten(archive)
    best, median, _ = rate_of(archive, ["real_bogus"], parameters={"rb_min": [i / 20 for i in range(20)]})
    print(f"a sweep of 20 thresholds: {median:,.0f} alerts/s, {20 * median:,.0f} verdicts/s")
    with_catalogue(archive)
    look_ups(archive)


def with_catalogue(archive: Archive) -> None:
    """A filter that reads a catalogue of a million sources over most of the sky."""
    rng = np.random.default_rng(1)
    ra, dec = anywhere(rng, 1_000_000)
    frame = pd.DataFrame({"ra": ra, "dec": dec, "mag": rng.normal(20, 1, len(ra))})
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as changed:
        changed.setenv("ZADS_HOME", home)
        add_catalogue(frame, "million", 3.0)
        beside = expression("rb > 0.5 and million.sep < 3 and million.mag < 20")
        matches = len(replay([beside], archive).matches)  # and the tiles are loaded
        best, median, read = rate_of(archive, [beside])
    word = "holds" if median >= CATALOGUE_BAR else "MISSED"
    print(
        f"beside a catalogue of a million sources, {matches:,} matches: "
        f"{median:,.0f} alerts/s (best {best:,.0f}), "
        f"{size(read.bytes)} read; bar {CATALOGUE_BAR:,} {word}"
    )


def ten(archive: Archive) -> None:
    """One pass with ten filters, and passes with each of them alone."""
    names = list(RULES)
    seconds = {name: 1e6 / rate_of(archive, [name])[1] for name in names}
    together = 1e6 / rate_of(archive, names)[1]
    slowest = max(seconds, key=lambda name: seconds[name])
    word = "holds" if together < 3 * seconds[slowest] else "MISSED"
    print(
        f"{len(names)} filters in one pass: {together:.2f} s a million alerts; alone they take "
        f"{sum(seconds.values()):.2f} s, of which {slowest} {seconds[slowest]:.2f} s; "
        f"less than three passes of that {word}"
    )


def look_ups(archive: Archive) -> None:
    """A cone, an object, an alert."""
    some = archive.alerts(columns=["ra", "dec"], where="rb > 0.99").head(50, npartitions=-1).iloc[-1]
    cone = (some["ra"], some["dec"], "1 arcmin")
    asked: dict[str, Callable[[Archive], Any]] = {
        "a cone of one arcminute": lambda a: a.alerts(columns=["jd", "magpsf"], cone=cone).compute(),
        "a light curve": lambda a: a.light_curve(some["objectId"]),
        "one candid": lambda a: a.packet(int(some["candid"])),
    }
    for what, ask in asked.items():
        fresh = Archive(archive.path)
        forget()
        began = time.perf_counter()
        ask(fresh)
        took = time.perf_counter() - began
        read = fresh.read if fresh.read.bytes else fresh.cost(columns=["jd", "magpsf"], cone=cone)
        word = "holds" if took < _LOOKUP_SECONDS else "MISSED"
        print(f"{what}: {took * 1000:,.0f} ms, {read}; bar {_LOOKUP_SECONDS:g} s {word}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alerts", type=int, default=1_000_000)
    parser.add_argument("--archive", type=Path)
    given = parser.parse_args()
    if given.archive is not None and (given.archive / "ztf").is_dir():
        measure(load(given.archive))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(make(given.archive or Path(folder), given.alerts))


if __name__ == "__main__":
    main()
