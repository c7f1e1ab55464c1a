"""From a table of sources to a catalogue: read, described, written as HATS with a margin cache by lsdb."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from filters.catalogues import Description, describe
from filters.catalogues.description import CatalogueColumn, Kind, Motion
from filters.catalogues.match import healpix
from filters.external import Store
from filters.external.store import NAME, ExternalError
from filters.files.tables import delimiter, header
from schemas.errors import near_names

RA_NAMES = ("ra", "raj2000", "ra_icrs", "_raj2000", "alpha_j2000", "ra_deg", "radeg", "ramean", "s_ra")
DEC_NAMES = (
    "dec",
    "decl",
    "dej2000",
    "de_icrs",
    "_dej2000",
    "delta_j2000",
    "dec_deg",
    "decdeg",
    "decmean",
    "s_dec",
)
LEAST_MARGIN = 10.0
"""arcsec; the margin cache reaches at least as far, so that the radius may grow without a new copy."""
_MOTION_YEARS = 60.0
_CELL_ROWS = 500_000
_FEW_ROWS = 100_000
_RING = 16
_FOOTPRINT_ORDER = 8
_FOOTPRINT = "footprint.npy"


def add_catalogue(
    source: str | Path | pd.DataFrame,
    name: str,
    radius: float,
    *,
    ra: str | None = None,
    dec: str | None = None,
    columns: Sequence[str] | None = None,
    nulls: Mapping[str, Sequence[Any]] | Sequence[Any] = (),
    units: Mapping[str, str] | None = None,
    radius_column: str = "",
    motion: tuple[str, str, float] | None = None,
    footprint: str | Path = "all",
    owner: str = "",
    root: str | Path | None = None,
    described: Mapping[str, tuple[str, str]] | None = None,
    origin: str = "",
    listed: bool = False,
    tell: Callable[[str], None] = warnings.warn,
) -> Description:
    """Add a catalogue, or a new version of one, that filters read as `name.column`.

    Parameters
    ----------
    source
        A file (CSV, FITS, VOTable, Parquet), or a pandas frame.
    name
        Lower-case letters, digits and _.
    radius
        arcsec within which a source matches.
    ra, dec
        Columns of ICRS positions in degrees; found by their usual names where left out.
    columns
        Which columns to keep; all of them where left out.
    nulls
        Numbers or words that mean "missing": for every column, or for each by name.
    units
        Column -> unit, for what the file does not say itself.
    radius_column
        A column with each source's own radius in arcsec (a watchlist); `radius` is then not used.
    motion
        Columns of proper motion (mas/yr, in ra times cos dec; in dec) and the epoch of the positions
        (Julian year): sources are taken to the time of the alert.
    footprint
        "all" (the whole sky), "sources" (cells of 14 arcmin that have a source, and those around them) or
        a MOC file (FITS): where "no match" means that there is no source.
    owner
        Whom to ask about it.
    root
        The folder of external information; ZADS_EXTERNAL, else `external` in ZADS_HOME, where left out.
    described
        Of a frame: column -> unit and meaning, as its file said.
    origin
        Of a frame: where it came from.
    listed
        Whether it is a watchlist, which people edit row by row.
    tell
        Told in words which rows are left out, if any.

    Returns
    -------
    Description
        Of the version that is in use now. The same content again gives the same version and is written once.

    Raises
    ------
    ExternalError
        For a file that cannot be read, a name that cannot be used or that something else has, positions
        that are not there, a row whose own radius is no number above 0.
    """
    if not NAME.fullmatch(name):
        raise ExternalError(f"catalogue name {name!r}: a lower-case letter, then letters, digits and _")
    if radius <= 0:
        raise ExternalError(f"the radius of {name} is {radius} arcsec; it must be more than 0")
    store = Store(root)
    store.refuse_other(name, {"watchlist" if listed else "catalogue"})
    frame, said = read_table(source)
    frame = _renamed(frame, columns, {c for c in (ra, dec, radius_column, *(motion or ())[:2]) if c})
    ra, dec = _position(frame, ra, RA_NAMES), _position(frame, dec, DEC_NAMES)
    frame = _with_places(frame, ra, dec, name, tell)
    frame = _with_radii(frame, radius_column, name).reset_index(drop=True)
    meant = column_meanings(frame, described or said, nulls, units or {})
    moving = Motion(*motion) if motion else None
    margin = max(LEAST_MARGIN, _widest(frame, radius, radius_column), radius) + _travel(frame, moving)
    options = repr((name, radius, margin, ra, dec, meant, moving, radius_column, str(footprint)))
    about: dict[str, Any] = {
        "name": name,
        "version": version_of(frame, options),
        "rows": len(frame),
        "radius": float(radius),
        "margin": margin,
        "ra": ra,
        "dec": dec,
        "columns": meant,
        "motion": moving,
        "radius_column": radius_column,
        "source": (origin or "a frame") if isinstance(source, pd.DataFrame) else Path(source).name,
        "added": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "owner": owner,
        "listed": listed,
    }
    covered = _footprint(footprint, frame[ra].to_numpy(), frame[dec].to_numpy())
    made = Description(**about, primary=name, footprint="all" if covered is None else _FOOTPRINT)
    store.add(name, made.version, made.plain(), lambda folder: _write(folder, frame, made, covered))
    return describe(store, name)


def read_table(source: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
    """A table as pandas, and what the file says of its columns: unit and meaning. Raises ExternalError."""
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True), {}
    path = Path(source)
    if not path.exists():
        raise ExternalError(f"no file at {path}")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return exact(pd.read_parquet(path, dtype_backend="numpy_nullable")), {}
        if path.suffix.lower() in (".csv", ".txt", ".tsv"):
            with path.open(encoding="utf-8-sig") as lines:
                mark = delimiter(header(lines))
            read = pd.read_csv(path, sep=mark, comment="#", dtype_backend="numpy_nullable", low_memory=False)
            return exact(read), {}
        return _by_astropy(path)
    except Exception as error:  # a parser of any format may raise anything
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ExternalError(f"{path} cannot be read as a table: {why}") from error


def exact(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with NumPy's types, but for whole numbers with gaps: long identifiers are no floats."""
    plain: dict[str, Any] = {"Int64": "int64", "Float64": "float64", "boolean": "bool", "string": "object"}
    for name in frame.columns:
        kind = str(frame[name].dtype)
        if kind in plain and (kind in ("Float64", "string") or not frame[name].hasnans):
            frame[name] = frame[name].astype(plain[kind])
    return frame


def _by_astropy(path: Path) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
    from astropy.table import Table

    table = Table.read(path)
    several = [name for name in table.colnames if table[name].ndim > 1]
    table.remove_columns(several)  # arrays in a cell are no columns that a filter could read
    said = {
        name: (str(table[name].unit or ""), str(table[name].description or "")) for name in table.colnames
    }
    return table.to_pandas(), said


def _renamed(frame: pd.DataFrame, columns: Sequence[str] | None, needed: set[str]) -> pd.DataFrame:
    """The columns that are kept, renamed to names that are valid in Python and TOML."""
    if columns is not None:
        for column in columns:
            if column not in frame.columns:
                raise ExternalError(f"no column {column!r}; {near_names(column, frame.columns)}")
        places = [c for c in frame.columns if str(c).lower() in (*RA_NAMES, *DEC_NAMES) or c in needed]
        frame = frame[list(dict.fromkeys([*columns, *places]))]
    return frame.rename(columns={c: plain_name(str(c)) for c in frame.columns})


def plain_name(name: str) -> str:
    """A column's name as filters can write it."""
    return re.sub(r"\W", "_", name)


def _position(frame: pd.DataFrame, named: str | None, usual: Sequence[str]) -> str:
    if named is not None:
        if named not in frame.columns:
            raise ExternalError(f"no column {named!r}; {near_names(named, frame.columns)}")
        return named
    lower = {str(column).lower(): str(column) for column in reversed(frame.columns)}
    for name in usual:
        if name in lower:
            return lower[name]
    raise ExternalError(
        f"no column looks like {usual[0]} in degrees (there are {', '.join(map(str, frame.columns))})",
        hint="name it: --ra COLUMN --dec COLUMN",
    )


def in_words_left_out(gone: pd.Series, why: str) -> str:
    """ "2 rows are left out: … (the first is row 4)"; "" for none.

    gone: of each row, counted from 1, whether it is left out. why: what they have not.
    """
    count = int(gone.sum())
    if not count:
        return ""
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    return f"{rows} left out, without {why} (the first is row {int(gone.to_numpy(bool).argmax()) + 1:,})"


def without_place(frame: pd.DataFrame, ra: str, dec: str) -> pd.Series:
    """Of each row whether it has no place on the sky: (n,) flags.

    Parameters
    ----------
    frame
        A row a source.
    ra, dec
        Its columns of places, degrees.
    """
    places = frame[[ra, dec]].apply(pd.to_numeric, errors="coerce")
    usable = places[ra].between(0, 360) & places[dec].between(-90, 90)
    return ~usable.fillna(False).astype(bool)


def without_radius(frame: pd.DataFrame, column: str) -> pd.Series:
    """Of each row whether its own radius is no number above 0: (n,) flags.

    frame: a row a source. column: the name of its radii, arcsec.
    """
    radii = pd.to_numeric(frame[column], errors="coerce").to_numpy(float, na_value=np.nan)
    return pd.Series(~((radii > 0) & np.isfinite(radii)), index=frame.index)


def _with_places(
    frame: pd.DataFrame, ra: str, dec: str, name: str, tell: Callable[[str], None]
) -> pd.DataFrame:
    """The rows that have a place on the sky. Raises ExternalError when that is none, or not degrees."""
    places = frame[[ra, dec]].apply(pd.to_numeric, errors="coerce")
    gone = without_place(places, ra, dec)
    wanted = f"{ra} from 0 to 360 and {dec} from -90 to 90 degrees"
    if gone.all():
        raise ExternalError(f"no row of {name} has {wanted}")
    if said := in_words_left_out(gone, wanted):
        tell(f"{name}: {said}")
    usable = ~gone
    kept = frame[usable].copy()
    kept[ra], kept[dec] = places[ra][usable].to_numpy(float) % 360, places[dec][usable].to_numpy(float)
    return kept


def column_meanings(
    frame: pd.DataFrame,
    described: Mapping[str, tuple[str, str]],
    nulls: Mapping[str, Sequence[Any]] | Sequence[Any] = (),
    units: Mapping[str, str] | None = None,
) -> dict[str, CatalogueColumn]:
    """What each column of a table holds.

    Parameters
    ----------
    frame
        The table.
    described
        Column -> unit and meaning, as its file says.
    nulls, units
        As for `add_catalogue`.

    Raises
    ------
    ExternalError
        For a name that is none of its columns.
    """
    units, meant = units or {}, {}
    said = {plain_name(name): words for name, words in described.items()}
    for column in map(str, frame.columns):
        unit, meaning = said.get(column, ("", ""))
        missing = nulls.get(column, ()) if isinstance(nulls, Mapping) else nulls
        kind = _kind(frame[column])
        words = [value for value in missing if isinstance(value, str) == (kind == "text")]
        meant[column] = CatalogueColumn(kind, units.get(column, unit), meaning, tuple(words))
    for wrong in set(units) | (set(nulls) if isinstance(nulls, Mapping) else set()):
        if wrong not in meant:
            raise ExternalError(f"no column {wrong!r}; {near_names(str(wrong), meant)}")
    return meant


def _kind(column: pd.Series) -> Kind:
    if pd.api.types.is_bool_dtype(column.dtype):
        return "flag"
    if pd.api.types.is_integer_dtype(column.dtype):
        return "integer"
    return "number" if pd.api.types.is_float_dtype(column.dtype) else "text"


def _with_radii(frame: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    """The rows with their own radii as numbers. Raises ExternalError for a row that has none above 0."""
    if not column:
        return frame
    if column not in frame.columns:
        raise ExternalError(f"no column {column!r}; {near_names(column, frame.columns)}")
    if (wrong := without_radius(frame, column)).any():
        row, value = int(frame.index[wrong][0]), frame.loc[wrong, column].iloc[0]
        told = "empty" if pd.isna(value) else repr(value) if isinstance(value, str) else f"{value}"
        raise ExternalError(
            f"{name}: {column} of row {row + 1:,} is {told}; a radius is a number of arcsec above 0",
            hint=f"{int(wrong.sum()):,} such rows: give each a radius, or leave out the column of radii",
        )
    numbers = pd.api.types.is_numeric_dtype(frame[column].dtype)
    return frame if numbers else frame.assign(**{column: pd.to_numeric(frame[column])})


def _widest(frame: pd.DataFrame, radius: float, radius_column: str) -> float:
    if not radius_column:
        return radius
    return float(frame[radius_column].max())


def _travel(frame: pd.DataFrame, motion: Motion | None) -> float:
    """arcsec that the fastest source may move away from its position within decades."""
    if motion is None:
        return 0.0
    for column in (motion.pmra, motion.pmdec):
        if column not in frame.columns:
            raise ExternalError(f"no column {column!r}; {near_names(column, frame.columns)}")
    fastest = np.hypot(frame[motion.pmra].fillna(0), frame[motion.pmdec].fillna(0)).max()
    return float(fastest) / 1000 * _MOTION_YEARS


def version_of(frame: pd.DataFrame, options: str) -> str:
    """A version's name: a hash over a table and what was said of it."""
    content = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    digest = hashlib.sha256(options.encode() + ",".join(map(str, frame.columns)).encode())
    digest.update(content.tobytes())
    return digest.hexdigest()[:12]


def _write(folder: Path, frame: pd.DataFrame, about: Description, covered: np.ndarray | None) -> None:
    """The files of a version: HATS, and the footprint."""
    _write_hats(folder, frame, about)
    if covered is not None:
        np.save(folder / _FOOTPRINT, covered)


def _write_hats(folder: Path, frame: pd.DataFrame, about: Description) -> None:
    """A HATS collection: the catalogue, and its margin cache where a source is near a cell's edge."""
    import dask
    import lsdb

    def of_margin(margin: float | None) -> Any:
        return lsdb.from_dataframe(
            frame,
            ra_column=about.ra,
            dec_column=about.dec,
            catalog_name=about.name,
            partition_rows=_CELL_ROWS,
            margin_threshold=margin,
            should_generate_moc=False,
        )

    with dask.config.set(scheduler="threads", num_workers=1):
        # lsdb compiles the code that makes a margin for 20 s: a table of targets seldom needs one.
        made = of_margin(None) if len(frame) <= _FEW_ROWS else None
        if made is None or _near_an_edge(frame, about, made.get_healpix_pixels()):
            made = of_margin(about.margin)
        made.write_catalog(folder, progress_bar=False, should_write_skymap=False, overwrite=True)


def _near_an_edge(frame: pd.DataFrame, about: Description, cells: Sequence[Any]) -> bool:
    """Whether a source is nearer to the edge of its cell than the margin: a ring around it crosses it."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    sources = SkyCoord(frame[about.ra].to_numpy(), frame[about.dec].to_numpy(), unit="deg")
    angles = np.arange(_RING) * 360 / _RING
    # Slightly wider than the margin, so that no edge passes between two points of the ring.
    ring = sources[:, None].directional_offset_by(angles * u.deg, 1.1 * about.margin * u.arcsec)
    own = healpix(sources.ra.deg, sources.dec.deg)
    around = healpix(ring.ra.deg.ravel(), ring.dec.deg.ravel()).reshape(ring.shape)
    for cell in cells:
        shift = 2 * (29 - cell.order)
        inside = own >> shift == cell.pixel
        if (around[inside] >> shift != cell.pixel).any():
            return True
    return False


def _footprint(footprint: str | Path, ra: np.ndarray, dec: np.ndarray) -> np.ndarray | None:
    """(n, 2) int64 ranges of HEALPix cells of order 29; None for the whole sky."""
    from mocpy import MOC

    if footprint == "all":
        return None
    if footprint == "sources":
        cells = np.unique(healpix(ra, dec) >> 2 * (29 - _FOOTPRINT_ORDER))
        depth = np.full(len(cells), _FOOTPRINT_ORDER, np.uint8)
        moc = MOC.from_healpix_cells(cells.astype(np.uint64), depth, _FOOTPRINT_ORDER).add_neighbours()
    else:
        try:
            moc = MOC.load(str(footprint), format="fits")
        except Exception as error:
            raise ExternalError(f"{footprint} is no MOC in FITS: {error}") from error
    return np.asarray(moc.to_depth29_ranges, np.int64)
