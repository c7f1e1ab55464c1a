"""Catalogues and regions on batches of places, beside astropy in the same run.

    python -m benchmarks.crossmatch [--sources 1000000] [--batches 200] [--rows 50000000]

A million sources over most of the sky, in memory. "whole sky": batches of 1,000 places anywhere, half of them
1 arcsec from a source; "quadrants": batches of 1,000 places within a degree, as an exposure gives them.

Then --rows sources on disk (0: not). "a night": batches of 1,000 places within a pointing of 6 degrees, ten
batches a pointing, each pointing beside the one before. "first": no cell is in memory, and no file of the
catalogue in that of the operating system; "again": the same night once more. Cold loads are cells read from
disk. Cells in memory are bounded as in the workers, to 1 GB. One core; CPU seconds, but where it says wall.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord

from benchmarks.big_catalogue import Batch, beside_sources, night, peak_memory, write
from commands.external.catalogues import add_catalogue
from filters.catalogues.columns import Crossmatch
from filters.catalogues.match import healpix, nearest, within
from filters.regions.area import read_area

RADIUS = 3.0
PLACES = 1000


def anywhere(rng: np.random.Generator, n: int) -> Batch:
    """Places over five sixths of the sky."""
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-2 / 3, 1, n)))


def batches(rng: np.random.Generator, ra: np.ndarray, dec: np.ndarray, count: int) -> list[Batch]:
    """Places anywhere, half of them beside a source."""
    made = []
    for _ in range(count):
        near, (lon, lat) = rng.integers(len(ra), size=PLACES // 2), anywhere(rng, PLACES // 2)
        made.append((np.concatenate([ra[near], lon]), np.concatenate([dec[near] + 1 / 3600, lat])))
    return made


def quadrants(rng: np.random.Generator, count: int) -> list[Batch]:
    """Places within a degree of each other."""
    corners = zip(rng.uniform(0, 359, count), rng.uniform(-30, 60, count), strict=True)
    return [(ra + rng.uniform(0, 1, PLACES), dec + rng.uniform(0, 1, PLACES)) for ra, dec in corners]


def rate(work: Callable[[Batch], Any], every: Sequence[Batch]) -> float:
    """Places a second of CPU time, after the first batches have loaded what they need."""
    for batch in every[: len(every) // 4]:
        work(batch)
    began = time.process_time()
    for batch in every:
        work(batch)
    return len(every) * PLACES / (time.process_time() - began)


def on_disk(rows: int, rng: np.random.Generator, pointings: int = 20) -> None:
    """Measure the same against a catalogue that does not fit into the memory that cells may have."""
    with tempfile.TemporaryDirectory() as root:
        began = time.perf_counter()
        big = write(Path(root), rows, rng)
        seconds = time.perf_counter() - began
        print(f"{rows:,} sources on disk: {big.bytes / 1e6:,.0f} MB, written in {seconds:.0f} s")
        batches = beside_sources(night(rng, pointings, 10, PLACES), big.sample)
        before, matcher = peak_memory(), Crossmatch(big.about)
        big.forget()
        for what in ("first", "again"):
            cold(
                f"nearest, a night {what}",
                batches,
                matcher,
                lambda some: nearest(matcher.tiles, *some, RADIUS),
            )
        cold("all within, again", batches, matcher, lambda some: within(matcher.tiles, *some, RADIUS))
        wide = [anywhere(rng, PLACES)]
        cold("nearest, whole sky", wide, matcher, lambda some: nearest(matcher.tiles, *some, RADIUS))
        print(f"  memory of this process: {peak_memory():,.0f} MB at most, {before:,.0f} MB before")
        beside_astropy(batches[:10], matcher)


def cold(what: str, batches: Sequence[Batch], matcher: Crossmatch, work: Callable[[Batch], Any]) -> None:
    """Print the rate over some batches, and what they had to load."""
    loads, wall, began = matcher.tiles.loads, time.perf_counter(), time.process_time()
    for batch in batches:
        work(batch)
    spent, wall = time.process_time() - began, time.perf_counter() - wall
    loads, places = matcher.tiles.loads - loads, len(batches) * PLACES
    kept, most = matcher.tiles.bytes / 1e6, matcher.tiles.most_bytes / 1e6
    print(
        f"{what:24s}{places / spent:12,.0f} places/s, wall {places / wall:,.0f}; {loads:,} cold loads in"
        f" {len(batches):,} batches; {kept:,.0f} of {most:,.0f} MB in cells"
    )


def beside_astropy(batches: Sequence[Batch], matcher: Crossmatch) -> None:
    """Print astropy's rate on the cells of a pointing, all in memory, and whether it finds the same."""
    tiles = matcher.tiles
    numbers = np.unique(np.concatenate([tiles.of(healpix(*batch)) for batch in batches]))
    near = [tiles.tile(int(number)) for number in numbers]
    ra, dec = (np.concatenate([getattr(tile, name) for tile in near]) for name in ("ra", "dec"))
    sources = SkyCoord(ra, dec, unit="deg")

    def by_astropy(batch: Batch) -> Any:
        return SkyCoord(*batch, unit="deg").match_to_catalog_sky(sources)

    theirs = rate(by_astropy, batches)
    same = 0
    for batch in batches:
        told = by_astropy(batch)[1].arcsec
        ours = nearest(tiles, *batch, RADIUS).separation
        same += int((np.isclose(ours, told, atol=1e-6) | (np.isnan(ours) & (told > RADIUS))).sum())
    print(
        f"  astropy, {len(sources):,} of these in memory {theirs:,.0f} places/s; the same for {same:,} of"
        f" {len(batches) * PLACES:,} places"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sources", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--rows", type=int, default=50_000_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    ra, dec = anywhere(rng, arguments.sources)
    frame = pd.DataFrame({"ra": ra, "dec": dec, "mag": rng.normal(20, 1, len(ra))})
    with tempfile.TemporaryDirectory() as root:
        matcher = Crossmatch(add_catalogue(frame, "million", RADIUS, root=root))
        sky = batches(rng, ra, dec, arguments.batches)
        fields = quadrants(rng, arguments.batches)
        catalogue = SkyCoord(ra, dec, unit="deg")

        def by_astropy(batch: Batch) -> Any:
            return SkyCoord(*batch, unit="deg").match_to_catalog_sky(catalogue)

        ours = rate(lambda batch: nearest(matcher.tiles, *batch, RADIUS), sky)
        theirs = rate(by_astropy, sky[:20])
        print(f"nearest, whole sky      {ours:12,.0f} places/s (bar 300,000)")
        print(f"  astropy               {theirs:12,.0f} places/s: {ours / theirs:.1f} x")
        near = rate(lambda batch: nearest(matcher.tiles, *batch, RADIUS), fields)
        print(f"nearest, quadrants      {near:12,.0f} places/s")
        pairs = rate(lambda batch: within(matcher.tiles, *batch, RADIUS), sky)
        print(f"all within, whole sky   {pairs:12,.0f} places/s")
        columns = rate(lambda batch: matcher.columns(["sep", "mag"], *batch), sky)
        print(f"as columns, whole sky   {columns:12,.0f} places/s")
    area = read_area("cone 120 20 25 deg")
    large = [anywhere(rng, PLACES * 100) for _ in range(10)]
    began = time.process_time()
    for batch in large:
        area.holds(*batch)
    inside = PLACES * 1000 / (time.process_time() - began)
    print(f"a region (MOC)          {inside:12,.0f} places/s (bar 2,000,000)")
    if arguments.rows:
        on_disk(arguments.rows, rng)


if __name__ == "__main__":
    main()
