"""Tables for other tools: CSV, ECSV, VOTable, FITS and Parquet, with units and meanings, as astropy reads
them.

TOPCAT, Aladin and other tools of the Virtual Observatory read the VOTable, the FITS and the ECSV as they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from schemas.dictionary import Word, words_of
from schemas.errors import ZadsError
from schemas.surveys.registry import survey_having

if TYPE_CHECKING:
    from astropy.table import Table

FORMATS = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".fits": "fits",
    ".parquet": "parquet",
}
"""Ending of a file's name -> astropy's name of the format."""

_UCDS = {
    "candid": "meta.id;meta.main",
    "objectId": "meta.id",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "jd": "time.epoch",
    "utc": "time.epoch",
    "night": "time.epoch",
    "band": "instr.bandpass",
    "mag": "phot.mag",
    "magerr": "stat.error;phot.mag",
    "flux": "phot.flux.density",
    "fluxerr": "stat.error;phot.flux.density",
}
"""What common columns are, for programs. Source: IVOA, The UCD1+ controlled vocabulary, version 1.5."""
_DATES = {"night": "date of the observing night", "utc": "when it was observed, UTC"}
"""Meanings of columns that hold dates."""
_SYSTEMS = {"ra": "icrs", "dec": "icrs", "jd": "utc"}
"""Column -> ID of the system that it is given in, in a VOTable."""

_MISSING_WHOLE = np.iinfo(np.int64).min


class NoSuchFormat(ZadsError):
    """A table cannot be written under this name."""


def to_astropy(
    frame: pd.DataFrame,
    survey: str | None = None,
    notes: Mapping[str, Any] | None = None,
    words: Mapping[str, Word] | None = None,
) -> Table:
    """A frame as an astropy Table: units and meanings where the survey has words for a column.

    Parameters
    ----------
    frame : pandas.DataFrame
        Whole numbers with missing values become masked columns, dates text in ISO form, booleans stay.
    survey : str, optional
        Whose words its columns are; where left out told by their names.
    notes : mapping, optional
        Goes into the table's metadata.
    words : mapping, optional
        Name -> word, of columns that are not the survey's.

    Returns
    -------
    astropy.table.Table
        Its strings are text of fixed width, "" where missing, so that every format can hold them.
    """
    from astropy.table import Column, MaskedColumn, Table

    known = {**words_of(survey or survey_having(map(str, frame.columns))), **(words or {})}
    table = Table(meta=dict(notes or {}))
    for name in map(str, frame.columns):
        word, is_date = known.get(name), pd.api.types.is_datetime64_any_dtype(frame[name].dtype)
        values = _plain(_whole(frame[name], word))
        kind = MaskedColumn if isinstance(values, np.ma.MaskedArray) else Column
        meaning = _DATES.get(name) if is_date else word.meaning if word is not None else None
        unit = None if is_date or word is None else _unit(word.unit)
        meta = {"ucd": _UCDS.get(name), "xtype": "timestamp" if is_date else None}
        told = {key: value for key, value in meta.items() if value is not None}
        table[name] = kind(values, unit=unit, description=meaning, meta=told)
    return table


def write_table(
    frame: pd.DataFrame,
    path: str | Path,
    survey: str | None = None,
    notes: Mapping[str, Any] | None = None,
    kind: str | None = None,
    words: Mapping[str, Word] | None = None,
) -> Path:
    """Write a frame in the format that the file's ending names.

    Parameters
    ----------
    frame : pandas.DataFrame
        See `to_astropy`.
    path : path
        Ends in one of FORMATS.
    survey : str, optional
        Whose words its columns are; where left out told by their names.
    notes : mapping, optional
        Metadata; CSV has no place for it.
    kind : str, optional
        A value of FORMATS, whatever the ending.
    words : mapping, optional
        Name -> word, of columns that are not the survey's.

    Raises
    ------
    NoSuchFormat
        For another ending.
    """
    path = Path(path)
    if kind is None:
        check_name(path)
        kind = FORMATS[path.suffix.lower()]
    path.parent.mkdir(parents=True, exist_ok=True)
    known = words_of(survey or survey_having(map(str, frame.columns)))
    frame = frame.assign(**{str(n): _whole(frame[n], known.get(str(n))) for n in frame.columns})
    if kind == "parquet":
        _write_parquet(frame, path, notes)
    elif kind == "ascii.csv":
        frame.to_csv(path, index=False)
    else:
        if kind == "fits":  # whose text is ASCII
            frame = _with_texts(frame, lambda text: text.encode("ascii", "replace").decode())
        table = to_astropy(frame, survey, _texts(notes, short=kind == "fits"), words)
        with warnings.catch_warnings(action="ignore"):  # of units and names that a format spells otherwise
            if kind == "votable":
                _write_votable(table, path)
            else:
                table.write(path, format=kind, overwrite=True)
    return path


def _write_votable(table: Table, path: Path) -> None:
    """With the systems of positions and times, and descriptions on one line each."""
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import CooSys, TimeSys

    made = from_table(table)
    recent = {"version_1_4_or_later": True}
    made.resources[0].coordinate_systems.append(CooSys("icrs", system="ICRS"))
    made.resources[0].time_systems.append(
        TimeSys("utc", timeorigin="JD-origin", timescale="UTC", refposition="TOPOCENTER", config=recent)
    )
    for field in made.get_first_table().fields:
        field.ref = _SYSTEMS.get(field.name)
    written = BytesIO()
    made.to_xml(written)
    head, data, rows = written.getvalue().partition(b"<DATA")
    flat = re.sub(rb"(?s)<DESCRIPTION>.*?</DESCRIPTION>", lambda one: b" ".join(one[0].split()), head)
    flat = re.sub(rb"(?<=<DESCRIPTION>) | (?=</DESCRIPTION>)", b"", flat)
    path.write_bytes(flat + data + rows)


def check_name(path: Path, *more: str) -> None:
    """Raises NoSuchFormat for an ending that names no format; more: endings that the caller writes itself."""
    if path.suffix.lower() not in (*FORMATS, *more):
        raise NoSuchFormat(f"cannot write {path}: its ending is none of {', '.join([*FORMATS, *more])}")


def _write_parquet(frame: pd.DataFrame, path: Path, notes: Mapping[str, Any] | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # astropy reads no missing text.
    table = pa.Table.from_pandas(_with_texts(frame, lambda text: text), preserve_index=False)
    told = {str(key).encode(): str(value).encode() for key, value in (notes or {}).items()}
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **told}), path)


def _with_texts(frame: pd.DataFrame, spell: Callable[[str], str]) -> pd.DataFrame:
    """The frame with its text spelled by a function, "" where it is missing."""
    texts = [name for name in frame.columns if pd.api.types.is_string_dtype(frame[name].dtype)]
    spelled = {n: ["" if pd.isna(one) else spell(str(one)) for one in frame[n]] for n in texts}
    return frame.assign(**{str(n): pd.array(values, dtype="str") for n, values in spelled.items()})


def _texts(notes: Mapping[str, Any] | None, short: bool) -> dict[str, str]:
    """Metadata as text; FITS has eight letters for a name and one line for a value."""
    told = {str(key): str(value) for key, value in (notes or {}).items()}
    return {key[:8]: value[:60].replace("\n", " ") for key, value in told.items()} if short else told


def _whole(column: pd.Series, word: Word | None) -> pd.Series:
    """Whole numbers that a filter sees as floats, NaN where missing, as whole numbers again."""
    if word is None or word.kind != "whole number" or not pd.api.types.is_float_dtype(column.dtype):
        return column
    numbers = column.to_numpy(float, na_value=np.nan)
    there = numbers[~np.isnan(numbers)]
    if not (np.abs(there) < 2**53).all() or (there != np.round(there)).any():
        return column
    return column.astype("Int64" if len(there) < len(numbers) else "int64")


def _plain(column: pd.Series) -> Any:
    """The values as NumPy has them."""
    if pd.api.types.is_bool_dtype(column.dtype):
        if column.isna().any():
            return np.ma.MaskedArray(column.fillna(False).to_numpy(bool), column.isna().to_numpy(bool))
        return column.to_numpy(bool)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _dates(column)
    if pd.api.types.is_integer_dtype(column.dtype):
        missing = column.isna().to_numpy(bool)
        whole = (column.fillna(_MISSING_WHOLE) if missing.any() else column).to_numpy(np.int64)
        return np.ma.MaskedArray(whole, missing) if missing.any() else whole
    if pd.api.types.is_float_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan)
    return np.array(["" if pd.isna(one) else str(one) for one in column], dtype=str)


def _dates(column: pd.Series) -> np.ndarray:
    """Dates as text: "2023-10-12", or with a time "2023-10-12T03:14:15.123"."""
    whole = (column.dropna().dt.normalize() == column.dropna()).all()
    form = "%Y-%m-%d" if whole else "%Y-%m-%dT%H:%M:%S.%f"
    texts = ["" if pd.isna(one) else one.strftime(form) for one in column]
    return np.array([text if whole else text[:23] for text in texts], dtype=str)


def _unit(name: str | None) -> Any:
    """astropy's unit; None for one that it does not know."""
    import astropy.units as u

    if not name:
        return None
    try:
        return u.Unit(name)
    except ValueError:
        return None
