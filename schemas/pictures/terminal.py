"""An alert in the terminal: light curve and stamps side by side, in a hundred columns.

With colours a stamp is made of half blocks, two pixels a character; without, of shades in plain ASCII.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.packets.sky import stamp_sky
from schemas.pictures.figure import STAMPS, CannotDraw, displayed, packets_of, stamp_of, stamp_title, stretch
from schemas.pictures.light_curve import Epoch, LightCurve, band, headline, light_curve

_WIDEST, _CURVE, _STAMP = 100, 34, 21  # columns; 21 is a ZTF stamp's 63 pixels, three by three
_SHADES = " .:+*o%#@"  # of rising ink, without the strokes that make the crosshair
_NO_DATA, _HAIR = (70, 84, 104), (0, 150, 220)  # slate and blue, which cannot be confused with sky
_ASCII = str.maketrans("┌┐└┘├┤┬┴┼─│▾·±−–", "+++++++++-|v.~--")

Levels = npt.NDArray[np.float64]


def print_picture(packet: Any, console: Console) -> None:
    """Print one alert: its headline, its light curve, its three stamps.

    packet: a dictionary, the bytes of a packet, a path, or what `listen` yields. In the light curve a letter
    is a detection in that band, a capital one fainter than the reference image, + and x forced photometry.
    Stamps have north up and
    east left. Narrow terminals get the
    stamps below the light curve, those without colours ASCII shades.

    Raises CannotDraw when it is no ZTF alert, PacketError when it cannot be read.
    """
    found = packets_of(packet, limit=1)
    if not found:
        raise CannotDraw("no alert to draw")
    width = min(console.width, _WIDEST)
    side = max(3, min(_STAMP, (width - 2) // 3))
    curve, stamps = light_curve(found[0]), [_stamp(found[0], which, side, console) for which in STAMPS]
    left = width - 3 * (side + 1)
    beside = left >= _CURVE
    drawn = _light_curve(curve, left if beside else width, (side + 1) // 2 + 2)
    name, said = headline(found[0])
    _print(console, width, Text.assemble((name, "bold"), "  ", " · ".join(said).replace("candid ", "")))
    if beside:
        _print(console, width, _side_by_side([drawn, *stamps], console))
    else:
        _print(console, width, drawn)
        _print(console, width, _side_by_side(stamps, console))
    _print(console, width, _key(curve))


def _print(console: Console, width: int, part: RenderableType) -> None:
    console.print(_spelled(part, console) if isinstance(part, Text) else part, width=width, highlight=False)


def _spelled(text: Text, console: Console) -> Text:
    """The text in letters that the console's encoding has."""
    if not console.options.ascii_only:
        return text
    return Text(text.plain.translate(_ASCII).encode("ascii", "replace").decode())


def _side_by_side(parts: list[Text], console: Console) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    for part in parts:
        table.add_column(no_wrap=True, width=max(map(len, part.plain.split("\n"))))
    table.add_row(*(_spelled(part, console) for part in parts))
    return table


def _light_curve(curve: LightCurve, width: int, height: int) -> Text:
    """The light curve by plotext, `height` lines with the label of its time axis."""
    import plotext

    if not curve.epochs:
        return Text("no magnitude to draw".ljust(width))
    figure = plotext.figure
    figure.clear()  # plotext has one figure for the whole process
    figure.theme("colorless")
    figure.plot_size(width, height - 1)
    low, high = _shown(curve)
    row = (high - low) / height
    for epoch in sorted(curve.epochs, key=lambda epoch: (epoch is curve.now, epoch.detected, epoch.forced)):
        x, y, pixel = [-epoch.days], [epoch.value], plotext.pixel(_rgb(band(epoch.band).colour))
        if epoch.error > row:  # a shorter bar cannot be drawn to scale
            figure.draw(figure.error(x, y, [epoch.error], pixel=pixel))
        symbol = "*" if epoch is curve.now else _symbol(epoch)
        figure.draw(figure.signal(x, y, marker=plotext.marker(symbol, pixel)))
    _set_rulers(figure, max(epoch.days for epoch in curve.epochs) or 1.0, low, high, curve.inverted)
    drawn = Text.from_ansi(str(figure.build()).rstrip("\n"))
    figure.clear()
    drawn.append("\n" + "days before this alert".center(width), style="dim")
    return drawn


def _symbol(epoch: Epoch) -> str:
    """▾ for a limit, the band's letter for a detection, + for forced photometry; when it is fainter than the
    reference a capital letter, x."""
    if epoch.limit:
        return "▾"
    if epoch.forced:
        return "+" if epoch.positive else "x"
    letter = band(epoch.band).name if len(band(epoch.band).name) == 1 else "o"
    return letter if epoch.positive else letter.upper()


def _shown(curve: LightCurve) -> tuple[float, float]:
    """The values that the axis covers: all of them and some room, no less than 0.8 mag."""
    values = [epoch.value for epoch in curve.epochs]
    least = 0.4 if curve.inverted else 0.05 * max(map(abs, values)) or 1.0
    middle, half = (min(values) + max(values)) / 2, max(least, np.ptp(values) / 2 * 1.1)
    return middle - half, middle + half


def _set_rulers(figure: Any, longest: float, low: float, high: float, inverted: bool) -> None:
    days, across = list(round_steps(0, longest, most=7)), figure.ruler("x", "lower")
    across.lim(-longest * 1.05, longest * 0.05)
    across.ticks([-day for day in days], [f"{day:g}" for day in days])
    shown, upward = list(round_steps(low, high)), figure.ruler("y", "left")
    upward.lim(low, high)
    upward.ticks(shown, [f"{value:g}" for value in shown])
    upward.direction(-1 if inverted else 1)  # bright is up


def round_steps(low: float, high: float, most: int = 5) -> Iterator[float]:
    """Round numbers for an axis: multiples of 1, 2 or 5 times a power of ten.

    Parameters
    ----------
    low
        Lower end of the axis.
    high
        Upper end, above `low`.
    most
        Most numbers to give.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(
        m * power
        for m in (1, 2, 5, 10)
        if math.floor(high / (m * power)) - math.ceil(low / (m * power)) < most
    )
    for n in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield round(n * step, 10)


def _stamp(packet: Mapping[str, Any], which: str, side: int, console: Console) -> Text:
    pixels = stamp_of(packet, which)
    title = stamp_title(packet, which).center(side)[:side]
    if isinstance(pixels, str):
        rows = [line.center(side)[:side] for line in pixels.split("\n")]
        blank = [" " * side] * ((side + 1) // 2 - len(rows))
        above = len(blank) // 2
        return Text("\n".join([*blank[:above], *rows, *blank[above:], title]), style="dim")
    # The stretch comes first: it needs the noise of single pixels.
    stretched, _ = displayed(stretch(pixels, symmetric=which == "Difference"), stamp_sky(packet, which))
    levels = shrink(stretched, side)[::-1]
    drawn = _half_blocks(levels) if _has_greys(console) else _shades(levels, which == "Difference")
    return drawn.append("\n" + title)


def _has_greys(console: Console) -> bool:
    """Whether the console shows many greys and has the half block."""
    shown = console.color_system in ("truecolor", "256") and not console.no_color
    return shown and not console.options.ascii_only


def shrink(levels: Levels, side: int) -> Levels:
    """The image in about side × side pixels, each the mean of a block; NaN where a block has no data."""
    block = max(1, math.ceil(max(levels.shape) / side))
    rows, columns = (math.ceil(n / block) * block for n in levels.shape)
    padded = np.full((rows, columns), np.nan)
    padded[: levels.shape[0], : levels.shape[1]] = levels
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a block without data: its mean is NaN, as it should be
        return np.nanmean(padded.reshape(rows // block, block, columns // block, block), axis=(1, 3))


def _hairs(shape: tuple[int, ...]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The pixels of the crosshair's two lines, right of the middle and above it, as (row, column)."""
    row, column = shape[0] // 2, shape[1] // 2
    near, far = max(2, round(0.13 * shape[1])), max(3, round(0.26 * shape[1]))
    return {(row, column + d) for d in range(near, far)}, {(row - d, column) for d in range(near, far)}


def _half_blocks(levels: Levels) -> Text:
    """▀ in the colour of the upper pixel, on that of the lower one."""
    right, up = _hairs(levels.shape)

    def colour(row: int, column: int) -> str:
        if (row, column) in right | up:
            return "rgb({},{},{})".format(*_HAIR)
        level = levels[row, column]
        grey = _NO_DATA if math.isnan(level) else (round(255 * level),) * 3
        return "rgb({},{},{})".format(*grey)

    text = Text()
    for row in range(0, levels.shape[0], 2):
        text.append("\n" if row else "")
        for column in range(levels.shape[1]):
            below = f" on {colour(row + 1, column)}" if row + 1 < levels.shape[0] else ""
            text.append("▀", style=colour(row, column) + below)
    return text


def _shades(levels: Levels, symmetric: bool) -> Text:
    """One ASCII letter for two pixels, one above the other; / for no data, = for well below zero."""
    right, up = _hairs(levels.shape)
    marks = {(r // 2, c): "-" for r, c in right} | {(r // 2, c): "|" for r, c in up}
    tall = np.full((levels.shape[0] + levels.shape[0] % 2, levels.shape[1]), np.nan)
    tall[: levels.shape[0]] = levels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        halved = np.nanmean(tall.reshape(len(tall) // 2, 2, -1), axis=1)
    lines = [
        "".join(
            marks.get((r, c)) or _shade(2 * level - 1 if symmetric else level) for c, level in enumerate(row)
        )
        for r, row in enumerate(halved)
    ]
    return Text("\n".join(lines))


def _shade(level: float) -> str:
    if math.isnan(level):
        return "/"
    return "=" if level < -1 / 3 else _SHADES[min(int(max(level, 0) * len(_SHADES)), len(_SHADES) - 1)]


def _key(curve: LightCurve) -> Text:
    """What the symbols that occur mean."""
    letters = {_symbol(epoch): band(epoch.band).colour for epoch in curve.past if epoch.detected}
    key = Text(style="dim")
    if curve.now is not None:
        key.append("*", style=band(curve.now.band).colour).append(" this alert   ")
    for capital, meaning in ((False, "detected   "), (True, "fainter than the reference   ")):
        found = sorted(letter for letter in letters if letter.isupper() == capital)
        for letter in found:
            key.append(f"{letter} ", style=letters[letter])
        key.append(meaning if found else "")
    for symbol, meaning in (("+", "forced"), ("x", "forced, fainter than the reference"), ("▾", "limit")):
        if any(_symbol(epoch) == symbol for epoch in curve.past):
            key.append(f"{symbol} {meaning}   ")
    return key.append(curve.note)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
