"""Which sources of a catalogue are near some places: the nearest within a radius, or all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import lonlat_to_healpix

from filters.catalogues.tiles import JD_2000, Tile, Tiles
from filters.external.coordinates import unit_vectors

ARCSEC = np.pi / 180 / 3600
"""Radians in an arcsecond."""


@dataclass(frozen=True)
class Nearest:
    """For each place: its cell (−1: none), the source's row there (−1: none) and how far it is (arcsec)."""

    cell: np.ndarray
    row: np.ndarray
    separation: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Every place and source within the radius: the place's number, cell, row there, separation (arcsec)."""

    place: np.ndarray
    cell: np.ndarray
    row: np.ndarray
    separation: np.ndarray


def healpix(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """HEALPix index of order 29, nested, of places in degrees (finite, dec within ±90)."""
    lon, lat = Longitude(ra, u.deg, copy=False), Latitude(dec, u.deg, copy=False)
    return np.asarray(lonlat_to_healpix(lon, lat, 29), np.int64)


def nearest(
    tiles: Tiles, ra: np.ndarray, dec: np.ndarray, radius: float, jd: np.ndarray | None = None
) -> Nearest:
    """The nearest source of each place.

    Parameters
    ----------
    tiles
        The catalogue.
    ra, dec
        (n,) degrees; a place that is missing or impossible matches nothing.
    radius
        arcsec, at most the catalogue's margin; a catalogue with a radius for each source uses that instead.
    jd
        (n,) days: sources with a proper motion are taken to this time. None: the catalogue's epoch.

    Returns
    -------
    Nearest
        In the places' order.
    """
    n = len(ra)
    cell, row = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    separation = np.full(n, np.nan)
    for number, places in _by_cell(tiles, ra, dec):
        tile = tiles.tile(number)
        when = None if jd is None else jd[places]
        rows, distance = _nearest_in(tile, ra[places], dec[places], radius, _years(tiles, when))
        cell[places] = number
        row[places], separation[places] = rows, distance
    return Nearest(cell, row, separation)


def within(
    tiles: Tiles, ra: np.ndarray, dec: np.ndarray, radius: float, jd: np.ndarray | None = None
) -> Pairs:
    """All sources within the radius of each place, sorted by place, then by separation.

    Parameters
    ----------
    tiles
        The catalogue.
    ra, dec
        (n,) degrees; a place that is missing or impossible matches nothing.
    radius
        arcsec, at most the catalogue's margin; a catalogue with a radius for each source uses that instead.
    jd
        (n,) days: positions of sources with a proper motion are moved to this time. None: the catalogue's
        epoch.
    """
    every: list[tuple[np.ndarray, ...]] = []
    for number, places in _by_cell(tiles, ra, dec):
        tile = tiles.tile(number)
        years = _years(tiles, None if jd is None else jd[places])
        local, rows, distance = _all_in(tile, ra[places], dec[places], radius, years)
        every.append((places[local], np.full(len(local), number), rows, distance))
    if not every:
        empty = np.zeros(0, np.int64)
        return Pairs(empty, empty, empty, np.zeros(0))
    place, cells, rows, distance = (np.concatenate(part) for part in zip(*every, strict=True))
    order = np.lexsort((distance, place))
    return Pairs(place[order], cells[order], rows[order], distance[order])


def _by_cell(tiles: Tiles, ra: np.ndarray, dec: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each cell that places touch, with the numbers of these places, near ones together."""
    usable = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    known = np.flatnonzero(usable)
    if not len(known):
        return
    index = healpix(ra[known], dec[known])
    order = np.argsort(index)
    known, number = known[order], tiles.of(index[order])
    starts = np.flatnonzero(np.diff(number, prepend=-2))
    for begin, end in zip(starts, [*starts[1:], len(number)], strict=True):
        if number[begin] >= 0:
            yield int(number[begin]), known[begin:end]


def _years(tiles: Tiles, jd: np.ndarray | None) -> np.ndarray | None:
    """Years from the catalogue's epoch; None where nothing moves. A time that is missing moves nothing."""
    if tiles.about.motion is None or jd is None:
        return None
    years = (jd - JD_2000) / 365.25 + 2000 - tiles.about.motion.epoch
    return np.nan_to_num(years)


def _nearest_in(
    tile: Tile, ra: np.ndarray, dec: np.ndarray, radius: float, years: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    if years is None and tile.radius is None:
        chord, row = tile.tree.query(unit_vectors(ra, dec), distance_upper_bound=_chord(radius))
        there = np.isfinite(chord)
        return np.where(there, row, -1), np.where(there, _arcsec(chord), np.nan)
    place, rows, distance = _all_in(tile, ra, dec, radius, years)
    order = np.lexsort((distance, place))
    first = order[np.diff(place[order], prepend=-1) != 0]
    row, separation = np.full(len(ra), -1, np.int64), np.full(len(ra), np.nan)
    row[place[first]], separation[place[first]] = rows[first], distance[first]
    return row, separation


def _all_in(
    tile: Tile, ra: np.ndarray, dec: np.ndarray, radius: float, years: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, rows and separations within a cell, of whatever is within the radius at each place's time."""
    wide = radius if tile.radius is None else float(np.nanmax(tile.radius, initial=0.0))
    if years is not None and len(years):
        wide += float(np.abs(years).max()) * tile.reach * 3600
    vectors = unit_vectors(ra, dec)
    found = tile.tree.query_ball_point(vectors, _chord(wide))
    counts = np.array([len(rows) for rows in found], np.int64)
    place = np.repeat(np.arange(len(ra)), counts)
    rows = np.array([row for rows in found for row in rows], np.int64)
    if not len(rows):
        return place, rows, np.zeros(0)
    source = tile.tree.data[rows] if years is None else unit_vectors(*tile.places(rows, years[place]))
    distance = _arcsec(np.linalg.norm(vectors[place] - source, axis=1))
    limit = radius if tile.radius is None else tile.radius[rows]
    near = distance <= limit
    return place[near], rows[near], distance[near]


def _chord(arcsec: float) -> float:
    """The chord of an angle on the unit sphere; a little more, so that the limit itself is inside."""
    return float(2 * np.sin(arcsec * ARCSEC / 2)) * (1 + 1e-12) + 1e-15


def _arcsec(chord: np.ndarray) -> np.ndarray:
    """The angle of a chord, arcsec."""
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * np.arcsin(np.minimum(chord, 2.0) / 2) / ARCSEC)
