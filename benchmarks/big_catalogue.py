"""A catalogue of many rows on disk, written cell by cell, and places on the sky as a night gives them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord
from cdshealpix.nested import healpix_to_lonlat

from filters.catalogues.description import CatalogueColumn, Description
from filters.catalogues.match import healpix

MARGIN = 10.0
MOST_ROWS = 500_000
"""Of a cell, as `zads catalogue add` writes them."""

_FINE = 13  # cells of 26 arcsec: the sources of those along the edge may be in a margin
_RING = 16
_SAMPLE = 4000
_FIELD = 6.0  # deg, of a pointing
Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Big:
    """A catalogue on disk. files: of its cells and margins; sample: places of some of its sources, deg."""

    about: Description
    files: list[Path]
    sample: Batch

    @property
    def bytes(self) -> int:
        """On disk."""
        return sum(file.stat().st_size for file in self.files)

    def forget(self) -> None:
        """Have the operating system drop what it has of the files in memory."""
        os.sync()
        for file in self.files:
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write(folder: Path, rows: int, rng: np.random.Generator) -> Big:
    """Sources all over the sky as HATS with a margin cache of 10 arcsec.

    Parameters
    ----------
    folder
        Where to.
    rows
        How many; a cell has at most MOST_ROWS, and never more than one cell is in memory.
    rng
        Draws places and magnitudes.
    """
    order = 0
    while rows / (12 * 4**order) > MOST_ROWS:
        order += 1
    cells = 12 * 4**order
    margins: dict[int, list[pa.Table]] = {}
    sample, files = [], []
    for cell in range(cells):
        count = rows * (cell + 1) // cells - rows * cell // cells
        table = _cell(order, cell, count, rng)
        files.append(_save(folder / "big", order, cell, table))
        sample.append(np.array([table["ra"][:_SAMPLE], table["dec"][:_SAMPLE]]))
        for other, beside in _beside(order, cell, table):
            margins.setdefault(other, []).append(beside)
    files += [_save(folder / "margin", order, c, pa.concat_tables(some)) for c, some in margins.items()]
    _describe(folder / "big", order, range(cells))
    _describe(folder / "margin", order, sorted(margins))
    columns = {name: CatalogueColumn("number") for name in ("ra", "dec", "mag")}
    about = Description("big", "0", rows, 3.0, MARGIN, "big", "ra", "dec", columns, folder=str(folder))
    ra, dec = np.concatenate(sample, axis=1)
    return Big(about, files, (ra, dec))


def _cell(order: int, cell: int, count: int, rng: np.random.Generator) -> pa.Table:
    """Sources evenly over a cell: HEALPix cells of one order have one area."""
    shift = 2 * (29 - order)
    index = rng.integers(cell << shift, (cell + 1) << shift, count)
    index.sort()
    lon, lat = healpix_to_lonlat(index.astype(np.uint64), 29)
    columns = {"_healpix_29": index, "ra": lon.deg, "dec": lat.deg, "mag": rng.normal(20, 1, count)}
    return pa.table(columns)


def _beside(order: int, cell: int, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Cells that have sources of this one in their margin, and which."""
    side = 1 << (_FINE - order)
    fine = (table["_healpix_29"].to_numpy() >> 2 * (29 - _FINE)) & (side * side - 1)
    x, y = _every_second_bit(fine), _every_second_bit(fine >> 1)
    rows = np.flatnonzero((x == 0) | (y == 0) | (x == side - 1) | (y == side - 1))
    edge = table.take(rows)
    places = SkyCoord(edge["ra"].to_numpy(), edge["dec"].to_numpy(), unit="deg")
    angles = np.arange(_RING) * 360 / _RING * u.deg
    ring = places[:, None].directional_offset_by(angles, 1.1 * MARGIN * u.arcsec)
    touched = healpix(ring.ra.deg.ravel(), ring.dec.deg.ravel()).reshape(ring.shape) >> 2 * (29 - order)
    for other in np.unique(touched[touched != cell]):
        yield int(other), edge.filter(pa.array((touched == other).any(1)))


def _every_second_bit(index: np.ndarray) -> np.ndarray:
    """Bits 0, 2, 4, … of each number, put together."""
    found = np.zeros(len(index), np.int64)
    for bit in range(_FINE):
        found |= ((index >> 2 * bit) & 1) << bit
    return found


def _save(folder: Path, order: int, cell: int, table: pa.Table) -> Path:
    file = folder / f"dataset/Norder={order}/Dir={cell // 10_000 * 10_000}/Npix={cell}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def _describe(folder: Path, order: int, cells: range | list[int]) -> None:
    lines = ["Norder,Npix", *(f"{order},{cell}" for cell in cells)]
    (folder / "partition_info.csv").write_text("\n".join(lines) + "\n")
    (folder / "hats.properties").touch()


def night(rng: np.random.Generator, pointings: int, batches: int, places: int) -> list[Batch]:
    """Batches as a night gives them: some for each pointing, and the next pointing is beside it."""
    made = []
    for number in range(pointings):
        ra, dec = (30 + _FIELD * number) % 360, 25 + 15 * np.sin(number / 4)
        made += [
            ((ra + rng.uniform(0, _FIELD, places)) % 360, dec + rng.uniform(0, _FIELD, places))
            for _ in range(batches)
        ]
    return made


def beside_sources(batches: list[Batch], sample: Batch) -> list[Batch]:
    """The same, but half of the places are 1 arcsec from a source: that of the sample which is nearest."""
    sources = SkyCoord(*sample, unit="deg")
    made = []
    for ra, dec in batches:
        half = len(ra) // 2
        near, _, _ = SkyCoord(ra[:half], dec[:half], unit="deg").match_to_catalog_sky(sources)
        lon = np.concatenate([sample[0][near], ra[half:]])
        lat = np.concatenate([sample[1][near] + 1 / 3600, dec[half:]])
        made.append((lon, lat))
    return made


def peak_memory() -> float:
    """The most memory that this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
