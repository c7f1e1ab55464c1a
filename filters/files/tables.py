"""FITS, VOTable, Parquet and CSV as columns. This runs in the sandbox, whatever a parser does to itself."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from filters.files.columns import MOST_COLUMNS, MOST_LETTERS, MOST_ROWS, Column

_COMMENTS = 1000
"""Lines that may be comments."""
_MARKS = ",\t;|"
"""What may be between two columns, beside white space."""


class BadFile(Exception):
    """A file that is not what it claims to be, or too much."""


def parquet(raw: bytes) -> list[Column]:
    """The flat columns of a Parquet file. Raises BadFile, and whatever Arrow raises."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(raw), pre_buffer=False)
    _refuse_more_than(file.metadata.num_rows, MOST_ROWS, "rows")
    schema = file.schema_arrow
    flat = [field.name for field in schema if not pa.types.is_nested(field.type)]
    _refuse_more_than(len(flat), MOST_COLUMNS, "columns")
    table = file.read(columns=flat, use_threads=False)
    whole = {getattr(pa, f"{sign}int{n}")(): pd.Int64Dtype() for sign in ("", "u") for n in (8, 16, 32)}
    whole |= {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    return list(_columns(table.to_pandas(types_mapper=whole.get, use_threads=False), {}))


def header(lines: Iterable[str]) -> str:
    """The first of some lines that has more than a comment; "" for none."""
    return next((line for line in lines if line.partition("#")[0].strip()), "")


def delimiter(first: str) -> str:
    """What is between the columns of a table in text, as pandas takes it.

    first: the line with the names. Of comma, tab, semicolon and bar the one that it has most, outside quotes;
    white space where it has none of them; a comma where it has one name only.
    """
    bare = re.sub(r'"[^"]*"', "quoted", first.partition("#")[0]).strip(" \r\n")
    most = max(_MARKS, key=bare.count)
    if most in bare:
        return most
    return r"\s+" if len(bare.split()) > 1 else ","


def comma_separated(raw: bytes) -> list[Column]:
    """A table in text: separated by commas, tabs, semicolons, bars or spaces. Raises BadFile."""
    text = raw.decode("utf-8-sig")
    if "\0" in text:
        raise BadFile("it holds zero bytes: it is no text")
    if not (first := header(text.splitlines())):
        raise BadFile("it has no line with names of columns")
    _refuse_more_than(text.count("\n"), MOST_ROWS + _COMMENTS, "lines")
    mark = delimiter(first)
    columns = len(first.split()) if mark == r"\s+" else 1 + first.count(mark)
    _refuse_more_than(columns, 2 * MOST_COLUMNS, "columns")  # some may be within quotes
    frame = pd.read_csv(
        io.StringIO(text),
        sep=mark,
        engine="c",
        comment="#",
        dtype_backend="numpy_nullable",
        low_memory=False,
    )
    return list(_columns(frame, {}))


def fits(raw: bytes) -> list[Column]:
    """The first table of a FITS file. Raises BadFile, and whatever astropy raises."""
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(io.BytesIO(raw), memmap=False, lazy_load_hdus=True) as hdus:
        for hdu in hdus:
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
                rows, size = hdu.header.get("NAXIS2", 0), hdu.header.get("NAXIS1", 0)
                _refuse_more_than(rows, MOST_ROWS, "rows")
                _refuse_more_than(hdu.header.get("TFIELDS", 0), MOST_COLUMNS, "columns")
                if rows * size > 50 * max(len(raw), 10_000_000):
                    raise BadFile(f"its header tells of {rows * size:,} bytes, it has {len(raw):,}")
                return _by_astropy(Table.read(hdu))
    raise BadFile("it has no table")


def votable(raw: bytes) -> list[Column]:
    """The first table of a VOTable. Raises BadFile, and whatever astropy raises."""
    from astropy.io.votable import parse_single_table

    text = raw.decode("utf-8-sig")  # another encoding could hide what is looked for here
    if "\0" in text or re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.I):
        raise BadFile("it defines a document type or entities, which no table needs")
    if re.search(r"<\s*STREAM\b[^>]*\bhref\b", text, re.I):
        raise BadFile("its rows are in another file: send one file that holds all")
    _refuse_more_than(text.count("<TR>"), MOST_ROWS, "rows")
    table = parse_single_table(io.BytesIO(raw), verify="ignore").to_table(use_names_over_ids=True)
    return _by_astropy(table)


READERS: dict[str, tuple[str, Callable[[bytes], list[Column]]]] = {
    ".parquet": ("Parquet", parquet),
    ".pq": ("Parquet", parquet),
    ".csv": ("CSV", comma_separated),
    ".tsv": ("CSV", comma_separated),
    ".txt": ("CSV", comma_separated),
    ".fits": ("FITS", fits),
    ".fit": ("FITS", fits),
    ".vot": ("VOTable", votable),
    ".votable": ("VOTable", votable),
    ".xml": ("VOTable", votable),
}
"""Ending of a file's name -> what it is called, and how it is read."""


def _refuse_more_than(count: Any, most: int, what: str) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise BadFile(f"it does not say how many {what} it has")
    if count > most:
        raise BadFile(f"it has {count:,} {what}, {most:,} may be")


def _by_astropy(table: Any) -> list[Column]:
    said = {n: (str(table[n].unit or ""), str(table[n].description or "")) for n in table.colnames}
    table.remove_columns([name for name in table.colnames if table[name].ndim > 1])
    return list(_columns(table.to_pandas(), said))


def _columns(frame: pd.DataFrame, said: dict[str, tuple[str, str]]) -> Iterator[Column]:
    """Each column that a filter could read. Raises BadFile."""
    _refuse_more_than(len(frame), MOST_ROWS, "rows")
    _refuse_more_than(len(frame.columns), MOST_COLUMNS, "columns")
    for name in frame.columns:
        unit, meaning = said.get(name, ("", ""))
        yield _column(str(name), frame[name], unit[:50], meaning[:400])


def _column(name: str, values: Any, unit: str, meaning: str) -> Column:
    missing = values.isna().to_numpy(bool)
    kind = values.dtype
    if pd.api.types.is_bool_dtype(kind):
        flags = values.fillna(False).to_numpy(bool).astype(np.uint8)
        return Column(name, "flag", flags, missing, unit, meaning)
    if pd.api.types.is_unsigned_integer_dtype(kind) and (values.dropna() > 2**63 - 1).any():
        raise BadFile(f"column {name} has numbers beyond 64 bits with a sign")
    if pd.api.types.is_integer_dtype(kind):
        return Column(name, "integer", values.fillna(0).to_numpy(np.int64), missing, unit, meaning)
    if pd.api.types.is_float_dtype(kind):
        numbers = values.to_numpy(float, na_value=np.nan)
        return Column(name, "number", numbers, missing, unit, meaning)
    words = [None if gone else _word(one) for one, gone in zip(values, missing, strict=True)]
    if max((len(word) for word in words if word), default=0) > MOST_LETTERS:
        raise BadFile(f"column {name} has a text of more than {MOST_LETTERS:,} letters")
    return Column(name, "text", words, missing, unit, meaning)


def _word(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
