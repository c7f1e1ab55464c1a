"""Catalogues and regions on batches of places, beside astropy in the same run.

    python -m benchmarks.crossmatch [--sources 1000000] [--batches 200]

A million sources over most of the sky. "whole sky": batches of 1,000 places anywhere, half of them 1 arcsec
from a source; "quadrants": batches of 1,000 places within a degree, as an exposure gives them. One core, CPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord

from commands.external.catalogues import add_catalogue
from filters.catalogues.columns import Crossmatch
from filters.catalogues.match import nearest, within
from filters.regions.area import read_area

RADIUS = 3.0
PLACES = 1000
Batch = tuple[np.ndarray, np.ndarray]


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sources", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=200)
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
    print(f"a region                {inside:12,.0f} places/s (bar 2,000,000)")


if __name__ == "__main__":
    main()
