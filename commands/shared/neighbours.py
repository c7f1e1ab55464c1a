"""Sources around a place: of a catalogue that was added, or of any table with positions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schemas.errors import ZadsError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_FIELD = 45.0  # arcsec from the middle of a stamp to beyond its corners


def neighbours(named: str, ra: float, dec: float) -> pd.DataFrame:
    """The sources within a stamp's field: `ra`, `dec` in degrees, then the catalogue's other columns.

    Parameters
    ----------
    named : str
        A catalogue of `zads catalogue list`, or a table file that astropy or pyarrow reads.
    ra, dec : float
        Degrees.

    Raises
    ------
    ZadsError
        When there is no such catalogue, or the table has no positions.
    """
    table = _of_file(Path(named)) if Path(named).is_file() else _of_catalogue(named, ra, dec)
    lacking = [name for name in ("ra", "dec") if name not in table.columns]
    if lacking:
        raise ZadsError(f"{named} has no column {lacking[0]} (it has {', '.join(map(str, table.columns))})")
    apart = (table["ra"] - ra + 180) % 360 - 180
    away = np.hypot(apart * np.cos(np.radians(dec)), table["dec"] - dec) * 3600
    near = table[away < _FIELD]
    return near[["ra", "dec", *(name for name in near.columns if name not in ("ra", "dec"))]]


def _of_file(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet":
        return _frame(pq.read_table(path))
    from astropy.table import Table

    return Table.read(path).to_pandas()


def _of_catalogue(named: str, ra: float, dec: float) -> pd.DataFrame:
    import pyarrow as pa

    from filters.catalogues.description import read_description
    from filters.catalogues.match import within
    from filters.catalogues.tiles import Tiles
    from filters.external.store import Store

    store = Store()
    about = read_description(store.folder(named), store.about(named))
    tiles = Tiles(about)
    found = within(tiles, np.array([ra]), np.array([dec]), _FIELD)
    rows = [
        tiles.tile(int(cell)).table.slice(int(row), 1)
        for cell, row in zip(found.cell, found.row, strict=True)
    ]
    frame = _frame(pa.concat_tables(rows) if rows else tiles.tile(0).table.slice(0, 0))
    return frame.rename(columns={about.ra: "ra", about.dec: "dec"})


def _frame(table: pa.Table) -> pd.DataFrame:
    """The table as pandas; identifiers keep all their digits where some are missing too."""
    import pandas as pd
    import pyarrow as pa

    whole = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole.get)
    return frame
