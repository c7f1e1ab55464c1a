"""The static sky: what PS1, Gaia, GALEX and the reference image list around a position.

Every source of a quadrant is a function of seed, field, quadrant and tile (100 pixels square), drawn with a
counter-based hash (splitmix64, Steele et al. 2014): a tile has the same sources in any process and in any
order. Objects that vary add their own stars and hosts. The same list feeds the catalogue columns of the
packets, the stamps, and the table that is written for crossmatch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from simulator.compiled import compiled
from simulator.identity import Neighbour
from simulator.sky.heavens import galactic_latitude
from simulator.sky.telescope import PIXEL_SCALE, QUADRANT_SHAPE, Survey

TILE = 100  # pixels
REACH = 90.0  # arcsec: largest distance of a source that a packet lists (Gaia)
PS1_DEPTH = (22.6, 22.4, 22.2, 21.6)  # g, r, i, z beyond which a magnitude is missing
REFERENCE_DEPTH = 23.3
GAIA_DEPTH, GAIA_BRIGHT = 20.9, 14.0
_NUV_DEPTH, _FUV_DEPTH = 20.5, 19.9  # GALEX all-sky imaging survey (Morrissey et al. 2007)
_DRAWS = 8  # random numbers a source
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Catalogue:
    """Sources of a quadrant, in order of `y`: pixel places, coordinates (deg), AB magnitudes `mags` (n, 4) in
    g, r, i, z, PS1's star/galaxy `score`, `radius` (arcsec, half light; 0 is a star), shape, `core`: share of
    light in an unresolved nucleus, `ident`: PS1's objID, `nuv` and `fuv` (AB; NaN where GALEX sees none)."""

    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    mags: np.ndarray
    score: np.ndarray
    radius: np.ndarray
    ratio: np.ndarray
    angle: np.ndarray
    core: np.ndarray
    ident: np.ndarray
    nuv: np.ndarray
    fuv: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @property
    def gaia(self) -> np.ndarray:
        """Gaia's G; galaxies are not in Gaia (NaN)."""
        g, r = self.mags[:, 0], self.mags[:, 1]
        return np.where(self.radius == 0, r - 0.1 - 0.15 * np.maximum(g - r - 0.6, 0), np.nan)

    def table(self) -> pa.Table:
        """For crossmatch. Degrees, AB magnitudes, arcsec; a magnitude beyond its survey is null."""
        columns: dict[str, pa.Array] = {"objid": pa.array(self.ident), "ra": pa.array(self.ra)}
        columns["dec"] = pa.array(self.dec)
        for name, mag, depth in zip("griz", self.mags.T, PS1_DEPTH, strict=True):
            columns[f"{name}mag"] = pa.array(np.round(mag, 4), mask=mag >= depth)
        gaia = self.gaia
        columns["gaia_g"] = pa.array(gaia, mask=~(gaia < GAIA_DEPTH))
        for name, mag in (("nuv", self.nuv), ("fuv", self.fuv)):
            columns[name] = pa.array(mag, mask=np.isnan(mag))
        return pa.table(columns | {"sgscore": pa.array(self.score), "radius": pa.array(self.radius)})


def hashed(seed: int, *keys: np.ndarray | int) -> np.ndarray:
    """Uniform numbers in [0, 1) that depend on seed and keys only (broadcast against each other)."""
    with np.errstate(over="ignore"):
        state = _mixed(np.asarray(np.uint64(seed & (2**64 - 1))))
        for key in keys:
            state = _mixed((state ^ np.asarray(key).astype(np.int64).astype(np.uint64)) + _GOLDEN)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def catalogue_around(
    survey: Survey,
    seed: int,
    field: int,
    rcid: int,
    x: np.ndarray,
    y: np.ndarray,
    own: Sequence[Neighbour | None],
) -> Catalogue:
    """Every source within REACH of some pixels of a quadrant, and the sources of the objects there.

    Parameters
    ----------
    survey
        The survey.
    seed
        Of the simulated sky.
    field
        Index of the field.
    rcid
        The quadrant.
    x, y
        Column and row of the pixels, (n,).
    own
        For each pixel the object's own star or host, whose place is the pixel plus its offset; None for none.
    """
    number = survey.fields[field].number
    column, row = _tiles_around(x, y)
    middle = survey.position(field, rcid, QUADRANT_SHAPE[1] / 2, QUADRANT_SHAPE[0] / 2)
    drawn = _field_sources(seed, number * 64 + rcid, column, row, abs(galactic_latitude(*map(float, middle))))
    mine = [(i, n) for i, n in enumerate(own) if n is not None]
    index = np.array([i for i, _ in mine], int)
    entries = [n for _, n in mine]
    turn = survey.rotation(field, rcid, QUADRANT_SHAPE[1] / 2, QUADRANT_SHAPE[0] / 2)
    east, north = (np.array([getattr(n, name) for n in entries], float) for name in ("east", "north"))
    dx, dy = to_pixels(east, north, turn)
    place = {"x": np.concatenate([drawn.pop("x"), x[index] + dx])}
    place["y"] = np.concatenate([drawn.pop("y"), y[index] + dy])
    shape = {
        name: np.concatenate(
            [values, np.array([getattr(n, name) for n in entries]).reshape(-1, *values.shape[1:])]
        )
        for name, values in drawn.items()
    }
    order = np.argsort(place["y"], kind="stable")
    found = {name: values[order] for name, values in (place | shape).items()}
    ra, dec = survey.position(field, rcid, found["x"], found["y"])
    nuv, fuv = _ultraviolet(seed, found["mags"], found["radius"], ra, dec)
    return Catalogue(ra=ra, dec=dec, ident=_ps1_identifier(ra, dec), nuv=nuv, fuv=fuv, **found)


def to_pixels(east: np.ndarray, north: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of an offset on the sky, (n,) pixels each.

    Parameters
    ----------
    east, north
        Offset, (n,) arcsec.
    turn
        Angle of the detector, rad (`Survey.rotation`).
    """
    cos, sin = math.cos(turn), math.sin(turn)
    return (-east * cos - north * sin) / PIXEL_SCALE, (east * sin - north * cos) / PIXEL_SCALE


def _tiles_around(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(column, row) of the tiles within REACH of some pixel."""
    near = (np.arange(3) - 1) * (REACH / PIXEL_SCALE)
    columns = np.floor((x[:, None, None] + near[:, None]) / TILE).astype(int)
    rows = np.floor((y[:, None, None] + near) / TILE).astype(int)
    tiles = np.unique((columns + 500) * 1000 + rows + 500)
    return tiles // 1000 - 500, tiles % 1000 - 500


def _field_sources(
    seed: int, cell: int, column: np.ndarray, row: np.ndarray, latitude: float
) -> dict[str, np.ndarray]:
    """Sources of some tiles of a quadrant. More of them, and more stars, near the galactic plane.

    Densities as in the PS1 columns of the real packets (`nmtchps`: 5 to 40 within 30 arcsec).
    """
    density = (5 + 20 * math.exp(-latitude / 14)) * (TILE * PIXEL_SCALE / 72.0) ** 2
    count = _poisson(hashed(seed, 11, cell, column, row), density)
    tile = np.repeat(np.arange(len(column)), count)
    rank = np.arange(len(tile)) - np.repeat(np.cumsum(count) - count, count)
    draw = [hashed(seed, 12 + k, cell, column[tile], row[tile], rank) for k in range(_DRAWS)]
    r = np.maximum(22.9 + 1.7 * np.log(1 - draw[0]), 13.2)
    is_star = draw[1] < np.clip(0.95 - 0.09 * (r - 17), 0.25, 0.97)
    middle = np.where(is_star, np.where(draw[2] < 0.6, 0.45, 1.35), 0.7)
    colour = middle + 0.15 * np.sqrt(-2 * np.log(1 - draw[3])) * np.cos(2 * np.pi * draw[4])
    doubt = -np.log(1 - draw[5])
    size = 1.1 * (2 * draw[6] - 1) * 1.7  # about normal
    r_i = np.where(colour < 1.2, 0.42 * colour + 0.02, 0.5 + 1.1 * (colour - 1.2))
    red = [np.where(is_star, r - r_i, r - 0.35), np.where(is_star, r - 1.5 * r_i, r - 0.6)]
    stellar = 1 - doubt * np.where(r < 19, 0.004, 0.04 * (r - 18.5))
    extended = doubt * np.where(r < 20, 0.01, 0.06 * (r - 19.8))
    radius = np.clip(1.8 * 10 ** (-0.16 * (r - 19.5)) * np.exp(0.25 * size), 0.7, 12.0)
    return {
        "x": (column[tile] + hashed(seed, 30, cell, column[tile], row[tile], rank)) * TILE,
        "y": (row[tile] + hashed(seed, 31, cell, column[tile], row[tile], rank)) * TILE,
        "mags": np.stack([r + colour, r, *red], axis=1),
        "score": np.clip(np.where(is_star, stellar, extended), 0, 1),
        "radius": np.where(is_star, 0.0, radius),
        "ratio": 0.3 + 0.65 * draw[7],
        "angle": math.pi * draw[5] % math.pi,
        "core": np.where(is_star, 1.0, 0.0),
    }


def _poisson(uniform: np.ndarray, mean: float) -> np.ndarray:
    """Counts with a Poisson distribution of the given mean, from uniform numbers."""
    most = int(mean + 10 * math.sqrt(mean) + 10)
    steps = np.cumsum([math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(most)])
    return np.searchsorted(steps, uniform)


def _ultraviolet(
    seed: int, mags: np.ndarray, radius: np.ndarray, ra: np.ndarray, dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """GALEX-like NUV and FUV (AB), NaN beyond its depth: ordinary stars are faint there (NUV − g ≈ 3 + 4 (g −
    r)), hot ones and quasars bright, spirals about two magnitudes below g (Bianchi et al. 2011)."""
    g, g_r = mags[:, 0], mags[:, 0] - mags[:, 1]
    scatter = hashed(seed, 40, (ra * 1e6).astype(np.int64), (dec * 1e6).astype(np.int64)) - 0.5
    cool = np.where(g_r < 0.25, 0.4 + 1.5 * np.maximum(g_r, -0.4), 3 + 4 * (g_r - 0.25))
    nuv = g + np.where(radius > 0, 2.2, cool) + scatter
    fuv = nuv + np.where(radius > 0, 0.6, np.where(g_r < 0.25, 0.3, 3.0)) + 0.5 * scatter
    return np.where(nuv < _NUV_DEPTH, nuv, np.nan), np.where(fuv < _FUV_DEPTH, fuv, np.nan)


def _ps1_identifier(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """PS1's objID: declination zone of half an arcminute, right ascension in microdegrees, a tail."""
    zone = ((dec + 90) * 120).astype(np.int64)
    tail = ((dec + 90) * 1e7).astype(np.int64) % 10**4
    return zone * 10**13 + (ra % 360 * 1e6).astype(np.int64) * 10**4 + tail


def neighbours(
    catalogue: Catalogue, x: np.ndarray, y: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """The sources within a distance of each place.

    Parameters
    ----------
    catalogue
        Sources of a quadrant.
    x, y
        Column and row of the places, (n,).
    reach
        Distance in pixels.

    Returns
    -------
    tuple of np.ndarray
        Indices of the sources, one place after the other, and where each place's begin, (n + 1,).
    """
    first = np.searchsorted(catalogue.y, y - reach)
    last = np.searchsorted(catalogue.y, y + reach)
    index = np.empty(int((last - first).sum()), np.int64)
    starts = np.zeros(len(x) + 1, np.int64)
    size = _within(catalogue.x, catalogue.y, x, y, first, last, reach * reach, index, starts)
    return index[:size], starts


@compiled
def _within(cx, cy, x, y, first, last, limit, index, starts):  # type: ignore[no-untyped-def]
    p = 0
    for i in range(len(x)):
        for j in range(first[i], last[i]):
            if (cx[j] - x[i]) ** 2 + (cy[j] - y[i]) ** 2 <= limit:
                index[p] = j
                p += 1
        starts[i + 1] = p
    return p


@compiled
def nearest(distance, starts, usable, most, limit, found, count):  # type: ignore[no-untyped-def]
    """Find the nearest usable sources of each place, and how many there are within the limit.

    Parameters
    ----------
    distance
        (m,): distance of each source in the list, arcsec.
    starts
        (n + 1,): where in the list each place's sources begin.
    usable
        (m,) bool: which sources count.
    most
        How many to find for a place.
    limit
        Largest distance, arcsec.
    found
        (n, most), filled with −1; gets their positions in the list, the nearest first.
    count
        (n,); gets the number of usable sources within the limit.
    """
    for i in range(len(starts) - 1):
        number = 0
        for j in range(starts[i], starts[i + 1]):
            if not usable[j] or distance[j] > limit:
                continue
            number += 1
            k = most
            while k > 0 and (found[i, k - 1] < 0 or distance[found[i, k - 1]] > distance[j]):
                if k < most:
                    found[i, k] = found[i, k - 1]
                k -= 1
            if k < most:
                found[i, k] = j
        count[i] = number
