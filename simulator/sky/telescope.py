"""Where and when the simulated telescope looks: a plan in, an observing log out.

The survey imitates ZTF (Bellm et al. 2019, PASP 131, 018002): 47 square degree fields of 16 CCDs with four
quadrants each, 30 s exposures, a public g+r survey every two nights and private surveys of higher cadence
on some of the same fields, so that one object's history mixes programs. Nights last from dusk to dawn at
Palomar; Moon, haze and seeing set the depth of each exposure.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from simulator.sky import heavens

NIGHT_ZERO = 2457754.5  # jd of nid 0, DEFINITIONS.md: nid = floor(jd - 2457754.5)
LAST_NIGHT = 3206  # the main night, UT 2025-10-12
SURVEY_DAYS = (
    400  # simulated nights up to and with the last: "the whole survey" of ndethist and similar columns
)
MOST_NIGHTS = 120  # that can be emitted
HISTORY_DAYS = 30.0  # how far prv_candidates reach back
PIXEL_SCALE = 1.0125  # arcsec
QUADRANT_SHAPE = (3080, 3072)  # rows, columns
QUADRANT_AREA = 3080 * 3072 * (PIXEL_SCALE / 3600) ** 2  # deg²
PUBLIC, PARTNERSHIP, CALTECH = 1, 2, 3
FILTER_NAMES = {1: "g", 2: "r", 3: "i"}
FIRST_FIELD = 200
MOST_FIELDS = 120

_SLOT = 40.0 / 86400  # exposure, readout and slew: two exposures never share a jd
_MIDNIGHT = 0.3246  # UT fraction of a day at Palomar
_PASSES = 5  # how often at most a field is visited in a night
_UP = 82.0  # deg from the meridian within which a field is observed
_ROW_HEIGHT = 7.2  # deg between the rows of the field grid
_CCD_PITCH, _QUADRANT_PITCH = 1.88, 0.866  # deg
_CLEAR = 0.8  # share of nights that are not lost to weather


@dataclass(frozen=True)
class Plan:
    """What is asked of the telescope: how many fields and filled quadrants of each (0 to 64), how many of the
    last nights are emitted as alerts; `fair`: the last nights are clear and dark, for a demonstration."""

    fields: int
    quadrants: int
    nights: int
    fair: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.nights <= MOST_NIGHTS:
            raise ValueError(
                f"cannot emit {self.nights} nights: the simulated survey can emit 1 to {MOST_NIGHTS}"
            )
        if not (1 <= self.fields <= MOST_FIELDS and 1 <= self.quadrants <= 64):
            raise ValueError(
                f"cannot observe {self.fields} fields of {self.quadrants} quadrants: "
                f"ask for 1 to {MOST_FIELDS} fields of 1 to 64"
            )

    @classmethod
    def of_alerts(cls, alerts: int, nights: int) -> "Plan":
        """Fields and quadrants such that a quadrant exposure holds about a dozen of so many alerts."""
        nightly = max(1, alerts // max(nights, 1))
        fields = int(np.clip(nightly // 350, 4, 60))
        return cls(fields, int(np.clip(np.ceil(nightly / (fields * 3 * 12)), 4, 64)), nights, fair=True)

    @property
    def emitted(self) -> range:
        """The nights (nid) whose alerts are sent."""
        return range(LAST_NIGHT - self.nights + 1, LAST_NIGHT + 1)


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
    `zeropoint` in mag, `sky` in DN a pixel; `dither_x`, `dither_y` (pixels) is where it points beside the
    field's own place.
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
    dither_x: np.ndarray
    dither_y: np.ndarray

    def __len__(self) -> int:
        return len(self.jd)

    def chosen(self, keep: np.ndarray) -> "Visits":
        """Some of the visits."""
        return Visits(**{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})


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
    """All exposures of the simulated survey; the same plan and seed give the same in every process."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        rng = np.random.default_rng([seed, 0])
        self.fields = _choose_fields(plan, rng)
        rows = [row for night in _clear_nights(plan, rng) for row in self._night_plan(night, rng)]
        log = np.array(rows, dtype=[("jd", "f8"), ("field", "i4"), ("fid", "i4"), ("programid", "i4")])
        log.sort(order="jd")
        self.jd, self.field, self.fid, self.programid = (log[name] for name in log.dtype.names or ())
        self.night = night_of(self.jd)
        self._weather(rng)
        self._cache: dict[tuple[int, int], Visits] = {}
        self._of_field = [np.flatnonzero(self.field == i) for i in range(len(self.fields))]

    @property
    def start(self) -> float:
        """When the survey began (jd)."""
        return NIGHT_ZERO + LAST_NIGHT - SURVEY_DAYS + 1

    def _night_plan(self, night: int, rng: np.random.Generator) -> list[tuple[float, int, int, int]]:
        """(jd, field index, fid, programid) of a night's exposures: passes over the fields, hours apart."""
        dusk, dawn = heavens.night_hours(NIGHT_ZERO + night + _MIDNIGHT)
        starts = np.linspace(dusk, dawn - len(self.fields) * 1.15 * _SLOT, _PASSES)
        away = heavens.sidereal(starts)[:, None] - np.array([f.ra for f in self.fields]) + 180
        up = np.abs(away % 360 - 180) < _UP
        rows: list[tuple[float, int, int, int]] = []
        for number, start in enumerate(starts):
            slot = max(float(start), rows[-1][0] + _SLOT if rows else 0.0) + rng.uniform(0, 0.002)
            for index in rng.permutation(len(self.fields)).tolist():
                due = None
                if up[number, index]:
                    rank = _rank(int(up[:number, index].sum()), int(up[:, index].sum()))
                    due = _due(rank, night, index, self.fields[index].programs)
                if due is not None:
                    rows.append((round(slot, 7), index, *due))
                slot += _SLOT * rng.uniform(1.0, 1.15)
        return [row for row in rows if row[0] < dawn]

    def _weather(self, rng: np.random.Generator) -> None:
        """Seeing (pixels), sky (DN), zero point and the depth that follows from them, for each exposure.

        Constants are measured on real packets: pixel noise 0.52 √sky, and a limit of five times 3.1 fwhm of
        it.
        """
        count = len(self.jd)
        nights, index = np.unique(self.night, return_inverse=True)
        nightly = rng.lognormal(np.log(2.25), 0.22, len(nights))
        haze = rng.exponential(0.12, len(nights))
        ra, dec = (np.array([getattr(f, name) for f in self.fields])[self.field] for name in ("ra", "dec"))
        glow = heavens.moonlight(self.jd, ra, dec, self.fid)
        if self.plan.fair:
            nightly[-3:] = np.clip(nightly[-3:], 1.9, 2.3)
            haze[-3:] = 0
            glow[index >= len(nights) - 3] = 0
        air = 1 / np.sin(np.radians(np.clip(heavens.altitude(self.jd, ra, dec), 25, 90)))
        self.fwhm = np.clip(nightly[index] * air**0.4 * rng.lognormal(-0.05, 0.07, count), 1.6, 6.5)
        dark = np.array([0, 100.0, 180.0, 260.0])[self.fid]
        self.sky = dark * (1 + glow) * rng.lognormal(0, 0.12, count)
        extinction = np.array([0, 0.2, 0.15, 0.1])[self.fid] * (air - 1.2)
        self.zeropoint = np.array([0, 26.33, 26.3, 25.8])[self.fid] - haze[index] - extinction
        self.zeropoint += rng.normal(0, 0.02, count)
        self.maglim = self.zeropoint - 2.5 * np.log10(5 * 3.1 * self.fwhm * pixel_noise(self.sky))
        # Pointings repeat to a few pixels.
        self.dither = np.clip(rng.normal(0, 3.0, (2, count)), -8, 8)
        self.depth_offset = rng.normal(0, 0.05, (count, 64))
        self.zeropoint_offset = rng.normal(0, 0.07, 64)

    def visits(self, field: int, rcid: int) -> Visits:
        """All exposures of one quadrant, in time order (kept: asked for each object)."""
        found = self._cache.get((field, rcid))
        if found is None:
            e = self._of_field[field]
            names = ("jd", "night", "fid", "programid", "fwhm", "sky")
            found = self._cache[field, rcid] = Visits(
                exposure=e,
                **{name: getattr(self, name)[e] for name in names},
                maglim=self.maglim[e] + self.depth_offset[e, rcid],
                zeropoint=self.zeropoint[e] + self.zeropoint_offset[rcid],
                pid=pid_of(self.jd[e], rcid),
                dither_x=self.dither[0, e],
                dither_y=self.dither[1, e],
            )
        return found

    def position(
        self, field: int, rcid: int, x: np.ndarray | float, y: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Right ascension and declination (degrees) of pixels: a gnomonic projection about the field's
        centre.

        As on the real camera, columns grow towards the west and rows towards the south.

        Parameters
        ----------
        field
            Index of the field.
        rcid
            The quadrant.
        x, y
            Columns and rows, pixels.
        """
        xi0, eta0 = _quadrant_centre(rcid)
        scale = PIXEL_SCALE / 3600
        xi = np.radians(xi0 - (np.asarray(x) - QUADRANT_SHAPE[1] / 2) * scale)
        eta = np.radians(eta0 - (np.asarray(y) - QUADRANT_SHAPE[0] / 2) * scale)
        centre = self.fields[field]
        dec0 = np.radians(centre.dec)
        below = np.cos(dec0) - eta * np.sin(dec0)
        ra = centre.ra + np.degrees(np.arctan2(xi, below))
        dec = np.degrees(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, below)))
        return ra % 360, dec

    def rotation(self, field: int, rcid: int, x: float, y: float) -> float:
        """Angle (rad) from falling rows of the detector to the north, counted from north to east.

        Parameters
        ----------
        field
            Index of the field.
        rcid
            The quadrant.
        x, y
            Column and row, pixels.
        """
        ra, dec = self.position(field, rcid, np.array([x, x]), np.array([y, y - 10]))
        east = ((ra[1] - ra[0] + 180) % 360 - 180) * np.cos(np.radians(dec[0]))
        return float(np.arctan2(-east, dec[1] - dec[0]))

    def log(self) -> pa.Table:
        """The observing log: one row an exposure. Times in jd, seeing in pixels, depths in mag, sky in DN."""
        number = np.array([f.number for f in self.fields], np.int32)[self.field]
        columns = {"jd": self.jd, "night": self.night, "field": number, "fid": self.fid}
        columns |= {"programid": self.programid, "fwhm": self.fwhm, "sky": self.sky}
        return pa.table({**columns, "magzpsci": self.zeropoint, "diffmaglim": self.maglim})


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
    return [(FIRST_FIELD + i, float(ra), float(dec)) for i, (ra, dec) in enumerate(found)]


def _choose_fields(plan: Plan, rng: np.random.Generator) -> list[Field]:
    """Fields near the meridian of an October midnight, some of them shared by private programs."""
    seen = [
        (n, ra, dec) for n, ra, dec in _grid() if dec > -20 and min(abs(ra - 20), 360 - abs(ra - 20)) < 55
    ]
    chosen = rng.choice(len(seen), size=min(plan.fields, len(seen)), replace=False)
    fields = []
    for i, index in enumerate(sorted(chosen)):
        programs = {PUBLIC} | ({PARTNERSHIP} if i % 2 else set()) | ({CALTECH} if i % 4 == 3 else set())
        filled = tuple(sorted(int(q) for q in rng.choice(64, size=plan.quadrants, replace=False)))
        number, ra, dec = seen[index]
        fields.append(Field(number, ra, dec, filled, frozenset(programs)))
    return fields


def _clear_nights(plan: Plan, rng: np.random.Generator) -> list[int]:
    """Nights without clouds; for a demonstration the last seven are always clear."""
    nights = np.arange(LAST_NIGHT - SURVEY_DAYS + 1, LAST_NIGHT + 1)
    clear = rng.random(len(nights)) < _CLEAR
    clear[-1] = True
    if plan.fair:
        clear[-7:] = True
    return [int(n) for n in nights[clear]]


def _rank(before: int, of: int) -> int:
    """Which of a night's five roles a visit has, when a field is up in `of` passes and this is not the first
    `before`: with fewer passes the second public visit comes last."""
    if of >= _PASSES or before == 0:
        return before
    return 3 if before == of - 1 else min(before, 2)


def _due(rank: int, night: int, index: int, programs: frozenset[int]) -> tuple[int, int] | None:
    """(fid, programid) of a pass over a field.

    Public: g and r every second night, a third of the fields once on the others too. Partnership: one more
    on the same nights, and i every fourth. Caltech: one every night of its fields. Together about half of
    the exposures are public, as at the telescope (Bellm et al. 2019: 40, then 50 per cent).
    """
    ago = LAST_NIGHT - night
    even = ago % 2 == 0
    band = (1, 2) if (night + index) % 2 else (2, 1)
    if rank == 0 or (rank == 3 and even):
        return (band[rank // 3], PUBLIC) if even or index % 3 == 0 else None
    if rank == 1 and PARTNERSHIP in programs and even:
        return band[1], PARTNERSHIP
    if rank == 4 and PARTNERSHIP in programs and ago % 4 == 0:
        return 3, PARTNERSHIP
    if rank == 2 and CALTECH in programs:
        return (1 if night % 2 else 2), CALTECH
    return None
