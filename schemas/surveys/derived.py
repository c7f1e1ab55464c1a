"""Columns that are made from stored ones: `positive`, `flux`, `ssdistnr`, forced photometry.

Each function takes the raw Arrow columns by name, and the prefix that they have in a history.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.surveys.definitions import (
    FORCED_MISSING,
    NO_NAME,
    POSITIVE,
    REWRITTEN_SSDISTNR,
    USABLE_STATUS,
    sentinel,
    signed_flux,
)

Stored = dict[str, pa.Array]
Derive = Callable[[Stored, str], np.ndarray]

MADE_FROM: dict[str, tuple[str, ...]] = {
    "night": ("jd",),
    "positive": ("isdiffpos",),
    "flux": ("magpsf", "isdiffpos"),
    "ssdistnr": ("ssdistnr", "ssnamenr"),
}
"""Derived column of an alert, and of each row of `prv_candidates` -> the stored columns it needs."""

MADE_FROM_FORCED: dict[str, tuple[str, ...]] = {
    "night": ("jd",),
    "usable": ("forcediffimflux", "procstatus"),
    "mag": ("forcediffimflux", "magzpsci"),
}
"""The same for `fp_hists`, which is in DN: mag = magzpsci - 2.5 log10(flux)."""


def floats(column: pa.Array) -> np.ndarray:
    """float64 with NaN for null; exact for float32 and 32-bit integers."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    return column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def _positive(stored: Stored, prefix: str) -> np.ndarray:
    words = stored[f"{prefix}isdiffpos"]
    if pa.types.is_null(words.type):
        return np.zeros(len(words), bool)
    return pc.is_in(words, pa.array(POSITIVE, words.type)).to_numpy(zero_copy_only=False)


def _flux(stored: Stored, prefix: str) -> np.ndarray:
    flux = signed_flux(floats(stored[f"{prefix}magpsf"]), _positive(stored, prefix))
    words = stored[f"{prefix}isdiffpos"]
    if words.null_count:  # without a sign there is no flux
        flux[words.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return flux


def _ssdistnr(stored: Stored, prefix: str) -> np.ndarray:
    distance, name = floats(stored[f"{prefix}ssdistnr"]), stored[f"{prefix}ssnamenr"]
    rewritten = distance == REWRITTEN_SSDISTNR
    if rewritten.any():
        nameless = pc.fill_null(pc.equal(name.cast(pa.large_string()), NO_NAME), True)
        rewritten &= nameless.to_numpy(zero_copy_only=False)
    return np.where(rewritten | (distance == sentinel("ssdistnr")), np.nan, distance)


def _usable(stored: Stored, prefix: str) -> np.ndarray:
    flux, status = floats(stored[f"{prefix}forcediffimflux"]), stored[f"{prefix}procstatus"]
    clean = pc.fill_null(pc.equal(status.cast(pa.large_string()), USABLE_STATUS), False)
    return clean.to_numpy(zero_copy_only=False) & ~np.isnan(flux) & (flux != FORCED_MISSING)


def _mag(stored: Stored, prefix: str) -> np.ndarray:
    flux, zeropoint = floats(stored[f"{prefix}forcediffimflux"]), floats(stored[f"{prefix}magzpsci"])
    real = (flux > 0) & (zeropoint != FORCED_MISSING)
    return zeropoint - 2.5 * np.log10(np.where(real, flux, np.nan))


MAKE: dict[str, Derive] = {"positive": _positive, "flux": _flux, "ssdistnr": _ssdistnr}
MAKE_FORCED: dict[str, Derive] = {"usable": _usable, "mag": _mag}
