"""What comes back of a file: columns of numbers, flags or short texts, as bytes that need no trust."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from filters.sandbox.wire import BadAnswer, Reader, pack_text, printable

MOST_ROWS, MOST_COLUMNS = 200_000, 200
MOST_LETTERS = 1000
"""Of a text in a cell."""
_MOST_NAME, _MOST_WORDS = 200, 2000
Kind = Literal["number", "integer", "flag", "text"]
_KINDS: tuple[Kind, ...] = ("number", "integer", "flag", "text")
_TYPES = {"number": "<f8", "integer": "<i8", "flag": "u1"}


class Column(NamedTuple):
    """A column of n rows.

    values: (n,) float64 with NaN, int64, or uint8 for flags; of texts a list with None. missing: (n,) bool,
    for whole numbers and flags.
    """

    name: str
    kind: Kind
    values: Any
    missing: np.ndarray
    unit: str = ""
    meaning: str = ""


def packed(columns: list[Column]) -> bytes:
    """Columns as bytes."""
    rows = len(columns[0].values) if columns else 0
    parts = [_number(rows), _number(len(columns))]
    for one in columns:
        parts += [pack_text(text) for text in (one.name, one.unit, one.meaning)]
        parts += [_number(_KINDS.index(one.kind)), np.packbits(one.missing).tobytes()]
        if one.kind == "text":
            words = ["" if word is None else word for word in one.values]
            parts += [pack_text(word) for word in words]
        else:
            parts.append(np.ascontiguousarray(one.values, _TYPES[one.kind]).tobytes())
    return b"".join(parts)


def unpacked(body: bytes) -> list[Column]:
    """The columns in bytes that anybody may have made. Raises BadAnswer."""
    reader = Reader(body)
    rows, columns = reader.at_most(MOST_ROWS), []
    for _ in range(reader.at_most(MOST_COLUMNS)):
        words = [printable(reader.text(most)) for most in (_MOST_NAME, _MOST_NAME, _MOST_WORDS)]
        number = reader.count()
        if number >= len(_KINDS):
            raise BadAnswer("its answer has a column of an unknown kind")
        missing = np.unpackbits(np.frombuffer(reader.take((rows + 7) // 8), np.uint8), count=rows).astype(
            bool
        )
        values = _values(reader, _KINDS[number], rows, missing)
        columns.append(Column(words[0], _KINDS[number], values, missing, words[1], words[2]))
    reader.end()
    return columns


def frame_of(columns: list[Column]) -> pd.DataFrame:
    """The columns as pandas: float64, int64 or Int64, bool, texts as objects with None."""
    return pd.DataFrame({one.name: _series(one) for one in columns})


def _series(one: Column) -> Any:
    if one.kind == "integer":
        return pd.array(one.values, "Int64") if not one.missing.any() else _with_gaps(one, "Int64")
    if one.kind == "flag":
        return one.values.astype(bool) if not one.missing.any() else _with_gaps(one, "boolean")
    return pd.Series(one.values, dtype=object) if one.kind == "text" else one.values


def _with_gaps(one: Column, kind: str) -> Any:
    made: Any = pd.array(one.values.astype(bool) if kind == "boolean" else one.values, kind)
    made[one.missing] = pd.NA
    return made


def _values(reader: Reader, kind: Kind, rows: int, missing: np.ndarray) -> Any:
    if kind == "text":
        words = [printable(reader.text(4 * MOST_LETTERS)) for _ in range(rows)]
        return [None if gone else word for word, gone in zip(words, missing, strict=True)]
    kind_of = np.dtype(_TYPES[kind])
    return np.frombuffer(reader.take(kind_of.itemsize * rows), kind_of)


def _number(value: int) -> bytes:
    return int(value).to_bytes(4, "little")
