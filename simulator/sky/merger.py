"""A neutron-star merger in the simulated month: its place, time and distance, and its kilonova."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from simulator.sky import lightcurves as lc
from simulator.sky.population import (
    Parameters,
    Place,
    Sky,
    Source,
    distance_modulus,
    host,
    luminosity_distance,
)
from simulator.sky.telescope import NIGHT_ZERO, Plan, Survey

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BEFORE = 0.05  # days before the first exposure that may see it
_FIRST_DAY = datetime(2017, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Merger:
    """name: superevent (S251003ab); jd of the merger; place (deg), redshift; `place` of its kilonova."""

    name: str
    jd: float
    ra: float
    dec: float
    redshift: float
    place: Place

    @property
    def distance(self) -> float:
        """Mpc."""
        return luminosity_distance(self.redshift)

    def noise(self) -> Merger:
        """Another event, a day and a half later and elsewhere, that is retracted."""
        jd = self.jd + 1.5
        return replace(self, name=_name(jd, 300), jd=jd, ra=(self.ra + 120) % 360, dec=-0.5 * self.dec)

    def source(self, seed: int) -> Source:
        """The kilonova: like AT 2017gfo, in a galaxy."""
        rng = np.random.default_rng([seed, 90, 1])
        peak_g = distance_modulus(self.redshift) + float(rng.normal(-15.8, 0.2))
        galaxy = host(rng, self.redshift, 2.0)
        parameters: Parameters = {
            "t0": self.jd,
            "redshift": self.redshift,
            "peak_g": peak_g,
            "host_offset": galaxy.distance,
            "designation": self.name,
        }
        curve = lc.kilonova(self.jd, (peak_g, peak_g - 0.1, peak_g - 0.1))
        return Source("kilonova", self.place, curve, galaxy, parameters=parameters)


def merger_in(survey: Survey, plan: Plan, seed: int) -> Merger:
    """A neutron-star merger shortly before an emitted exposure of one quadrant, 40 to 90 Mpc away.

    Parameters
    ----------
    survey
        The survey.
    plan
        Which fields and nights are emitted.
    seed
        Of the simulated sky.
    """
    rng = np.random.default_rng([seed, 90])
    number = int(rng.integers(len(survey.fields)))
    rcid = int(rng.choice(survey.fields[number].quadrants))
    visits = survey.visits(number, rcid)
    emitted = visits.jd[visits.night >= plan.emitted.start]
    early = emitted[: max(1, len(emitted) // 2)]
    jd = float(rng.choice(early)) - _BEFORE - 0.4 if len(early) else NIGHT_ZERO + plan.emitted.start
    place = Sky(survey, plan.emitted, cell=(number, rcid)).place(rng)
    return Merger(
        _name(jd, int(rng.integers(26, 300))), jd, place.ra, place.dec, float(rng.uniform(0.009, 0.02)), place
    )


def merger_of(kilonova: Mapping[Any, Any], number: int = 0) -> Merger:
    """The merger that made a kilonova of the truth table: for messages about it.

    Parameters
    ----------
    kilonova
        Its row: t0 (jd), ra, dec (degrees), redshift.
    number
        Of several: no two have one name.
    """
    jd, ra, dec, redshift = (float(kilonova[name]) for name in ("t0", "ra", "dec", "redshift"))
    nowhere = Place(-1, -1, math.nan, math.nan, ra, dec)  # of no quadrant: it makes no source
    return Merger(_name(jd, 26 + number), jd, ra, dec, redshift, nowhere)


def _name(jd: float, count: int) -> str:
    """As GraceDB names superevents: S, the date, letters that count the day's."""
    day = _FIRST_DAY + timedelta(days=jd - NIGHT_ZERO)
    letters = ""
    while count >= 0:
        letters, count = _LETTERS[count % 26] + letters, count // 26 - 1
    return f"S{day:%y%m%d}{letters}"
