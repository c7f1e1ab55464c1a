"""When the telescope looks where, in which band, and how deep: Rubin's cadence on a few fields.

Source: Ivezic et al. 2019, ApJ 873, 111, table 2 (depths) and section 2 (a visit of 30 s each 37 s or so);
Bianco et al. 2022, ApJS 258, 1 (two visits a night to a field, in two bands).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.time import FIRST_NIGHT_JD, SECONDS, night_date

BANDS = ("u", "g", "r", "i", "z", "y")
DEPTH = dict(zip(BANDS, (23.9, 25.0, 24.7, 24.0, 23.3, 22.1), strict=True))
"""5 sigma depth of a visit, AB magnitude."""

EVERY = 37.0
"""Seconds from one visit to the next."""

SEASON = 120
"""Nights of histories before the emitted night."""

FIELDS = ((58.9, -49.3), (150.1, 2.2), (53.2, -28.1), (9.5, -44.0))
"""Pointings (deg): right ascension, declination."""

RADIUS = 1.75
"""deg; of the field of view."""

_PAIRS = (("u", "g"), ("g", "r"), ("r", "i"), ("i", "z"), ("z", "y"), ("r", "z"))
_LAST_NIGHT = 3652
"""The emitted night, 2027-01-01, as days since 2017-01-01."""

_APART = 0.015
"""Days at least between the two visits of a pair."""


@dataclass(frozen=True)
class Visits:
    """All visits, in order of time. jd: days UTC, middle of the exposure; band: index in BANDS; number: of
    the visit, as the survey counts it (date and sequence); emitted: those of the last night."""

    jd: np.ndarray
    field: np.ndarray
    band: np.ndarray
    number: np.ndarray
    night: np.ndarray
    emitted: np.ndarray


def visits(seed: int, pairs: int) -> Visits:
    """A season: two visits to each field every third night, and a last night of `pairs` pairs for each.

    A night's first visits of all pairs come one after the other, then the second ones.
    """
    rng = np.random.default_rng([seed, 1])
    rows: list[tuple[float, int, int, int, int]] = []
    for season_night in range(SEASON + 1):
        last, date = season_night == SEASON, night_date(_LAST_NIGHT - SEASON + season_night)
        turns = [f for f in range(len(FIELDS)) if last or (season_night + f) % 3 == 0] * (
            pairs if last else 1
        )
        chosen = [_PAIRS[int(rng.integers(len(_PAIRS)))] for _ in turns]
        dusk = FIRST_NIGHT_JD + _LAST_NIGHT - SEASON + season_night + 1.05  # 1 h UT in Chile's night
        later = max(_APART, len(turns) * EVERY / SECONDS)
        for which in (0, 1):
            for turn, where in enumerate(turns):
                sequence = which * len(turns) + turn + 1
                jd = dusk + which * later + turn * EVERY / SECONDS
                number = int(f"{date:%Y%m%d}") * 100_000 + sequence
                rows.append((jd, where, BANDS.index(chosen[turn][which]), number, season_night))
    jds, fields, bands, numbers, nights = (np.array(column) for column in zip(*rows, strict=True))
    return Visits(jds, fields, bands, numbers, nights, nights == SEASON)
