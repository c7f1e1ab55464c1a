"""Sources that always vary: pulsating, eclipsing, rotating stars; active nuclei."""

import numpy as np

from simulator.identity import Chance, galaxy, star
from simulator.sky import lightcurves as lc
from simulator.sky.population import Parameters, Sky, Source, offset, point


def _star(
    sky: Sky, rng: np.random.Generator, kind: str, shape: lc.Curve, r: float, g_r: float, **parameters: float
) -> list[Source]:
    entry, mean = point(rng, r, g_r)
    found: Parameters = {**parameters, "r": r}
    return [Source(kind, sky.place(rng), lc.periodic(shape, mean), entry, parameters=found)]


def draw_rr_lyrae(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Type ab: periods and amplitudes of Sesar et al. (2017, AJ 153, 204); short periods have large ones."""
    period, r = float(rng.normal(0.58, 0.06)), float(rng.triangular(14.8, 17.8, 19.8))
    amplitude = float(np.clip(rng.normal(0.9 - 2.2 * (period - 0.58), 0.2), 0.3, 1.4))
    shape = lc.sawtooth(period, sky.dawn - rng.random(), (amplitude, 0.72 * amplitude, 0.57 * amplitude))
    return _star(sky, rng, "RR Lyrae", shape, r, rng.normal(0.22, 0.06), period=period, amplitude=amplitude)


def draw_cepheid(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Classical and type II: 1 to 50 days, a fast rise (Chen et al. 2020)."""
    period, r = float(10 ** rng.normal(0.7, 0.3)), float(rng.triangular(13.0, 14.2, 16.8))
    amplitude = float(rng.uniform(0.5, 1.1))
    bands = (amplitude, 0.7 * amplitude, 0.55 * amplitude)
    shape = lc.rise_and_fall(period, sky.dawn - period * rng.random(), bands, 0.3)
    return _star(sky, rng, "Cepheid", shape, r, rng.normal(0.9, 0.25), period=period, amplitude=amplitude)


def draw_eclipsing(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Eclipsing binary: 0.3 to 5 days, a quarter to a magnitude deep."""
    period, r = float(10 ** rng.uniform(-0.55, 0.7)), float(rng.triangular(14.3, 17, 18.8))
    depth, width = float(rng.uniform(0.25, 0.9)), float(rng.uniform(0.04, 0.11))
    shape = lc.eclipses(period, sky.dawn - period * rng.random(), depth, width)
    return _star(sky, rng, "eclipsing binary", shape, r, rng.normal(0.6, 0.2), period=period, amplitude=depth)


def draw_long_period(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Mira or semiregular: months, red."""
    period, r = float(rng.uniform(80, 420)), float(rng.triangular(14, 16.2, 18.6))
    amplitude = float(rng.uniform(0.4, 3.0))
    bands = (amplitude, 0.7 * amplitude, 0.45 * amplitude)
    shape = lc.sine(period, sky.dawn - period * rng.random(), bands)
    kind = "long-period variable"
    return _star(sky, rng, kind, shape, r, rng.normal(1.6, 0.2), period=period, amplitude=amplitude)


def draw_spotted(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A spotted star that turns (RS CVn, BY Dra): tenths of a magnitude."""
    period, r = float(10 ** rng.uniform(-0.3, 1.3)), float(rng.triangular(13.6, 14.6, 16.5))
    amplitude = float(rng.uniform(0.1, 0.35))
    bands = (1.1 * amplitude, amplitude, 0.7 * amplitude)
    shape = lc.sine(period, sky.dawn - period * rng.random(), bands)
    return _star(sky, rng, "spotted star", shape, r, rng.normal(1.1, 0.2), period=period, amplitude=amplitude)


def draw_agn(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """An active nucleus or quasar: red noise of some tenths of a magnitude over years (MacLeod et al. 2010,
    ApJ 721, 1014), bluer when brighter; a third look like stars."""
    r = float(rng.triangular(15.8, 18.6, 19.6))
    amplitude = float(rng.lognormal(np.log(0.22), 0.35))
    shape = lc.red_noise(rng, (1.2 * amplitude, amplitude, 0.8 * amplitude))
    g_r = float(rng.normal(0.35, 0.2))
    place, chance = offset(rng, 0.1), Chance.draw(rng)
    nucleus = (
        star(*place, r, g_r, chance) if rng.random() < 0.35 else galaxy(*place, r, g_r, chance, core=0.75)
    )
    curve = lc.periodic(shape, nucleus.mags[:3])
    return [Source("AGN", sky.place(rng), curve, nucleus, parameters={"r": r, "amplitude": amplitude})]
