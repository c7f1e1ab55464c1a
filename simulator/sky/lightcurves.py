"""Light curves: true difference flux against time, for each kind of object.

A curve is a function of (jd, fid) arrays giving the signed difference flux (science minus reference) in
units where magnitude = 25 − 2.5 log₁₀ |flux|.
"""

from collections.abc import Callable, Sequence

import numpy as np

from simulator.sky.templates import below_peak

Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]
Bands = tuple[float, float, float]  # a magnitude or offset in g, r, i

# Days since explosion, and magnitudes below peak in g, r, i: rough means of the published light curves
# (II: Rubin et al. 2016, ApJ 820, 33, and Anderson et al. 2014; Ibc: Taddia et al. 2015, A&A 574, A60).
_TEMPLATES: dict[str, tuple[list[float], list[float], list[float], list[float]]] = {
    "SN II": (
        [0.1, 0.6, 1, 2, 3, 5, 8, 12, 20, 40, 80, 100, 115, 140],
        [6.0, 2.6, 2.0, 1.2, 0.8, 0.35, 0.1, 0.0, 0.25, 0.9, 1.6, 2.0, 3.6, 4.0],
        [6.0, 2.8, 2.2, 1.4, 1.0, 0.5, 0.2, 0.0, 0.02, 0.15, 0.4, 0.7, 2.2, 2.6],
        [6.0, 2.9, 2.3, 1.5, 1.1, 0.6, 0.3, 0.05, 0.0, 0.05, 0.3, 0.6, 2.0, 2.4],
    ),
    "SN Ibc": (
        [0.2, 1, 2, 3, 5, 8, 12, 16, 20, 24, 30, 45, 70, 100],
        [7.0, 4.4, 3.4, 2.7, 1.8, 0.95, 0.25, 0.0, 0.2, 0.7, 1.4, 2.3, 2.9, 3.5],
        [7.0, 4.6, 3.6, 2.9, 2.0, 1.15, 0.4, 0.05, 0.0, 0.2, 0.7, 1.6, 2.3, 2.9],
        [7.0, 4.6, 3.6, 2.9, 2.0, 1.2, 0.45, 0.1, 0.0, 0.1, 0.5, 1.3, 2.0, 2.6],
    ),
}


def flux_of(magnitude: np.ndarray | Sequence[float] | float) -> np.ndarray:
    """Flux in units of zero point 25."""
    return 10 ** (-0.4 * (np.asarray(magnitude, float) - 25))


def per_band(values: Bands, fid: np.ndarray) -> np.ndarray:
    """The value of each epoch's band (fid 1, 2, 3 = g, r, i)."""
    return np.asarray(values, float)[fid - 1]


def supernova(kind: str, explosion: float, peak: Bands, stretch: float = 1.0) -> Curve:
    """A supernova from a template; no flux before the explosion.

    Parameters
    ----------
    kind
        "SN II" or "SN Ibc", a key of the templates.
    explosion
        Julian date, days.
    peak
        Peak magnitudes in g, r, i.
    stretch
        Factor on the template's days.

    Source
    ------
    Rough means of published light curves, see `_TEMPLATES`.
    """
    days, *below = _TEMPLATES[kind]

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        age = (jd - explosion) / stretch
        faint = np.select([fid == b for b in (1, 2, 3)], [np.interp(age, days, d) for d in below])
        return np.where(age > 0, flux_of(per_band(peak, fid) + faint), 0.0)

    return curve


def type_ia(peak_jd: float, peak_b: float, redshift: float, stretch: float, colour: Bands) -> Curve:
    """A type Ia supernova: the Hsiao template, stretched in time.

    Parameters
    ----------
    peak_jd
        Julian date of the rest-frame B peak, days.
    peak_b
        Apparent magnitude of the template's rest-frame B peak at this distance.
    redshift
        Of the supernova.
    stretch
        Factor on the template's rest-frame days.
    colour
        Magnitudes to add in g, r, i.

    Source
    ------
    See `simulator.sky.templates`.
    """

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        days = (jd - peak_jd) / (1 + redshift) / stretch
        return flux_of(peak_b + per_band(colour, fid) + below_peak(days, redshift, fid))

    return curve


def tidal_disruption(start: float, peak: Bands, rise: float, decay: float) -> Curve:
    """A tidal disruption: a half-sine rise, then the −5/3 power law of fallback; the colour is constant.

    Parameters
    ----------
    start
        Julian date of the beginning, days.
    peak
        Peak magnitudes in g, r, i.
    rise
        Days from the beginning to the peak.
    decay
        Time scale of the power law, days.
    """

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        age = jd - start
        up = np.sin(np.clip(age / rise, 0, 1) * np.pi / 2) ** 2
        down = (1 + np.clip(age - rise, 0, None) / decay) ** (-5 / 3)
        return flux_of(per_band(peak, fid)) * up * down

    return curve


def dwarf_nova(start: float, quiet: Bands, amplitude: float, plateau: float, every: float) -> Curve:
    """Outbursts of a cataclysmic variable: up within a day, a plateau, down half a magnitude a day.

    Parameters
    ----------
    start
        Julian date of the beginning of one outburst, days.
    quiet
        Magnitudes in quiescence in g, r, i.
    amplitude
        Of an outburst, mag.
    plateau
        End of the plateau, days after the beginning.
    every
        Days from one outburst to the next.
    """

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        age = np.mod(jd - start, every)
        shape = np.interp(age, [0, 0.9, plateau, plateau + 1.6 * amplitude], [0, 1, 0.88, 0], right=0)
        quiescent = per_band(quiet, fid)
        return flux_of(quiescent - amplitude * shape) - flux_of(quiescent)

    return curve


def nova(start: float, peak: Bands, t2: float) -> Curve:
    """A classical nova: up within two days, then two magnitudes down in `t2` days, slower after three.

    Parameters
    ----------
    start
        Julian date of the beginning, days.
    peak
        Peak magnitudes in g, r, i.
    t2
        Days in which it fades by two magnitudes.
    """

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        age = jd - start
        fading = np.interp(age, [0, 2, 2 + t2, 2 + 2.2 * t2, 2 + 12 * t2], [6, 0, 2, 3, 7.5])
        return np.where(age > 0, flux_of(per_band(peak, fid) + fading), 0.0)

    return curve


def kilonova(merger: float, peak: Bands) -> Curve:
    """The afterglow of a neutron-star merger: blue for a day, then red and gone (Villar et al. 2017, ApJ 851,
    L21: AT 2017gfo lost about 1.9, 1.2 and 0.9 mag a day in g, r, i)."""
    decline = np.array([1.9, 1.2, 0.9])

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        age = jd - merger
        up = np.clip(age / 0.5, 0, 1)
        fading = decline[fid - 1] * np.clip(age - 0.6, 0, 20)
        return flux_of(per_band(peak, fid) + fading) * up

    return curve


def outburst(start: float, quiet: Bands, excess: float, amplitude: float, rise: float) -> Curve:
    """The outburst of a young star.

    Parameters
    ----------
    start
        Julian date of the beginning, days.
    quiet
        Magnitudes in the reference image in g, r, i.
    excess
        How much brighter than the reference it always is, mag.
    amplitude
        How much it brightens, mag.
    rise
        Time scale of the brightening, days.
    """

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        quiescent = per_band(quiet, fid)
        up = amplitude * (1 - np.exp(-np.clip(jd - start, 0, None) / rise))
        return flux_of(quiescent - excess - up) - flux_of(quiescent)

    return curve


def flare(peak_jd: float, quiet: Bands, contrast: float, decay: float) -> Curve:
    """A flare of an M dwarf: impulsive rise, then exponential decay.

    Parameters
    ----------
    peak_jd
        Julian date of the peak, days.
    quiet
        Magnitudes in quiescence in g, r, i; only g is used.
    contrast
        How much brighter than the quiet star the flare's light is at its peak in g, mag.
    decay
        Time scale of the decay, days.
    """
    colour = np.array([0.0, 0.9, 1.8])  # the hot light of a flare is faint in the redder bands

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        age = jd - peak_jd
        shape = np.where(
            age < 0, np.exp(np.clip(age, -1, 0) / (decay / 15)), np.exp(-np.clip(age, 0, 9) / decay)
        )
        extra = flux_of(quiet[0] - contrast + colour[fid - 1])
        return extra * shape

    return curve


def periodic(shape: Curve, mean: Bands) -> Curve:
    """A star whose magnitude departs from its mean by `shape` (mag, positive is fainter)."""

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        quiescent = per_band(mean, fid)
        return flux_of(quiescent + shape(jd, fid)) - flux_of(quiescent)

    return curve


def sawtooth(period: float, epoch: float, amplitude: Bands) -> Curve:
    """RR Lyrae (ab): a fast rise over 0.15 of the period, then a slow decline; magnitudes, zero on average.

    Parameters
    ----------
    period
        Days.
    epoch
        Julian date of a beginning of the rise, days.
    amplitude
        Peak to peak in g, r, i, mag.
    """

    def shape(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        phase = np.mod((jd - epoch) / period, 1)
        return per_band(amplitude, fid) * np.interp(
            phase, [0, 0.15, 0.5, 0.85, 1], [0.45, -0.55, 0.15, 0.5, 0.45]
        )

    return shape


def rise_and_fall(period: float, epoch: float, amplitude: Bands, rise: float) -> Curve:
    """A classical Cepheid: linear rise and linear decline; magnitudes, zero on average.

    Parameters
    ----------
    period
        Days.
    epoch
        Julian date of a beginning of the rise, days.
    amplitude
        Peak to peak in g, r, i, mag.
    rise
        Share of the period in which it rises, 0 to 1.
    """

    def shape(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        phase = np.mod((jd - epoch) / period, 1)
        wave = np.where(phase < rise, 0.5 - phase / rise, (phase - rise) / (1 - rise) - 0.5)
        return per_band(amplitude, fid) * wave

    return shape


def sine(period: float, epoch: float, amplitude: Bands) -> Curve:
    """A sine in magnitudes: pulsation of long period, or a rotating spotted star.

    Parameters
    ----------
    period
        Days.
    epoch
        Julian date of phase zero, days.
    amplitude
        Peak to peak in g, r, i, mag.
    """

    def shape(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        return -0.5 * per_band(amplitude, fid) * np.sin(2 * np.pi * (jd - epoch) / period)

    return shape


def eclipses(period: float, epoch: float, depth: float, width: float) -> Curve:
    """An eclipsing binary: primary minimum, and a secondary half as deep; magnitudes.

    Parameters
    ----------
    period
        Days.
    epoch
        Julian date of a primary minimum, days.
    depth
        Of the primary minimum, mag.
    width
        Of each minimum, as a share of the period.
    """

    def shape(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        phase = np.mod((jd - epoch) / period + 0.5, 1) - 0.5
        second = np.abs(np.mod(phase, 1) - 0.5)
        primary = depth * np.exp(-0.5 * (phase / width) ** 4)
        return primary + 0.5 * depth * np.exp(-0.5 * (second / width) ** 4)

    return shape


def red_noise(
    rng: np.random.Generator, amplitude: Bands, shortest: float = 5.0, longest: float = 400.0
) -> Curve:
    """Irregular brightness of an active nucleus: sinusoids of random phase, stronger at longer periods.

    Parameters
    ----------
    rng
        Source of random numbers.
    amplitude
        Standard deviation in g, r, i, mag.
    shortest
        Shortest period, days.
    longest
        Longest period, days.
    """
    period = np.exp(rng.uniform(np.log(shortest), np.log(longest), 12))
    phase = rng.uniform(0, 2 * np.pi, 12)
    weight = np.sqrt(period)
    weight /= np.sqrt((weight**2).sum() / 2)

    def shape(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        waves = np.sin(2 * np.pi * (jd[:, None] / period) + phase) @ weight
        return per_band(amplitude, fid) * waves

    return shape


def once(at: float, flux: float) -> Curve:
    """Light in the single exposure taken at `at` (jd): a moving object, or something that is no object."""

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        return np.where(jd == at, flux, 0.0)

    return curve


def repeating(times: np.ndarray, flux: np.ndarray) -> Curve:
    """Light in the exposures taken at `times` (jd, ascending) only: a defect of the detector."""

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        place = np.clip(np.searchsorted(times, jd), 0, len(times) - 1)
        return np.where(times[place] == jd, flux[place], 0.0)

    return curve
