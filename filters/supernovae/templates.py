"""The light curves that a fit tries: templates.npz, stretched and laid out on the days of the observer.

`filters.supernovae.make` made the table. Here its light curves are stretched in time, and each is put on
whole days before and after the maximum, so that a fit only has to look them up.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from filters.errors import FilterError

TABLE = Path(__file__).with_name("templates.npz")
SHA256 = "27d7ad9a406915faaf43d1fa9c8f151d020316a46d2c4e0bf45f0615ce3535b0"
STRETCHES = np.array([0.75, 0.85, 0.95, 1.05, 1.15])
"""Factors on the template's days: from fast, faint supernovae to slow ones."""

FADING = 0.014
"""mag a day, after the table's last day: the decay of cobalt-56 as supernovae of type Ia show it in B."""


@dataclass(frozen=True)
class Templates:
    """The light curves of a survey.

    light: (band, day, template), flux over that of the maximum in rest-frame B; day 0 is `first` days from
    that maximum in the observer's frame. bands: their names. redshift, stretch, dust (E(B-V), mag) and
    modulus (distance modulus, mag; flat, H0 = 70 km/s/Mpc, Ωm = 0.3) are (template,).
    """

    light: np.ndarray
    first: int
    bands: tuple[str, ...]
    redshift: np.ndarray
    stretch: np.ndarray
    dust: np.ndarray
    modulus: np.ndarray

    def __len__(self) -> int:
        return len(self.redshift)


@cache
def templates(survey: str, first: int, last: int) -> Templates:
    """The templates of a survey.

    Parameters
    ----------
    survey
        Whose passbands.
    first, last
        Days about the maximum, in the observer's frame; both are included.

    Raises
    ------
    FilterError
        When the file is not the one that this version of zads was made with.
    """
    raw = TABLE.read_bytes()
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise FilterError(
            f"{TABLE.name} is another file than this version of zads has",
            hint="install zads again, or make the table anew: python -m filters.supernovae.make",
        )
    with np.load(TABLE) as table:
        bands = tuple(map(str, table[f"{survey}_bands"]))
        redshifts, moduli = table[f"{survey}_redshifts"], table[f"{survey}_modulus"]
        days, dust, light = table["days"], table["dust"], table[survey].astype(float)
    z, s, c = (grid.ravel() for grid in np.meshgrid(redshifts, STRETCHES, dust, indexing="ij"))
    at = np.arange(first, last + 1)
    found = np.empty((len(bands), len(at), len(z)))
    for one, (redshift, stretch) in enumerate(zip(z, s, strict=True)):
        rest = at / ((1 + redshift) * stretch)
        place = np.searchsorted(redshifts, redshift), one % len(dust)
        for band in range(len(bands)):
            found[band, :, one] = _on_days(rest, days, light[band, place[0], place[1]])
    return Templates(found, first, bands, z, s, c, moduli[np.searchsorted(redshifts, z)])


def _on_days(rest: np.ndarray, days: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The flux on these rest-frame days: none before the explosion, and a steady fading at the end."""
    late = 10 ** (-0.4 * FADING * np.clip(rest - days[-1], 0, None))
    return np.asarray(np.interp(rest, days, light, left=0.0) * late)
