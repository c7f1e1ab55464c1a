"""Cells of a catalogue in memory: loaded when a batch touches them, the least used dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from filters.catalogues.description import Description
from filters.external.coordinates import unit_vectors
from filters.external.store import ExternalError

MAS = 1 / 3_600_000
"""Degrees in a milliarcsecond."""
JD_2000 = 2451545.0
"""JD of the Julian epoch 2000.0; a Julian year has 365.25 days (IAU)."""


class Tile:
    """The sources of one HEALPix cell and of the margin around it.

    tree: of unit vectors; own: how many are of the cell itself; table: all columns, raw.
    """

    def __init__(self, table: pa.Table, about: Description) -> None:
        self.table = table
        self.ra, self.dec = (_floats(table[name]) for name in (about.ra, about.dec))
        self.tree = cKDTree(unit_vectors(self.ra, self.dec))
        self.radius = _floats(table[about.radius_column]) if about.radius_column else None
        self.reach = 0.0  # degrees a year that the fastest source moves
        if about.motion:
            pmra, pmdec = (np.nan_to_num(_floats(table[n])) for n in (about.motion.pmra, about.motion.pmdec))
            self.motion = pmra * MAS, pmdec * MAS
            self.reach = float(np.hypot(*self.motion).max(initial=0.0))

    @property
    def bytes(self) -> int:
        """In memory, about: the table, and the tree with its vectors."""
        return int(self.table.nbytes) + 72 * len(self.ra)

    def places(self, rows: np.ndarray, years: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ra and dec in degrees of some sources, each so many years after the catalogue's epoch."""
        pmra, pmdec = self.motion
        dec = np.clip(self.dec[rows] + pmdec[rows] * years, -90, 90)
        across = np.maximum(np.cos(np.radians(self.dec[rows])), 1e-6)
        return self.ra[rows] + pmra[rows] * years / across, dec


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_pandas().to_numpy(dtype=float, na_value=np.nan)


class Tiles:
    """The cells of a catalogue. most_bytes: of memory; cells beyond it are loaded anew when needed."""

    def __init__(self, about: Description, most_bytes: int = 1_000_000_000) -> None:
        self.about = about
        self.most_bytes = most_bytes
        self.loads = 0
        self._kept: OrderedDict[int, Tile] = OrderedDict()
        self._lock = threading.Lock()
        self._margins = about.margins
        cells = _cells(about.path(about.primary))
        self._own = set(zip(cells["Norder"], cells["Npix"], strict=True))
        if self._margins is not None:  # a cell without sources of its own may have some near its edge
            cells = pd.concat([cells, _cells(self._margins)]).drop_duplicates(["Norder", "Npix"])
        order, pixel = cells["Norder"].to_numpy(), cells["Npix"].to_numpy()
        shift = 2 * (29 - order)
        begins = pixel << shift
        by_place = np.argsort(begins)
        self._order, self._pixel = order[by_place], pixel[by_place]
        self._begins, self._ends = begins[by_place], ((pixel + 1) << shift)[by_place]

    @property
    def bytes(self) -> int:
        """Of the cells that are in memory, about."""
        return sum(tile.bytes for tile in self._kept.values())

    def of(self, healpix: np.ndarray) -> np.ndarray:
        """The number of the cell in which each place (HEALPix index, order 29, nested) lies; −1: in none."""
        number = np.searchsorted(self._begins, healpix, side="right") - 1
        inside = (number >= 0) & (healpix < self._ends[np.maximum(number, 0)])
        return np.where(inside, number, -1)

    def tile(self, number: int) -> Tile:
        """A cell with its margin. Raises ExternalError when its file cannot be read."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        made = self._load(number)
        with self._lock:
            self.loads += 1
            self._kept[number] = made
            while len(self._kept) > 1 and self.bytes > self.most_bytes:
                self._kept.popitem(last=False)
        return made

    def _load(self, number: int) -> Tile:
        where = _file(int(self._order[number]), int(self._pixel[number]))
        names = [*self.about.columns, self.about.ra, self.about.dec, self.about.radius_column]
        if self.about.motion:
            names += [self.about.motion.pmra, self.about.motion.pmdec]
        columns = [name for name in dict.fromkeys(names) if name]
        try:
            owned = (self._order[number], self._pixel[number]) in self._own
            files = [self.about.path(self.about.primary) / where] if owned else []
            if self._margins is not None and (self._margins / where).is_file():
                files.append(self._margins / where)
            parts = [pq.read_table(file, columns=columns, partitioning=None) for file in files]
        except (OSError, pa.ArrowException) as error:
            raise ExternalError(f"the catalogue {self.about.name} cannot be read: {error}") from error
        return Tile(pa.concat_tables(parts, promote_options="permissive").combine_chunks(), self.about)


def _cells(folder: Path) -> pd.DataFrame:
    try:
        cells = pa.csv.read_csv(folder / "partition_info.csv").to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise ExternalError(f"{folder} is no HATS catalogue: {error}") from error
    return cells.astype({"Norder": "int64", "Npix": "int64"})


def _file(order: int, pixel: int) -> str:
    """Where HATS keeps a cell (IVOA note HATS, version 1)."""
    return f"dataset/Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"
