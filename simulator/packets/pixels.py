"""The inner loops of the stamps, compiled: stars, discs, and the three pictures they make."""

import math

import numpy as np

from simulator.compiled import compiled

SIDE = 63


@compiled
def paint_stars(image, x, y, light, width, faint):  # type: ignore[no-untyped-def]
    """Add round Gaussians to an image.

    Parameters
    ----------
    image
        (SIDE, SIDE) float32, DN; changed in place.
    x, y
        Columns and rows of the centres, (n,) pixels.
    light
        Total flux of each, (n,) DN; may be negative.
    width
        Standard deviation of all, pixels.
    faint
        The wings end where they are fainter than this, DN a pixel.
    """
    row = np.empty(SIDE, np.float32)
    for i in range(len(x)):
        height = light[i] / (2 * math.pi * width * width)
        if abs(height) <= faint:
            continue
        reach = width * math.sqrt(2 * math.log(abs(height) / faint))
        left, right = max(0, int(x[i] - reach)), min(SIDE, int(x[i] + reach) + 2)
        low, high = max(0, int(y[i] - reach)), min(SIDE, int(y[i] + reach) + 2)
        if left >= right or low >= high:
            continue
        for c in range(left, right):
            row[c] = math.exp(-0.5 * ((c - x[i]) / width) ** 2)
        for r in range(low, high):
            factor = np.float32(height * math.exp(-0.5 * ((r - y[i]) / width) ** 2))
            for c in range(left, right):
                image[r, c] += factor * row[c]


@compiled
def paint_galaxies(image, x, y, light, scale, ratio, angle, soft):  # type: ignore[no-untyped-def]
    """Add inclined exponential discs, softened by the seeing, to an image.

    A disc of scale s, softened at its centre, holds 2π s² q (1 + a) e⁻ᵃ with a = soft / s.

    Parameters
    ----------
    image
        (SIDE, SIDE) float32, DN; changed in place.
    x, y
        Columns and rows of the centres, (n,) pixels.
    light
        Total flux of each disc, (n,) DN.
    scale
        Scale length of each, (n,) pixels; 0 is no disc.
    ratio
        Minor over major axis of each, (n,).
    angle
        Direction of the major axis of each, (n,) rad.
    soft
        Softening length of all, pixels.
    """
    for i in range(len(x)):
        if scale[i] == 0 or light[i] <= 0:
            continue
        s = math.hypot(scale[i], 0.6 * soft)
        reach = 7 * s
        left, right = max(0, int(x[i] - reach)), min(SIDE, int(x[i] + reach) + 2)
        low, high = max(0, int(y[i] - reach)), min(SIDE, int(y[i] + reach) + 2)
        height = light[i] / (2 * math.pi * s * s * ratio[i] * (1 + soft / s) * math.exp(-soft / s))
        cos, sin = math.cos(angle[i]), math.sin(angle[i])
        for r in range(low, high):
            for c in range(left, right):
                dx, dy = c - x[i], r - y[i]
                major = dx * cos + dy * sin
                minor = (dy * cos - dx * sin) / ratio[i]
                image[r, c] += height * math.exp(-math.sqrt(major * major + minor * minor + soft * soft) / s)


@compiled
def compose(  # type: ignore[no-untyped-def]
    static, deep, discs, change, pool, start, sky, noise, reference_noise, deeper, slope, upright, reverse
):
    """Science, template and difference image, (3, SIDE, SIDE) float32: light, sky, noise and residuals.

    The noise is that of sky and light. A subtraction leaves residuals at bright stars: their edges, brighter
    on one side. All images are (SIDE, SIDE) float32 in DN.

    Parameters
    ----------
    static
        Stars in the seeing of the science image.
    deep
        Stars in the seeing of the reference image.
    discs
        Galaxies.
    change
        What has changed, with its sign.
    pool
        Normal random numbers.
    start
        Where in the pool to begin; 3 × SIDE × SIDE numbers are used.
    sky
        Level of the sky, DN.
    noise
        Noise of the sky in the science image, DN a pixel.
    reference_noise
        Noise of the sky in the reference image, DN a pixel.
    deeper
        Flux scale of the reference image relative to the science image.
    slope
        Strength of the residuals relative to the edges.
    upright
        Whether the residuals run along columns, not rows.
    reverse
        Whether the difference is reference minus science.
    """
    out = np.empty((3, SIDE, SIDE), np.float32)
    sign = np.float32(-1.0 if reverse else 1.0)
    gain, variance, quiet = np.float32(1 / 6.2), np.float32(noise**2), np.float32(reference_noise**2)
    level, lift, tilt = np.float32(sky), np.float32(deeper), np.float32(slope)
    k = start
    for r in range(SIDE):
        for c in range(SIDE):
            light = static[r, c] + discs[r, c]
            r0, c0 = (max(r - 1, 0), c) if upright else (r, max(c - 1, 0))
            edge = static[r0, c0] + discs[r0, c0] - light
            shot = math.sqrt(variance + max(light, np.float32(0)) * gain)
            out[0, r, c] = light + change[r, c] + level + pool[k] * shot
            grain = math.sqrt(quiet + max(light, np.float32(0)) * np.float32(1 / 60))
            out[1, r, c] = lift * (deep[r, c] + discs[r, c]) + level + pool[k + 1] * grain
            out[2, r, c] = sign * (change[r, c] + edge * tilt + pool[k + 2] * shot)
            k += 3
    return out
