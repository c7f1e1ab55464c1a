"""The kinds of sources that make alerts: how many there are, and their shares in a demonstration.

Each kind has two measures. `expected`: how many objects of the kind a quadrant has to offer to the
emitted nights, from the published rate named in `source`; a simulation by density draws a Poisson number of
them. `share`: the share of alerts in a staged night of a given size, where the rare kinds are raised, so that
a few thousand alerts have some of each.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from simulator.sky import artefacts as bogus
from simulator.sky import moving, transients, variables
from simulator.sky.heavens import ecliptic_latitude
from simulator.sky.population import Draw, Sky, comoving_volume
from simulator.sky.telescope import QUADRANT_AREA, QUADRANT_SHAPE

_SKY = 41253.0  # deg²
_YEAR = 365.25
Expected = Callable[[Sky], float]


class Kind(NamedTuple):
    """One kind: `draw` makes an object of it (a list of sources), `rare` ones can be raised together."""

    draw: Draw
    share: float
    expected: Expected
    source: str
    rare: bool = False


def _stars(density: float) -> Expected:
    """A mean density (a deg²) of stars over the sky, crowded towards the galactic plane."""

    def expected(sky: Sky) -> float:
        crowd = (0.4 + 4.0 * math.exp(-sky.latitude / 14)) / 1.3
        return density * crowd * QUADRANT_AREA

    return expected


def _everywhere(density: float) -> Expected:
    return lambda sky: density * QUADRANT_AREA


def _volume(rate: float, limit: float, life: float) -> Expected:
    """Events a Mpc³ and year within a redshift, that are seen for `life` days."""
    yearly = rate * comoving_volume(limit) / _SKY
    return lambda sky: yearly * QUADRANT_AREA * (len(sky.nights) + life) / _YEAR


def _plane(yearly: float, life: float) -> Expected:
    """Events a year in the Galaxy's disc; their density falls over 8 deg of latitude."""

    def expected(sky: Sky) -> float:
        density = yearly * math.exp(-sky.latitude / 8) / (360 * 16)
        return density * QUADRANT_AREA * (len(sky.nights) + life) / _YEAR

    return expected


def _belt(density: float, near: bool = False) -> Expected:
    """Bodies a deg² at the ecliptic, fewer away from it (a width of 9 deg; Gladman et al. 2009)."""

    def expected(sky: Sky) -> float:
        number, rcid = sky.cell or (0, 0)
        place = sky.survey.position(number, rcid, QUADRANT_SHAPE[1] / 2, QUADRANT_SHAPE[0] / 2)
        away = ecliptic_latitude(float(place[0]), float(place[1])) / 9
        return density / math.cosh(away) * QUADRANT_AREA * moving.passing(sky, near)

    return expected


def _exposures(rate: float) -> Expected:
    """So many in each emitted exposure of a quadrant."""

    def expected(sky: Sky) -> float:
        assert sky.cell is not None
        return rate * int((sky.survey.visits(*sky.cell).night >= sky.nights.start).sum())

    return expected


def _flares(sky: Sky) -> float:
    return _exposures(0.02)(sky) * (0.4 + 4.0 * math.exp(-sky.latitude / 14))


_BTS = "Perley et al. 2020, ApJ 904, 35 (volumetric rate)"
_CHEN = "Chen et al. 2020, ApJS 249, 18 (ZTF periodic variables, 30,000 deg²)"
_SEEN = "chosen: a third of all alerts; Duev et al. 2019, MNRAS 489, 3582, describe the kinds"

KINDS: dict[str, Kind] = {
    "asteroid": Kind(moving.draw_asteroid(True), 0.26, _belt(75), "Gladman et al. 2009"),
    "unknown asteroid": Kind(moving.draw_asteroid(False), 0.03, _belt(3), "Ye et al. 2019, PASP 131, 078002"),
    "near-Earth asteroid": Kind(
        moving.draw_near_earth, 0.004, _belt(0.004, near=True), "Ye et al. 2019", rare=True
    ),
    "RR Lyrae": Kind(variables.draw_rr_lyrae, 0.10, _stars(1.6), _CHEN),
    "Cepheid": Kind(variables.draw_cepheid, 0.01, _stars(0.05), _CHEN),
    "eclipsing binary": Kind(variables.draw_eclipsing, 0.06, _stars(13), _CHEN),
    "long-period variable": Kind(variables.draw_long_period, 0.08, _stars(4.3), _CHEN),
    "spotted star": Kind(variables.draw_spotted, 0.04, _stars(5.5), _CHEN),
    "AGN": Kind(
        variables.draw_agn, 0.07, _everywhere(12), "Palanque-Delabrouille et al. 2016, A&A 587, A41 (g < 20)"
    ),
    "SN Ia": Kind(transients.draw_ia, 0.037, _volume(2.35e-5, transients.IA_REDSHIFT, 75), _BTS, True),
    "SN II": Kind(transients.draw_ii, 0.017, _volume(7.5e-5, transients.CORE_REDSHIFT, 100), _BTS, True),
    "SN Ibc": Kind(transients.draw_ibc, 0.006, _volume(2.6e-5, transients.CORE_REDSHIFT, 60), _BTS, True),
    "TDE": Kind(
        transients.draw_tde,
        0.008,
        _volume(3.1e-7, transients.TDE_REDSHIFT, 150),
        "Yao et al. 2023, ApJ 955, L6",
        True,
    ),
    "kilonova": Kind(
        transients.draw_kilonova,
        0.001,
        _volume(3e-7, 0.05, 6),
        "Andreoni et al. 2021, ApJ 918, 63 (limit)",
        True,
    ),
    "dwarf nova": Kind(
        transients.draw_dwarf_nova,
        0.03,
        _stars(0.05),
        "Szkody et al. 2020, AJ 159, 198 (ZTF, first years)",
        True,
    ),
    "nova": Kind(transients.draw_nova, 0.003, _plane(44, 60), "De et al. 2021, ApJ 912, 19", True),
    "stellar outburst": Kind(
        transients.draw_outburst, 0.025, _plane(300, 60), "chosen: young stars of the disc", True
    ),
    "flare star": Kind(transients.draw_flare, 0.01, _flares, "Kowalski et al. 2009, AJ 138, 633", True),
    "cosmic ray": Kind(bogus.draw_hit, 0.075, _exposures(3.0), _SEEN),
    "residual": Kind(bogus.draw_residual, 0.055, _everywhere(40), _SEEN),
    "streak": Kind(bogus.draw_streak, 0.022, _exposures(0.08), _SEEN),
    "bleed trail": Kind(bogus.draw_bleed, 0.018, _exposures(0.06), _SEEN),
    "ghost": Kind(bogus.draw_ghost, 0.012, _exposures(0.05), _SEEN),
    "edge": Kind(bogus.draw_edge, 0.010, _exposures(0.3), _SEEN),
    "hot pixel": Kind(bogus.draw_hot_pixel, 0.010, _everywhere(2.0), _SEEN),
    "hot column": Kind(bogus.draw_hot_column, 0.005, _everywhere(0.5), _SEEN),
}
"""By the name of the kind; artefacts, whose class is "bogus", by their own."""
