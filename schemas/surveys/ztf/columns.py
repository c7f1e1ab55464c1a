"""ZTF's columns: which values mean "missing", and which columns are made from others."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.surveys.survey import Computed, Stored, floats
from schemas.time import night_of

FLUX_ZEROPOINT = 25.0
"""Magnitude of one unit of `flux`."""

POSITIVE = ("t", "1")
"""What `isdiffpos` says of a source brighter than in the reference image; "f" and "0" are negative."""

NO_NAME = "null"
"""`ssnamenr` holds this word when no solar-system object is near."""

USABLE_STATUS = "0"
"""`procstatus` of a clean forced-photometry measurement ("56" and others: a flux with a warning)."""

REWRITTEN_SSDISTNR = 60.0
"""arcsec; `ssdistnr` of packets rewritten by another broker, where there is no object (`ssnamenr` missing).

Two real packets have 60 with a name, so the number alone does not say "missing"."""

FORCED_SNR = 3.0
"""A forced flux of so many times its error is a measurement; a fainter one is a limit."""

FORCED_MISSING = -99999.0
"""Means "missing" in any number of `fp_hists`."""

BANDS = ("g", "r", "i")
"""The bands of `fid` 1, 2 and 3."""


def _sentinels() -> dict[str, float | str]:
    missing: dict[str, float | str] = {"ssdistnr": -999.0, "ssmagnr": -999.0, "ssnamenr": NO_NAME}
    for n in (1, 2, 3):
        for word in ("sgscore", "distpsnr", "sgmag", "srmag", "simag", "szmag", "objectidps"):
            missing[f"{word}{n}"] = -999
    for word in ("neargaia", "neargaiabright", "maggaia", "maggaiabright"):
        missing[word] = -999.0
    for word in ("ssdistnr", "ssmagnr", "ssnamenr"):
        missing[f"prv_candidates.{word}"] = missing[word]
    return missing


MISSING = _sentinels()
"""Column -> the value that means "missing"."""


def signed_flux(magpsf: Any, positive: Any) -> np.ndarray:
    """Difference flux 10^(-0.4 (magpsf - 25)), negative where the source is fainter than in the reference."""
    magnitude = np.asarray(magpsf, float)
    flux = np.full(magnitude.shape, np.nan)
    with np.errstate(over="ignore"):  # a sentinel among magnitudes is no reason for a warning
        np.power(10.0, -0.4 * (magnitude - FLUX_ZEROPOINT), out=flux, where=~np.isnan(magnitude))
    return np.where(positive, flux, -flux)


def _night(stored: Stored, prefix: str) -> np.ndarray:
    return np.asarray(night_of(floats(stored[f"{prefix}jd"])))


def _positive(stored: Stored, prefix: str) -> np.ndarray:
    words = stored[f"{prefix}isdiffpos"]
    if pa.types.is_null(words.type):
        return np.zeros(len(words), bool)
    positive: np.ndarray = pc.is_in(words, pa.array(POSITIVE, words.type)).to_numpy(zero_copy_only=False)
    return positive


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
    return np.where(rewritten | (distance == MISSING["ssdistnr"]), np.nan, distance)


def _usable(stored: Stored, prefix: str) -> np.ndarray:
    flux, status = floats(stored[f"{prefix}forcediffimflux"]), stored[f"{prefix}procstatus"]
    clean = pc.fill_null(pc.equal(status.cast(pa.large_string()), USABLE_STATUS), False)
    usable: np.ndarray = clean.to_numpy(zero_copy_only=False) & ~np.isnan(flux) & (flux != FORCED_MISSING)
    return usable


def forced_point(flux: Any, error: Any, zeropoint: Any) -> tuple[Any, Any]:
    """Magnitude of the absolute forced flux and its error (mag); NaN where the flux is not a detection.

    A flux of either sign is a detection when it is at least `FORCED_SNR` times its error. The caller leaves
    out rows that are not `usable`.

    Parameters
    ----------
    flux
        Forced flux on the difference image, DN.
    error
        Its standard deviation, DN.
    zeropoint
        `magzpsci`, mag.

    Source
    ------
    Masci et al. (2023, arXiv:2305.16279), section 6.5: SNT = 3.
    """
    flux, error, zeropoint = (np.asarray(a, float) for a in (flux, error, zeropoint))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.abs(flux) / error
        real = (error > 0) & (snr >= FORCED_SNR) & np.isfinite(snr) & (zeropoint != FORCED_MISSING)
        magnitude = np.where(real, zeropoint - 2.5 * np.log10(np.abs(flux)), np.nan)
        return magnitude, np.where(real, 2.5 / np.log(10) / snr, np.nan)


def _point(stored: Stored, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    names = ("forcediffimflux", "forcediffimfluxunc", "magzpsci")
    return forced_point(*(floats(stored[prefix + name]) for name in names))


def _forced_mag(stored: Stored, prefix: str) -> np.ndarray:
    """fp_hists is in DN: mag = magzpsci - 2.5 log10(flux)."""
    flux, zeropoint = floats(stored[f"{prefix}forcediffimflux"]), floats(stored[f"{prefix}magzpsci"])
    real = (flux > 0) & (zeropoint != FORCED_MISSING)
    magnitude: np.ndarray = zeropoint - 2.5 * np.log10(np.where(real, flux, np.nan))
    return magnitude


def _band(stored: Stored, prefix: str) -> pa.Array:
    number = stored[f"{prefix}fid"].cast(pa.int32())
    index = pc.index_in(number, pa.array([1, 2, 3], pa.int32()))
    return pa.array(BANDS, pa.string()).take(index)


def _same(name: str) -> Computed:
    """A number under its common name."""
    return Computed((name,), lambda stored, prefix: floats(stored[prefix + name]))


_POINT = ("forcediffimflux", "forcediffimfluxunc", "magzpsci")
_TIME = {"night": Computed(("jd",), _night)}
_WHERE = {
    "band": Computed(("fid",), _band),
    "exposure": Computed(("pid",), lambda stored, prefix: stored[f"{prefix}pid"].cast(pa.int64())),
}

PAST = {
    **_TIME,
    **_WHERE,
    "positive": Computed(("isdiffpos",), _positive),
    "flux": Computed(("magpsf", "isdiffpos"), _flux),
    "ssdistnr": Computed(("ssdistnr", "ssnamenr"), _ssdistnr),
    "mag": _same("magpsf"),
    "magerr": _same("sigmapsf"),
}
"""Computed columns of each row of `prv_candidates`."""

ALERT = PAST
"""Computed columns of an alert: the same."""

FORCED = {
    **_TIME,
    **_WHERE,
    "usable": Computed(("forcediffimflux", "procstatus"), _usable),
    "mag": Computed(("forcediffimflux", "magzpsci"), _forced_mag),
    "positive": Computed(
        ("forcediffimflux",), lambda stored, prefix: floats(stored[f"{prefix}forcediffimflux"]) > 0
    ),
    "point": Computed(_POINT, lambda stored, prefix: _point(stored, prefix)[0]),
    "pointerr": Computed(_POINT, lambda stored, prefix: _point(stored, prefix)[1]),
}
"""Computed columns of each row of `fp_hists`."""
