"""Where and when the simulated telescope looks: fields, quadrants, exposures, programs, depth.

The survey imitates ZTF (Bellm et al. 2019, PASP 131, 018002): 47 square degree fields of 16 CCDs with four
quadrants each, 30 s exposures, a public g+r survey every two nights and private surveys of higher cadence
on some of the same fields, so that one object's history mixes programs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NIGHT_ZERO = 2457754.5  # jd of nid 0, DEFINITIONS.md: nid = floor(jd - 2457754.5)
LAST_NIGHT = 3206  # the main night, UT 2025-10-12
SURVEY_DAYS = 90  # simulated nights up to and with the last: three history windows
HISTORY_DAYS = 30.0  # how far prv_candidates reach back
PIXEL_SCALE = 1.0125  # arcsec
QUADRANT_SHAPE = (3080, 3072)  # rows, columns
PUBLIC, PARTNERSHIP, CALTECH = 1, 2, 3
FILTER_NAMES = {1: "g", 2: "r", 3: "i"}

_SLOT = 40.0 / 86400  # exposure, readout and slew: two exposures never share a jd
_DUSK, _NIGHT_LENGTH = 0.12, 0.40  # UT fractions of a day at Palomar
_PASSES = 5  # how often at most a field is visited in a night
_ROW_HEIGHT = 7.2  # deg between the rows of the field grid
_CCD_PITCH, _QUADRANT_PITCH = 1.88, 0.866  # deg


@dataclass(frozen=True)
class Field:
    """One pointing of the grid; `quadrants` are the readout channels (rcid) that the simulation fills."""

    number: int
    ra: float
    dec: float
    quadrants: tuple[int, ...]
    programs: frozenset[int]


@dataclass(frozen=True)
class Visits:
    """Exposures of one quadrant in time order, as arrays of one length.

    `exposure` numbers the exposure in the survey, `fwhm` is in pixels, `maglim` the five sigma limit and
    `zeropoint` in mag, `sky` in DN a pixel.
    """

    exposure: np.ndarray
    jd: np.ndarray
    night: np.ndarray
    fid: np.ndarray
    programid: np.ndarray
    fwhm: np.ndarray
    maglim: np.ndarray
    zeropoint: np.ndarray
    sky: np.ndarray
    pid: np.ndarray

    def __len__(self) -> int:
        return len(self.jd)


def night_of(jd: np.ndarray | float) -> np.ndarray:
    """The night (`nid`) of a Julian date, DEFINITIONS.md."""
    return np.floor(np.asarray(jd) - NIGHT_ZERO).astype(np.int64)


def pid_of(jd: np.ndarray | float, rcid: np.ndarray | int) -> np.ndarray:
    """The processing identifier of a quadrant exposure: night, 10⁻⁵ day, channel and image type 15."""
    since = np.asarray(jd) - NIGHT_ZERO
    night = np.floor(since)
    fraction = np.floor((since - night) * 1e5).astype(np.int64)
    return night.astype(np.int64) * 10**9 + fraction * 10**4 + np.asarray(rcid, np.int64) * 100 + 15


def pixel_noise(sky: np.ndarray | float) -> np.ndarray:
    """Noise of a pixel (DN) under a sky level (DN), as in the stamps of real packets."""
    return 0.52 * np.sqrt(np.asarray(sky))


class Survey:
    """All exposures of the simulated survey.

    `alerts` scales the number of fields and filled quadrants so that a quadrant exposure holds about a dozen
    alerts, as at the telescope.
    """

    def __init__(self, alerts: int, rng: np.random.Generator) -> None:
        self.fields = _choose_fields(alerts, rng)
        rows = [row for night in _clear_nights(rng) for row in _night_plan(night, self.fields, rng)]
        plan = np.array(rows, dtype=[("jd", "f8"), ("field", "i4"), ("fid", "i4"), ("programid", "i4")])
        plan.sort(order="jd")
        self.jd, self.field = plan["jd"], plan["field"]
        self.fid, self.programid = plan["fid"], plan["programid"]
        self.night = night_of(self.jd)
        self._weather(rng)
        self._cache: dict[tuple[int, int], Visits] = {}
        self._of_field = [np.flatnonzero(self.field == i) for i in range(len(self.fields))]

    def _weather(self, rng: np.random.Generator) -> None:
        """Seeing (pixels), sky (DN), zero point and the depth that follows from them, for each exposure.

        Constants are read off real packets: pixel noise 0.52 √sky, and a limit of five times 3.1 fwhm of it.
        """
        count = len(self.jd)
        nights, index = np.unique(self.night, return_inverse=True)
        nightly = rng.lognormal(np.log(2.25), 0.22, len(nights))
        nightly[-3:] = np.clip(nightly[-3:], 1.9, 2.3)  # the demonstrated nights are fair ones
        self.fwhm = np.clip(nightly[index] * rng.lognormal(0, 0.07, count), 1.6, 6.5)
        haze = rng.exponential(0.12, len(nights)) * (nights < nights[-1] - 2)
        self.sky = np.array([0, 100.0, 180.0, 260.0])[self.fid] * rng.lognormal(0, 0.12, count)
        self.zeropoint = np.array([0, 26.3, 26.28, 25.8])[self.fid] - haze[index] + rng.normal(0, 0.02, count)
        self.maglim = self.zeropoint - 2.5 * np.log10(5 * 3.1 * self.fwhm * pixel_noise(self.sky))
        self.depth_offset = rng.normal(0, 0.05, (count, 64))
        self.zeropoint_offset = np.broadcast_to(rng.normal(0, 0.07, 64), (count, 64))

    def visits(self, field: int, rcid: int) -> Visits:
        """All exposures of one quadrant, in time order (kept: asked for each object)."""
        found = self._cache.get((field, rcid))
        if found is None:
            e = self._of_field[field]
            found = self._cache[field, rcid] = Visits(
                exposure=e,
                jd=self.jd[e],
                night=self.night[e],
                fid=self.fid[e],
                programid=self.programid[e],
                fwhm=self.fwhm[e],
                maglim=self.maglim[e] + self.depth_offset[e, rcid],
                zeropoint=self.zeropoint[e] + self.zeropoint_offset[e, rcid],
                sky=self.sky[e],
                pid=pid_of(self.jd[e], rcid),
            )
        return found

    def position(self, field: int, rcid: int, x: float, y: float) -> tuple[float, float]:
        """Right ascension and declination (deg) of a quadrant's pixel: gnomonic about the field's centre."""
        xi0, eta0 = _quadrant_centre(rcid)
        scale = PIXEL_SCALE / 3600
        xi = np.radians(xi0 - (x - QUADRANT_SHAPE[1] / 2) * scale)
        eta = np.radians(eta0 + (y - QUADRANT_SHAPE[0] / 2) * scale)
        centre = self.fields[field]
        dec0 = np.radians(centre.dec)
        below = np.cos(dec0) - eta * np.sin(dec0)
        ra = centre.ra + np.degrees(np.arctan2(xi, below))
        dec = np.degrees(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, below)))
        return float(ra % 360), float(dec)


def _quadrant_centre(rcid: int) -> tuple[float, float]:
    """Offsets (deg; east, north) of a quadrant's centre: CCD 1 is south-east, then westward, then north."""
    ccd, quadrant = divmod(rcid, 4)
    row, column = divmod(ccd, 4)
    east = (1.5 - column) * _CCD_PITCH + (0.5, -0.5, -0.5, 0.5)[quadrant] * _QUADRANT_PITCH
    north = (row - 1.5) * _CCD_PITCH + (0.5, 0.5, -0.5, -0.5)[quadrant] * _QUADRANT_PITCH
    return east, north


def _grid() -> list[tuple[int, float, float]]:
    """(number, ra, dec) of all fields, row by row from the south, as the survey counts."""
    found = []
    for dec in np.arange(-31.45, 85, _ROW_HEIGHT):
        columns = int(np.ceil(360 * np.cos(np.radians(dec)) / 6.8))
        found += [(ra, dec) for ra in np.arange(columns) * (360 / columns)]
    return [(200 + i, float(ra), float(dec)) for i, (ra, dec) in enumerate(found)]


def _choose_fields(alerts: int, rng: np.random.Generator) -> list[Field]:
    """Fields near the meridian of an October midnight, some of them shared by private programs."""
    count = int(np.clip(alerts // 350, 4, 60))
    quadrants = int(np.clip(np.ceil(alerts / (count * 3 * 12)), 4, 64))
    seen = [
        (n, ra, dec) for n, ra, dec in _grid() if dec > -20 and min(abs(ra - 20), 360 - abs(ra - 20)) < 75
    ]
    chosen = rng.choice(len(seen), size=min(count, len(seen)), replace=False)
    fields = []
    for i, index in enumerate(sorted(chosen)):
        programs = {PUBLIC} | ({PARTNERSHIP} if i % 2 else set()) | ({CALTECH} if i % 4 == 3 else set())
        filled = tuple(sorted(int(q) for q in rng.choice(64, size=quadrants, replace=False)))
        number, ra, dec = seen[index]
        fields.append(Field(number, ra, dec, filled, frozenset(programs)))
    return fields


def _clear_nights(rng: np.random.Generator) -> list[int]:
    """Nights without clouds; the last seven are always clear, for a demonstration needs them."""
    nights = np.arange(LAST_NIGHT - SURVEY_DAYS + 1, LAST_NIGHT + 1)
    clear = (rng.random(len(nights)) < 0.8) | (nights > LAST_NIGHT - 7)
    return [int(n) for n in nights[clear]]


def _night_plan(
    night: int, fields: Sequence[Field], rng: np.random.Generator
) -> list[tuple[float, int, int, int]]:
    """(jd, field index, fid, programid) of a night's exposures: passes over the fields, hours apart."""
    rows = []
    for number in range(_PASSES):
        start = NIGHT_ZERO + night + _DUSK + number * _NIGHT_LENGTH / _PASSES
        slot = start + rng.uniform(0, 0.006)
        for index in rng.permutation(len(fields)):
            due = _due(number, night, int(index), fields[index].programs)
            if due is not None:
                rows.append((round(slot, 7), int(index), *due))
            slot += _SLOT * rng.uniform(1.0, 1.15)
    return rows


def _due(number: int, night: int, index: int, programs: frozenset[int]) -> tuple[int, int] | None:
    """(fid, programid) of a pass over a field.

    Public: g and r every second night, a third of the fields once on the others too. Partnership: one more
    and i every fourth night. Caltech: one every third night and in the last three.
    """
    ago = LAST_NIGHT - night
    even = ago % 2 == 0
    band = (1, 2) if (night + index) % 2 else (2, 1)
    if number == 0 or (number == 3 and even):
        return (band[number // 3], PUBLIC) if even or index % 3 == 0 else None
    if number == 1 and PARTNERSHIP in programs and ago % 4 == 0:
        return band[1], PARTNERSHIP
    if number == 4 and PARTNERSHIP in programs and ago % 4 == 0:
        return 3, PARTNERSHIP
    if number == 2 and CALTECH in programs and (ago % 3 == 0 or ago < 3):
        return (1 if night % 2 else 2), CALTECH
    return None
