"""The inner loops of the stamps, compiled: stars, discs, and the three pictures they make."""

import math

import numpy as np

from simulator.compiled import compiled

SIDE = 63


@compiled
def paint_stars(image, x, y, light, width, faint):  # type: ignore[no-untyped-def]
    """Add round Gaussians of standard deviation `width` to an image, down to `faint` DN a pixel."""
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
    """Add inclined exponential discs of scale length `scale` (pixels; 0 is no disc), softened by the seeing.

    A disc of scale s, softened at its centre, holds 2π s² q (1 + a) e⁻ᵃ with a = soft / s.
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
    """Science, template and difference (3, SIDE, SIDE): light, sky, noise of sky and light, and what a
    subtraction leaves at bright stars: their edges, brighter on one side."""
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
