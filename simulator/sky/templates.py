"""The type Ia template: Hsiao et al. (2007, ApJ 663, 1187) through the survey's bands, on a grid.

sncosmo evaluates a spectral series in milliseconds; a sky of thousands needs microseconds, and no download.
So its one built-in source (`hsiao-subsampled`) was integrated once, into hsiao.toml, with
`python -m simulator.sky.templates`: magnitudes below the rest-frame B peak, by redshift, band and day.
A test holds the table against sncosmo.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_TABLE = Path(__file__).with_name("hsiao.toml")
_DAYS = np.arange(-19.0, 85.5, 1.0)
_REDSHIFTS = np.arange(0.0, 0.161, 0.02)
# Edges (Å) of trapezoids of the widths and pivots of ZTF's g, r, i (SVO filter service: 4783, 6417, 7867).
BANDS = {"g": (4030.0, 5530.0), "r": (5590.0, 7240.0), "i": (7030.0, 8690.0)}
_REST_B = (3900.0, 4900.0)
_SLOPE = 100.0  # Å


class Grid(NamedTuple):
    """`below` (redshift, band, day): magnitudes below the peak in rest-frame B."""

    days: np.ndarray
    redshifts: np.ndarray
    below: np.ndarray


@cache
def hsiao() -> Grid:
    """The table as arrays."""
    table: dict[str, Any] = tomllib.loads(_TABLE.read_text())
    return Grid(np.array(table["days"]), np.array(table["redshifts"]), np.array(table["below"]))


def below_peak(days: np.ndarray, redshift: float, fid: np.ndarray) -> np.ndarray:
    """Magnitudes below the rest-frame B peak; +inf before the explosion.

    Linear in the table; the first days rise as the square of time, the last ones fade 0.014 mag a day.

    Parameters
    ----------
    days
        Rest-frame days from the B peak, (n,).
    redshift
        Of the supernova.
    fid
        Band, (n,): 1, 2, 3 = g, r, i.
    """
    grid = hsiao()
    k = int(np.clip(np.searchsorted(grid.redshifts, redshift) - 1, 0, len(grid.redshifts) - 2))
    share = (redshift - grid.redshifts[k]) / (grid.redshifts[k + 1] - grid.redshifts[k])
    curves = (1 - share) * grid.below[k] + share * grid.below[k + 1]
    inside = np.select([fid == b for b in (1, 2, 3)], [np.interp(days, grid.days, c) for c in curves])
    late = 0.014 * np.clip(days - grid.days[-1], 0, None)
    with np.errstate(divide="ignore"):
        early = -5 * np.log10(np.clip((days + 20) / (grid.days[0] + 20), 0, 1))
    return inside + late + early


def compute() -> Grid:
    """Compute the table again, with sncosmo."""
    import sncosmo

    def band(low: float, high: float) -> Any:
        edges = [low - _SLOPE / 2, low + _SLOPE / 2, high - _SLOPE / 2, high + _SLOPE / 2]
        return sncosmo.Bandpass(np.array(edges), np.array([0.0, 1.0, 1.0, 0.0]))

    model = sncosmo.Model("hsiao-subsampled")
    days = np.arange(-5, 5, 0.25)
    peak = model.bandflux(band(*_REST_B), days, zp=25, zpsys="ab").max()
    below = []
    for redshift in _REDSHIFTS:
        # Without the dimming by distance, which is applied later: only colour and time.
        model.set(z=redshift, t0=0)
        at = _DAYS * (1 + redshift)
        flux = [model.bandflux(band(*edges), at, zp=25, zpsys="ab") for edges in BANDS.values()]
        below.append([-2.5 * np.log10(np.maximum(f, 1e-12 * peak) / peak) for f in flux])
    return Grid(_DAYS, _REDSHIFTS, np.minimum(np.array(below), 15))


def _text(grid: Grid) -> str:
    lines = ["# Hsiao et al. (2007) template through g, r, i; made by schemas/simulated/templates.py."]
    lines.append(f"days = {[float(d) for d in grid.days]}")
    lines.append(f"redshifts = {[round(float(z), 3) for z in grid.redshifts]}")
    lines.append("below = [")
    for bands in grid.below:
        lines.append("  [")
        lines += [f"    [{', '.join(f'{m:.3f}' for m in band)}]," for band in bands]
        lines.append("  ],")
    return "\n".join([*lines, "]"]) + "\n"


if __name__ == "__main__":
    _TABLE.write_text(_text(compute()))
