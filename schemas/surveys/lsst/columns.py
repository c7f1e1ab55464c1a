"""Rubin's columns: which values mean "missing", and which columns are made from others.

Fluxes are in nJy of the difference image, of either sign; times are MJD in TAI, shown as JD in UTC.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.surveys.survey import Computed, Make, Stored, floats
from schemas.time import jd_of_tai, night_of

AB_ZEROPOINT = 31.4
"""AB magnitude of 1 nJy. Source: Oke & Gunn 1983, ApJ 266, 713; 3631 Jy is magnitude 0."""

NIGHT_SHIFT = 0.5
"""Days: the night is the date of UTC - 12 h, as in the first digits of `visit` of LSSTCam's packets."""

ERROR_OF_MAG = 2.5 / np.log(10)
"""Error of a magnitude for a relative error of the flux."""

_IDS = ("diaObjectId", "ssObjectId", "parentDiaSourceId")

MISSING: dict[str, float | str] = {
    name: 0 for id_ in _IDS for name in (id_, f"prvDiaSources.{id_}", f"prvDiaForcedSources.{id_}")
}
"""An id that is absent is 0 (7.x, 9.0) or null (from 10.0)."""


def mag_of(flux: np.ndarray) -> np.ndarray:
    """AB magnitude of the absolute value of a flux in nJy; NaN for 0."""
    with np.errstate(divide="ignore"):
        magnitude = AB_ZEROPOINT - 2.5 * np.log10(np.abs(flux))
    return np.where(np.isfinite(magnitude), magnitude, np.nan)


def _jd(stored: Stored, prefix: str) -> np.ndarray:
    return jd_of_tai(floats(stored[f"{prefix}midpointMjdTai"]))


def _night(stored: Stored, prefix: str) -> np.ndarray:
    return np.asarray(night_of(_jd(stored, prefix), NIGHT_SHIFT))


def _exposure(stored: Stored, prefix: str) -> pa.Array:
    """visit x 1000 + detector: both can be read from the number."""
    visit, detector = (stored[prefix + name].cast(pa.int64()) for name in ("visit", "detector"))
    return pc.add(pc.multiply(visit, 1000), detector)


def _object_id(stored: Stored, prefix: str) -> pa.Array:
    """The diaObject's id, else "ss" and the ssObject's: ids of both kinds may be equal."""
    dia, ss = (_id(stored[name]) for name in ("diaObjectId", "ssObjectId"))
    moving = pc.binary_join_element_wise("ss", ss.cast(pa.string()), "")
    return pc.coalesce(dia.cast(pa.string()), moving)


def _id(column: pa.Array) -> pa.Array:
    """An id column, null where it is absent."""
    column = column.cast(pa.int64())
    return pc.if_else(pc.equal(column, 0), pa.scalar(None, pa.int64()), column)


def _true(column: pa.Array) -> np.ndarray:
    """A flag; missing is false."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column), bool)
    truth: np.ndarray = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return truth


def _positive(stored: Stored, prefix: str) -> np.ndarray:
    negative = stored[f"{prefix}isNegative"]
    if pa.types.is_null(negative.type):
        return np.zeros(len(negative), bool)
    positive: np.ndarray = pc.fill_null(pc.invert(negative), False).to_numpy(zero_copy_only=False)
    return positive


def _measured_flux(stored: Stored, prefix: str) -> np.ndarray:
    """psfFlux in nJy; NaN where it is flagged, or its sign is not that of the detection (dipoles)."""
    flux = floats(stored[f"{prefix}psfFlux"])
    wrong_sign = (flux > 0) != _positive(stored, prefix)
    return np.where(_true(stored[f"{prefix}psfFlux_flag"]) | wrong_sign, np.nan, flux)


def _mag(stored: Stored, prefix: str) -> np.ndarray:
    return mag_of(_measured_flux(stored, prefix))


def _magerr(stored: Stored, prefix: str) -> np.ndarray:
    flux, error = _measured_flux(stored, prefix), floats(stored[f"{prefix}psfFluxErr"])
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = ERROR_OF_MAG * error / np.abs(flux)
    return np.where(np.isfinite(relative), relative, np.nan)


def _usable(stored: Stored, prefix: str) -> np.ndarray:
    """A forced flux with its error that was not withdrawn."""
    flux, error = (floats(stored[prefix + name]) for name in ("psfFlux", "psfFluxErr"))
    withdrawn = floats(stored[f"{prefix}timeWithdrawnMjdTai"])
    return np.isfinite(flux) & (error > 0) & np.isnan(withdrawn)


def _forced_mag(stored: Stored, prefix: str) -> np.ndarray:
    flux = floats(stored[f"{prefix}psfFlux"])
    return mag_of(np.where(flux > 0, flux, np.nan))


def _same(name: str) -> Computed:
    """A number under its common name."""
    make: Make = lambda stored, prefix: floats(stored[prefix + name])  # noqa: E731
    return Computed((name,), make)


_TIME = {
    "jd": Computed(("midpointMjdTai",), _jd),
    "night": Computed(("midpointMjdTai",), _night),
    "exposure": Computed(("visit", "detector"), _exposure),
    "flux": _same("psfFlux"),
    "fluxerr": _same("psfFluxErr"),
}

PAST = {
    **_TIME,
    "positive": Computed(("isNegative",), _positive),
    "mag": Computed(("psfFlux", "psfFlux_flag", "isNegative"), _mag),
    "magerr": Computed(("psfFlux", "psfFluxErr", "psfFlux_flag", "isNegative"), _magerr),
    "candid": Computed(("diaSourceId",), lambda stored, prefix: stored[f"{prefix}diaSourceId"]),
}
"""Computed columns of each row of `prvDiaSources`."""

ALERT = {
    **{name: how for name, how in PAST.items() if name != "candid"},
    "objectId": Computed(("diaObjectId", "ssObjectId"), _object_id),
}
"""Computed columns of an alert."""

FORCED = {
    **_TIME,
    "mag": Computed(("psfFlux",), _forced_mag),
    "positive": Computed(("psfFlux",), lambda stored, prefix: floats(stored[f"{prefix}psfFlux"]) > 0),
    "point": _TIME["flux"],
    "pointerr": _TIME["fluxerr"],
    "usable": Computed(("psfFlux", "psfFluxErr", "timeWithdrawnMjdTai"), _usable),
}
"""Computed columns of each row of `prvDiaForcedSources`."""
