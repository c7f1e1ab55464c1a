"""Makes templates.npz: the spectra of Hsiao et al. (2007, ApJ 663, 1187) through the passbands, on a grid.

    python -m filters.supernovae.make

The spectra are `hsiao-subsampled` of sncosmo, its one source that needs no download. They come with an
amplitude only: the stretch in time is applied where the table is read, the dust is applied here. A light
curve of the table is the flux in a band over that of the maximum in rest-frame B, without dust.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from filters.supernovae.passbands import Passband, passbands

TABLE = Path(__file__).with_name("templates.npz")
DAYS = np.arange(-20.0, 86.0)
DUST = np.array([-0.1, 0.0, 0.1, 0.2, 0.35])
REDSHIFTS = {
    "ztf": np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.09, 0.105, 0.12, 0.14, 0.16]),
    "lsst": np.array(
        [0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.26, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6]
    ),
}
"""Survey -> the redshifts at which it finds them."""

R_V = 3.1
REST_B = Passband(3850.0, 50.0, np.array([0.0, *np.ones(20), 0.0]))
"""The rest-frame B of the amplitude: a box from 3,900 to 4,900 Å, as for the simulated sky's supernovae."""


def dust_law(wavelength: np.ndarray) -> np.ndarray:
    """Extinction over that in V, A(λ) / A(V).

    Parameters
    ----------
    wavelength
        Å, (n,), 1,000 to 33,000.

    Source
    ------
    Cardelli, Clayton & Mathis (1989, ApJ 345, 245), equations 2 to 4, with R_V = 3.1.
    """
    x = 1e4 / np.asarray(wavelength, float)  # 1/µm
    y = x - 1.82
    optical = (
        np.polyval([0.32999, -0.77530, 0.01979, 0.72085, -0.02427, -0.50447, 0.17699, 1.0], y),
        np.polyval([-2.09002, 5.30260, -0.62251, -5.38434, 1.07233, 2.28305, 1.41338, 0.0], y),
    )
    beyond = np.clip(x - 5.9, 0, None)
    ultraviolet = (
        1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341) - 0.04473 * beyond**2 - 0.009779 * beyond**3,
        -3.090 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263) + 0.2130 * beyond**2 + 0.1207 * beyond**3,
    )
    infrared = 0.574 * x**1.61, -0.527 * x**1.61
    a, b = (
        np.select([x < 1.1, x < 3.3], [red, middle], blue)
        for red, middle, blue in zip(infrared, optical, ultraviolet, strict=True)
    )
    return np.asarray(a + b / R_V)


def flux_in(band: Passband, spectra: Any, redshift: float, dust: float) -> np.ndarray:
    """Flux of each day over that of an object of AB magnitude 0, in arbitrary units, (days,).

    Parameters
    ----------
    band
        The passband, in the observer's frame.
    spectra
        sncosmo's source: flux by rest-frame day and wavelength.
    redshift
        Of the supernova; the dimming by distance is left out.
    dust
        E(B-V), mag, in the supernova's own frame.
    """
    wave = np.arange(band.wavelength[0], band.wavelength[-1], 5.0)
    weight = np.interp(wave, band.wavelength, band.transmission) * wave  # photons
    rest = wave / (1 + redshift)
    light = spectra.flux(DAYS, rest) * 10 ** (-0.4 * R_V * dust * dust_law(rest)) / (1 + redshift)
    return np.asarray((light * weight).sum(1) / (weight / wave**2).sum())


def compute() -> dict[str, np.ndarray]:
    """The arrays of the table: for each survey `<survey>` (band, redshift, dust, day), with its grid."""
    import sncosmo
    from astropy.cosmology import FlatLambdaCDM

    spectra = sncosmo.get_source("hsiao-subsampled")
    peak = flux_in(REST_B, spectra, 0.0, 0.0).max()
    found: dict[str, np.ndarray] = {"days": DAYS, "dust": DUST}
    for survey, redshifts in REDSHIFTS.items():
        bands = passbands(survey)
        light = [
            [[flux_in(band, spectra, z, dust) / peak for dust in DUST] for z in redshifts]
            for band in bands.values()
        ]
        found |= {
            survey: np.asarray(light, np.float32),
            f"{survey}_bands": np.array(list(bands)),
            f"{survey}_redshifts": redshifts,
            f"{survey}_modulus": FlatLambdaCDM(H0=70, Om0=0.3).distmod(redshifts).value,
        }
    return found


def main() -> None:
    """Write the table, and print the digest that `filters.supernovae.templates` has to name."""
    np.savez_compressed(TABLE, allow_pickle=False, **compute())
    print(f'SHA256 = "{hashlib.sha256(TABLE.read_bytes()).hexdigest()}"  # {TABLE.stat().st_size:,} bytes')


if __name__ == "__main__":
    main()
