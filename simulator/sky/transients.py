"""Sources that change once: supernovae, novae, outbursts, flares, tidal disruptions, kilonovae."""

import math

import numpy as np

from simulator.identity import Chance, galaxy
from simulator.sky import lightcurves as lc
from simulator.sky.observed import observed_ia, observed_like
from simulator.sky.population import (
    Parameters,
    Sky,
    Source,
    distance_modulus,
    host,
    offset,
    point,
    redshift_within,
)

IA_REDSHIFT, CORE_REDSHIFT, TDE_REDSHIFT = 0.11, 0.07, 0.15  # beyond, the peak is too faint for an alert
_NEAR = 0.045  # where the young ones of a demonstration are
# Tripp (1998) relation: B peak of a normal Ia, stretch and colour terms (Betoule et al. 2014, H0 = 70).
_M_B, _ALPHA, _BETA = -19.05, 0.14, 3.1
# The colour law of SALT2 (Guy et al. 2007) at the effective wavelengths of g, r, i, relative to B.
_COLOUR_LAW = (-0.55, -1.75, -2.4)
_REDDENING = (3.3, 2.3, 1.7)  # A_λ / E(B−V) in g, r, i (Schlafly & Finkbeiner 2011)


def _depth(sky: Sky, rng: np.random.Generator, limit: float) -> float:
    return redshift_within(rng, min(limit, _NEAR) if sky.staged and rng.random() < 0.6 else limit)


def draw_ia(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Type Ia: stretch x1 and colour c as Scolnic & Kessler (2016, ApJ 822, L35) find them nearby."""
    z = _depth(sky, rng, IA_REDSHIFT)
    x1 = float(np.clip(rng.normal(0.9, 0.6) if rng.random() < 0.55 else rng.normal(-0.7, 1.0), -3, 3))
    c = float(np.clip(rng.normal(-0.05, 0.04) + rng.exponential(0.07), -0.25, 0.5))
    stretch = 0.98 + 0.091 * x1 + 0.003 * x1**2 - 0.00075 * x1**3  # Guy et al. 2007
    peak_b = distance_modulus(z) + _M_B - _ALPHA * x1 + _BETA * c + float(rng.normal(0, 0.1))
    explosion = sky.begins(rng, 75)
    peak_jd = explosion + 20 * stretch * (1 + z)
    law = (_COLOUR_LAW[0] * c, _COLOUR_LAW[1] * c, _COLOUR_LAW[2] * c)
    galaxy_of = host(rng, z) if rng.random() < 0.93 else None
    parameters: Parameters = {
        "t0": explosion,
        "peak_jd": peak_jd,
        "redshift": z,
        "x1": x1,
        "c": c,
        "peak_b": peak_b,
        "host_offset": galaxy_of.distance if galaxy_of else None,
    }
    if sky.observed:
        curve = observed_ia(observed_like(x1), peak_jd, peak_b, z)
    else:
        curve = lc.type_ia(peak_jd, peak_b, z, stretch, law)
    return [Source("SN Ia", sky.place(rng), curve, galaxy_of, parameters=parameters)]


def _core_collapse(
    sky: Sky, rng: np.random.Generator, kind: str, peak: tuple[float, float], colour: lc.Bands
) -> list[Source]:
    z = _depth(sky, rng, CORE_REDSHIFT)
    dust = float(rng.exponential(0.08))
    peak_r = distance_modulus(z) + float(rng.normal(*peak))
    bands = tuple(peak_r + k + a * dust for k, a in zip(colour, _REDDENING, strict=True))
    explosion = sky.begins(rng, 100 if kind == "SN II" else 60)
    galaxy_of = host(rng, z, 4.0) if rng.random() < 0.95 else None
    parameters: Parameters = {
        "t0": explosion,
        "redshift": z,
        "peak_r": bands[1],
        "dust": dust,
        "host_offset": galaxy_of.distance if galaxy_of else None,
    }
    curve = lc.supernova(
        kind, explosion, (bands[0], bands[1], bands[2]), float(rng.normal(1, 0.08)) * (1 + z)
    )
    return [Source(kind, sky.place(rng), curve, galaxy_of, parameters=parameters)]


def draw_ii(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Type II: M_r of −16.9 ± 0.9 (Richardson et al. 2014, AJ 147, 118)."""
    return _core_collapse(sky, rng, "SN II", (-16.9, 0.9), (0.05, 0.0, 0.15))


def draw_ibc(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Types Ib and Ic: M_r of −17.6 ± 0.8 (Taddia et al. 2015; Richardson et al. 2014)."""
    return _core_collapse(sky, rng, "SN Ibc", (-17.6, 0.8), (0.35, 0.0, 0.05))


def draw_tde(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Tidal disruption: M_g of −19.0 ± 0.8, rise and decay of weeks (van Velzen et al. 2021, ApJ 908, 4)."""
    z = _depth(sky, rng, TDE_REDSHIFT)
    rise, decay = float(rng.uniform(15, 30)), float(rng.uniform(30, 60))
    peak_g = distance_modulus(z) + float(rng.normal(-19.0, 0.8))
    start = sky.begins(rng, 150, 2.5 * rise)
    r = float(np.clip(distance_modulus(z) + rng.normal(-20.6, 0.9), 14.5, 21))
    nucleus = galaxy(*offset(rng, 0.1), r, rng.normal(0.6, 0.1), Chance.draw(rng))
    curve = lc.tidal_disruption(start, (peak_g, peak_g + 0.15, peak_g + 0.3), rise, decay)
    parameters: Parameters = {"t0": start, "redshift": z, "peak_g": peak_g}
    return [Source("TDE", sky.place(rng), curve, nucleus, parameters=parameters)]


def draw_nova(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A galactic nova: absolute magnitude by speed class (Downes & Duerbeck 2000, AJ 120, 2007), seen through
    the dust of the disc; its progenitor is mostly too faint for a catalogue."""
    t2 = float(10 ** rng.uniform(0.7, 1.8))
    peak = float(np.clip(rng.normal(15.5, 1.6) + 1.2 * (math.log10(t2) - 1.2), 12.6, 18.5))
    dust = float(rng.exponential(0.6))
    start = sky.begins(rng, 4 * t2)
    bands = (peak + 1.0 * dust, peak, peak - 0.6 * dust)
    entry, _ = point(rng, float(rng.uniform(20.5, 23.2)), 0.2 + dust)
    parameters: Parameters = {"t0": start, "peak_r": peak, "t2": t2, "dust": dust}
    return [Source("nova", sky.place(rng), lc.nova(start, bands, t2), entry, parameters=parameters)]


def draw_dwarf_nova(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A cataclysmic variable in outburst: amplitude 2.5 to 5.5, a week long, blue (Szkody et al. 2020)."""
    r, amplitude = float(rng.uniform(18.6, 21.6)), float(rng.uniform(2.6, 5.5))
    plateau = float(rng.uniform(2.5, 9))
    every = max(float(rng.uniform(25, 120)), plateau + 1.6 * amplitude + 8)
    start = sky.begins(rng, every, plateau + 1.0)
    entry, quiet = point(rng, r, rng.normal(0.18, 0.14))
    curve = lc.dwarf_nova(start, quiet, amplitude, plateau, every)
    parameters: Parameters = {"t0": start, "r": r, "amplitude": amplitude, "period": every}
    return [Source("dwarf nova", sky.place(rng), curve, entry, parameters=parameters)]


def draw_outburst(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A young star's accretion burst: one to three magnitudes within a day or two, for months."""
    r, excess, amplitude = float(rng.uniform(15.2, 17.8)), rng.uniform(0.3, 0.5), float(rng.uniform(1.0, 3.0))
    entry, quiet = point(rng, r, rng.normal(1.1, 0.2))
    start = sky.dawn - float(rng.uniform(0.4, 1.6)) if sky.staged else sky.begins(rng, 60)
    curve = lc.outburst(start, quiet, excess, amplitude, rise=rng.uniform(0.3, 0.8))
    parameters: Parameters = {"t0": start, "r": r, "amplitude": amplitude}
    return [Source("stellar outburst", sky.place(rng), curve, entry, parameters=parameters)]


def draw_flare(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A flare of an M dwarf that some exposure catches: minutes to hours, up to some magnitudes in g
    (Kowalski et al. 2009, AJ 138, 633)."""
    place = sky.place(rng)
    at = sky.some_exposure(place, rng)
    if at is None:
        return []
    peak = at - float(rng.uniform(0, 0.01))
    r, contrast, decay = (
        float(rng.uniform(16.5, 20)),
        float(rng.uniform(0.5, 3.5)),
        10 ** rng.uniform(-2, -0.9),
    )
    entry, quiet = point(rng, r, rng.normal(1.5, 0.06))
    curve = lc.flare(peak, quiet, contrast, decay)
    parameters: Parameters = {"t0": peak, "r": r, "amplitude": contrast}
    return [Source("flare star", place, curve, entry, parameters=parameters)]


def draw_kilonova(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """A kilonova like AT 2017gfo (M_g of −15.8; Villar et al. 2017), within 220 Mpc, in a galaxy."""
    z = redshift_within(rng, 0.03 if sky.staged else 0.05)
    merger = sky.begins(rng, 6, 3.0)
    peak_g = distance_modulus(z) + float(rng.normal(-15.8, 0.5))
    galaxy_of = host(rng, z, 2.0)
    curve = lc.kilonova(merger, (peak_g, peak_g - 0.1, peak_g - 0.1))
    parameters: Parameters = {
        "t0": merger,
        "redshift": z,
        "peak_g": peak_g,
        "host_offset": galaxy_of.distance,
    }
    return [Source("kilonova", sky.place(rng), curve, galaxy_of, parameters=parameters)]
