"""What the words mean in the data: night, positive, detection, missing, public; in one place, for every room.

Each function takes a number or an array and answers in kind. The source is the ZTF alert schema
(https://zwickytransientfacility.github.io/ztf-avro-alert/schema.html) and what 203 real packets showed.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

FIRST_NIGHT_JD = 2457754.5
"""JD of 2017-01-01T00:00 UTC, ZTF's night 0: `nid` = floor(jd - 2457754.5) on all 203 real packets."""

NIGHT_SHIFT = MappingProxyType({"ztf": 0.0, "lsst": 0.5})
"""Days taken from UTC before the date is read: a ZTF night is the UT date, a Rubin night UTC - 12 h."""

MINUTES = 1440.0
"""Minutes in a day."""

PUBLIC_PROGRAMID = 1
"""The one `programid` whose alerts everybody may see."""

FLUX_ZEROPOINT = 25.0
"""Magnitude of one unit of `flux`."""

POSITIVE = ("t", "1")
"""What `isdiffpos` says of a source brighter than in the reference image; "f" and "0" are negative."""

NO_NAME = "null"
"""`ssnamenr` holds this word when no solar-system object is near."""

USABLE_STATUS = "0"
"""`procstatus` of a clean forced-photometry measurement ("56" and its kin carry a flux with a warning)."""

REWRITTEN_SSDISTNR = 60.0
"""arcsec; `ssdistnr` of packets rewritten by another broker, where there is no object (`ssnamenr` missing).

Two real packets have 60 with a name, so the number alone does not say "missing"."""


PUBLIC_PROGRAMID = 1
"""The public survey; 2 is the collaboration's, 3 Caltech's."""


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


MISSING: Mapping[str, Mapping[str, float | str]] = MappingProxyType(
    {"ztf": MappingProxyType(_sentinels()), "lsst": MappingProxyType({})}
)
"""Survey -> column -> the value that means "missing" and that a filter sees as NaN (or null)."""

FORCED_SNR = 3.0
"""A forced flux of so many times its error is a measurement; a fainter one is a limit."""

FORCED_MISSING = -99999.0
"""Means "missing" in any number of `fp_hists`."""


def sentinel(name: str, survey: str = "ztf") -> float | str | None:
    """The value that means "missing" in the column `name`; None where the column has none."""
    if survey == "ztf" and name.startswith("fp_hists."):
        return FORCED_MISSING
    return MISSING.get(survey, {}).get(name)


def night(jd: Any, survey: str = "ztf") -> Any:
    """Night number (days; ZTF's `nid`) of a Julian date in days UTC; NaN for a missing date."""
    return np.floor(np.asarray(jd, float) - (FIRST_NIGHT_JD + NIGHT_SHIFT.get(survey, 0.0)))[()]


def is_positive(isdiffpos: str | None) -> bool:
    """True when the source is brighter than in the reference image; missing is not positive."""
    return isdiffpos in POSITIVE


def is_detection(magpsf: float | None) -> bool:
    """True for a row of `prv_candidates` that is a detection: `magpsf` is there, of either sign, any `rb`.

    Without it the row is a non-detection, whose limit is `diffmaglim`.
    """
    return magpsf is not None and magpsf == magpsf


def forced_point(flux: Any, error: Any, zeropoint: Any) -> tuple[Any, Any]:
    """Magnitude of the absolute forced flux and its error (mag); NaN where the flux is no measurement.

    flux, error: DN. zeropoint: `magzpsci`, mag. A flux counts as measured from `FORCED_SNR` times its error,
    of either sign; the caller leaves out rows that are not `usable`.

    Source: Masci et al. (2023, arXiv:2305.16279), section 6.5: SNT = 3.
    """
    flux, error, zeropoint = (np.asarray(a, float) for a in (flux, error, zeropoint))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.abs(flux) / error
        real = (error > 0) & (snr >= FORCED_SNR) & np.isfinite(snr) & (zeropoint != FORCED_MISSING)
        magnitude = np.where(real, zeropoint - 2.5 * np.log10(np.abs(flux)), np.nan)
        return magnitude, np.where(real, 2.5 / np.log(10) / snr, np.nan)


def is_usable(forcediffimflux: float | None, procstatus: Any) -> bool:
    """True for a row of `fp_hists` whose flux can be used: it is there, and processed without a warning."""
    return (
        forcediffimflux is not None
        and forcediffimflux == forcediffimflux
        and forcediffimflux != FORCED_MISSING
        and str(procstatus) == USABLE_STATUS
    )


def is_public(programid: int | None) -> bool:
    """True when a packet (or a row of its histories) may be seen by everybody: exactly 1, nothing else."""
    return programid is not None and programid == PUBLIC_PROGRAMID


def signed_flux(magpsf: Any, positive: Any) -> npt.NDArray[np.float64]:
    """Difference flux 10^(-0.4 (magpsf - 25)), negative where the source is fainter than in the reference."""
    magnitude = np.asarray(magpsf, float)
    flux = np.full(magnitude.shape, np.nan)
    with np.errstate(over="ignore"):  # a sentinel among magnitudes is no reason for a warning
        np.power(10.0, -0.4 * (magnitude - FLUX_ZEROPOINT), out=flux, where=~np.isnan(magnitude))
    return np.where(positive, flux, -flux)
