"""Artefacts of detector, optics and subtraction: they make alerts, but are not in the sky."""

import numpy as np

from simulator.identity import Chance, star
from simulator.sky import lightcurves as lc
from simulator.sky.population import Place, Sky, Source
from simulator.sky.telescope import QUADRANT_SHAPE

ROWS, COLUMNS = QUADRANT_SHAPE
_EDGE = 12


def _bogus(place: Place, curve: lc.Curve, artefact: str, group: str | None = None, **more: object) -> Source:
    parameters = {"artefact": artefact, "designation": group}
    return Source("bogus", place, curve, artefact=artefact, parameters=parameters, **more)  # type: ignore[arg-type]


def _group(rng: np.random.Generator, artefact: str) -> str:
    """A name that the alerts of one artefact share in the truth table."""
    return f"{artefact} {int(rng.integers(10**6))}"


def _on_detector(x: float, y: float) -> bool:
    return _EDGE < x < COLUMNS - _EDGE and _EDGE < y < ROWS - _EDGE


def draw_hit(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A cosmic ray: one exposure, too sharp for a star."""
    place = sky.place(rng)
    at = sky.some_exposure(place, rng)
    if at is None:
        return []
    flux = float(lc.flux_of(20.2 - rng.exponential(1.2))) * 1.6
    return [_bogus(place, lc.once(at, flux), "cosmic ray", angle=float(rng.uniform(0, np.pi)))]


def draw_residual(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A dipole: a bright star misregistered or badly subtracted; detected repeatedly, with either sign."""
    east, north = rng.normal(0, 0.25, 2)
    entry = star(east, north, rng.uniform(13.2, 15.2), rng.normal(0.8, 0.2), Chance.draw(rng))
    place = sky.place(rng)
    visits = sky.visits(place)
    bad = np.where(rng.random(len(visits)) < 0.25, rng.normal(0, 0.05, len(visits)), 0.0)
    flux = bad * lc.flux_of(lc.per_band(entry.mags[:3], visits.fid))
    curve = lc.repeating(visits.jd, flux)
    return [_bogus(place, curve, "residual", counterpart=entry, angle=float(rng.uniform(0, 2 * np.pi)))]


def draw_streak(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A satellite: many detections along a line of one exposure."""
    first = sky.place(rng)
    at = sky.some_exposure(first, rng)
    if at is None:
        return []
    count, angle = int(rng.integers(5, 13)), float(rng.uniform(0, np.pi))
    along = np.sort(rng.uniform(-900, 900, count))
    xs = COLUMNS / 2 + 0.4 * (first.x - COLUMNS / 2) + along * np.cos(angle)
    ys = ROWS / 2 + 0.4 * (first.y - ROWS / 2) + along * np.sin(angle) + rng.normal(0, 1.5, count)
    flux, name = float(lc.flux_of(rng.uniform(16.5, 18.5))), _group(rng, "streak")
    return [
        _bogus(
            sky.at(first.field, first.rcid, x, y),
            lc.once(at, flux * float(rng.lognormal(0, 0.3))),
            "streak",
            name,
            angle=angle,
        )
        for x, y in zip(xs, ys, strict=True)
        if _on_detector(x, y)
    ]


def draw_bleed(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A saturated star bleeds along its column: a row of alerts, of either sign, in one exposure."""
    first = sky.place(rng)
    at = sky.some_exposure(first, rng)
    if at is None:
        return []
    count = int(rng.integers(5, 16))
    ys = first.y + rng.normal(0, 250, count)
    signs = rng.choice([-1, 1], count, p=[0.4, 0.6])
    fluxes = signs * lc.flux_of(rng.uniform(16.0, 19.0, count))
    name = _group(rng, "bleed trail")
    entry = star(0.0, 0.0, float(rng.uniform(8.5, 11.5)), rng.normal(0.8, 0.3), Chance.draw(rng))
    found: list[Source] = []
    for y, flux in zip(ys, fluxes, strict=True):
        x = first.x + float(rng.normal(0, 1.0))
        if not _on_detector(x, y):
            continue
        # The star itself is listed once, where it is.
        own = entry if not found and abs(y - first.y) < 60 else None
        place = sky.at(first.field, first.rcid, x, float(y))
        found.append(_bogus(place, lc.once(at, float(flux)), "bleed trail", name, counterpart=own))
    return found


def draw_ghost(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A bright star's light, reflected twice: a faint ring with several detections, in one exposure."""
    first = sky.place(rng)
    at = sky.some_exposure(first, rng)
    if at is None:
        return []
    radius, name = float(rng.uniform(35, 90)), _group(rng, "ghost")
    found = []
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))):
        x, y = first.x + radius * np.cos(angle), first.y + radius * np.sin(angle)
        if _on_detector(x, y):
            flux = float(lc.flux_of(rng.uniform(17.5, 19.5)))
            place = sky.at(first.field, first.rcid, x, y)
            found.append(_bogus(place, lc.once(at, flux), "ghost", name, angle=float(angle), trail=radius))
    return found


def draw_edge(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A bad subtraction at the detector's edge, where the reference ends."""
    anywhere = sky.place(rng)
    at = sky.some_exposure(anywhere, rng)
    if at is None:
        return []
    depth, side = float(rng.uniform(2, 10)), int(rng.integers(4))
    x = {0: depth, 1: COLUMNS - depth}.get(side, anywhere.x)
    y = {2: depth, 3: ROWS - depth}.get(side, anywhere.y)
    flux = float(lc.flux_of(rng.uniform(17.0, 19.5)) * rng.choice([-1, 1]))
    return [_bogus(sky.at(anywhere.field, anywhere.rcid, x, y), lc.once(at, flux), "edge", angle=float(side))]


def _defect(sky: Sky, rng: np.random.Generator, place: Place, share: float) -> lc.Curve:
    visits = sky.visits(place)
    awake = rng.random(len(visits)) < share
    flux = lc.flux_of(rng.uniform(17.5, 19.5)) * rng.lognormal(0, 0.2, len(visits))
    return lc.repeating(visits.jd, np.where(awake, flux, 0.0))


def draw_hot_pixel(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A bad pixel: one object that is detected again and again, always at the same pixel."""
    place = sky.place(rng)
    return [_bogus(place, _defect(sky, rng, place, 0.35), "hot pixel", fixed=True)]


def draw_hot_column(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A hot column: a few objects in one column that are detected again and again."""
    first, name = sky.place(rng), _group(rng, "hot column")
    found = []
    for y in first.y + rng.uniform(-600, 600, int(rng.integers(2, 5))):
        if _on_detector(first.x, y):
            place = sky.at(first.field, first.rcid, first.x, float(y))
            found.append(_bogus(place, _defect(sky, rng, place, 0.2), "hot column", name, fixed=True))
    return found
