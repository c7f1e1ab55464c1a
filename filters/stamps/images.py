"""Stamps of many alerts as one array of pixels. A stamp that is missing or damaged is an image of NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from schemas.errors import PacketError
from schemas.packets.packet import pixels

SIDE = 63
"""Rows and columns of a ZTF stamp. Others are cut, or surrounded by NaN, about their middle pixel."""


@dataclass(frozen=True)
class Images:
    """Stamps of n alerts.

    pixels: float32 (n, SIDE, SIDE), rows and columns as in the file, NaN where there is no measurement.
    there: bool (n,), whether the stamp could be read.
    """

    pixels: np.ndarray
    there: np.ndarray

    def __len__(self) -> int:
        return len(self.there)


def images(stamps: pd.Series, side: int = SIDE) -> Images:
    """The stamps of a column of FITS files, gzipped or plain.

    Parameters
    ----------
    stamps
        A column such as `alerts["cutoutDifference.stampData"]`: bytes, null where there is none.
    side
        Rows and columns of each image; an odd number, pixels.
    """
    found = np.full((len(stamps), side, side), np.nan, np.float32)
    there = np.zeros(len(stamps), bool)
    for number, data in enumerate(stamps.array):
        if not isinstance(data, bytes) or not data:
            continue
        try:
            _put(pixels(data), found[number])
        except PacketError:
            continue
        there[number] = True
    return Images(found, there)


def _put(image: np.ndarray, into: np.ndarray) -> None:
    """Lay an image upon another, middle on middle."""
    (from_row, to_row), (from_column, to_column) = (
        _overlap(here, there) for here, there in zip(image.shape, into.shape, strict=True)
    )
    into[to_row, to_column] = image[from_row, from_column]


def _overlap(here: int, there: int) -> tuple[slice, slice]:
    """The part of a length that another of `there` pixels can hold about the middle, in both."""
    length = min(here, there)
    begin, into = here // 2 - length // 2, there // 2 - length // 2
    return slice(begin, begin + length), slice(into, into + length)
