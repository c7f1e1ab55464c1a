"""What is not in the sky: artefacts of detector, optics and subtraction."""

import numpy as np

from schemas.simulated import lightcurves as lc
from schemas.simulated.identity import Chance, star
from schemas.simulated.population import Draw, Sky, Source


def _draw_hit(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A cosmic ray or hot pixel: one exposure, too sharp for a star."""
    place = sky.place(rng)
    visits = sky.tonight(place, rng)
    if visits is None:
        return []
    at = float(rng.choice(visits.jd))
    flux = float(lc.flux_of(20.2 - rng.exponential(1.2))) * 1.6
    return [
        Source(
            "bogus", place, lc.once(at, flux), artefact="cosmic ray", parameters={"artefact": "cosmic ray"}
        )
    ]


def _draw_residual(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A bright star that subtracts badly whenever the seeing is bad: comes back, with either sign."""
    east, north = rng.normal(0, 0.25, 2)
    entry = star(east, north, rng.uniform(13.2, 15.2), rng.normal(0.8, 0.2), Chance.draw(rng))
    place = sky.place(rng)
    visits = sky.survey.visits(place.field, place.rcid)
    bad = np.where(rng.random(len(visits)) < 0.25, rng.normal(0, 0.05, len(visits)), 0.0)
    at = visits.jd

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        share = bad[np.clip(np.searchsorted(at, jd), 0, len(at) - 1)]
        return share * lc.flux_of(lc.per_band(entry.mags[:3], fid))

    return [Source("bogus", place, curve, entry, "residual", parameters={"artefact": "residual"})]


def _draw_streak(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A satellite or bleed trail: many detections along a line of one exposure."""
    first = sky.place(rng)
    visits = sky.tonight(first, rng)
    if visits is None:
        return []
    at = float(rng.choice(visits.jd))
    count, angle = int(rng.integers(5, 13)), float(rng.uniform(0, np.pi))
    along = np.sort(rng.uniform(-900, 900, count))
    xs = 1536 + 0.4 * (first.x - 1536) + along * np.cos(angle)
    ys = 1540 + 0.4 * (first.y - 1540) + along * np.sin(angle) + rng.normal(0, 1.5, count)
    flux = float(lc.flux_of(rng.uniform(16.5, 18.5)))
    name = f"streak {int(rng.integers(10**6))}"
    return [
        Source(
            "bogus",
            sky.at(first.field, first.rcid, x, y),
            lc.once(at, flux * float(rng.lognormal(0, 0.3))),
            artefact="streak",
            angle=angle,
            parameters={"artefact": "streak", "designation": name},
        )
        for x, y in zip(xs, ys, strict=True)
        if 12 < x < 3060 and 12 < y < 3068
    ]


ARTEFACTS: dict[str, tuple[float, Draw]] = {
    "cosmic ray": (0.10, _draw_hit),
    "residual": (0.07, _draw_residual),
    "streak": (0.037, _draw_streak),
}
