"""A finder chart: where an object is among its neighbours, and when it can be observed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.packets.sky import StampSky, stamp_sky
from schemas.pictures.facts import facts, sexagesimal
from schemas.pictures.figure import blank_figure, displayed, stamp_of, stretch
from schemas.pictures.light_curve import CannotDraw
from schemas.pictures.observe import LOWEST, Observability, observability

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MARK, _NEIGHBOUR, _NIGHT = "#222222", "#D55E00", "#0072B2", "#e6e6ee"
_MOST_NEIGHBOURS = 8
_BARS = (1, 2, 5, 10, 30)  # arcsec
_ARM = 32  # half of a ZTF stamp, arcsec: what the lengths of marks are made for


def finder_chart(
    packet: Mapping[str, Any],
    which: str = "Template",
    site: str = "palomar",
    when: Any = None,
    neighbours: pd.DataFrame | None = None,
) -> Figure:
    """A page for the telescope.

    Parameters
    ----------
    packet : mapping
        The alert, as `read_packet` gives it.
    which : str
        The stamp to show: "Template" is the deepest, "Science" has the object in it.
    site : str
        Where it is to be observed, see `site_named`.
    when : optional
        The evening's date at the site, or a moment: see `observability`. Now where it is left out.
    neighbours : pandas.DataFrame, optional
        Sources around it: `ra`, `dec` in degrees. Beside each are written the first column with "mag" in its
        name that has a value (else the first with fractions), and the first of names or whole numbers.

    Raises
    ------
    CannotDraw
        When the packet is of no known survey, or has no such stamp.
    ZadsError
        For a site that is not known.
    """
    known = facts(packet)
    pixels = stamp_of(packet, which)
    if isinstance(pixels, str):
        raise CannotDraw(f"no finder chart: {which} has {pixels}".replace("\n", " "))
    sky = stamp_sky(packet, which)
    if sky is None:
        raise CannotDraw(f"no finder chart: nothing says how {which} lies on the sky")
    figure = blank_figure(11, 6.2)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.15, 1], height_ratios=[1, 0.8])
    chart, words, night = (figure.add_subplot(grid[place]) for place in ((slice(None), 0), (0, 1), (1, 1)))
    _draw_field(chart, *displayed(stretch(pixels), sky), which)
    shown = _draw_neighbours(chart, known, neighbours)
    seen = observability(known["ra"], known["dec"], site, when)
    _draw_night(night, seen)
    _write(words, known, seen, shown)
    return figure


def _draw_field(axes: Axes, levels: np.ndarray, sky: StampSky | None, which: str) -> None:
    """The stamp in arcseconds from the object, the object marked, a scale bar and a compass."""
    from matplotlib.transforms import Affine2D

    assert sky is not None
    rows, columns = levels.shape
    half = np.array([columns, rows]) * sky.scale / 2
    picture = axes.imshow(
        np.ma.masked_invalid(levels),
        cmap="gray_r",
        vmin=0,
        vmax=1,
        origin="lower",
        interpolation="nearest",
    )
    # Drawn shifted and turned, as the header says: the pixels stay what they are.
    (a, c), (b, d) = sky.matrix
    column = (columns - 1) / 2 if sky.column is None else sky.column
    row = (rows - 1) / 2 if sky.row is None else sky.row
    turn = Affine2D.from_values(a, b, c, d, *(-sky.matrix @ (column, row)))
    picture.set_extent((-0.5, columns - 0.5, -0.5, rows - 0.5))
    picture.set_transform(turn + axes.transData)
    room = 1.4 if abs(b) > 0.2 * abs(a) else 1.0  # for the corners of a stamp that is turned far
    axes.set(xlim=(half[0] * room, -half[0] * room), ylim=(-half[1] * room, half[1] * room))
    unit = float(min(half)) / _ARM
    for (x0, y0), (x1, y1) in (((-4, 0), (-10, 0)), ((0, 4), (0, 10))):
        axes.plot([unit * x0, unit * x1], [unit * y0, unit * y1], color=_MARK, lw=2)
    edge, bar = axes.get_xlim()[0], max(bar for bar in _BARS if bar <= max(float(half[0]) / 3, 1))
    x, y = edge * 0.92, axes.get_ylim()[0] * 0.9
    axes.plot([x, x - bar], [y, y], color=_INK, lw=2.5)
    axes.text(x - bar / 2, y + unit, f"{bar}″", ha="center", va="bottom", fontsize=10, color=_INK)
    _compass(axes, -edge * 0.88, y, 6 * unit)
    axes.set_xlabel("east (arcsec)")
    axes.set_ylabel("north (arcsec)")
    title = f"{which}: north up, east left, {sky.scale:.2f}″ a pixel, asinh stretch"
    axes.set_title(title, fontsize=9, loc="left")


def _compass(axes: Axes, x: float, y: float, length: float = 6.0) -> None:
    arrow = {"arrowstyle": "-|>", "color": _INK, "lw": 1.4}
    for dx, dy, letter in ((0.0, length, "N"), (length, 0.0, "E")):
        axes.annotate("", xy=(x + dx, y + dy), xytext=(x, y), arrowprops=arrow)
        axes.text(x + 1.35 * dx, y + 1.35 * dy, letter, ha="center", va="center", fontsize=10, color=_INK)


def _draw_neighbours(axes: Axes, known: Mapping[str, Any], around: pd.DataFrame | None) -> list[str]:
    """Circles around the nearest sources within the field; a line of words for each."""
    if around is None or around.empty:
        return []
    east = (around["ra"].to_numpy(float) - known["ra"] + 180) % 360 - 180
    east = east * np.cos(np.radians(known["dec"])) * 3600
    north = (around["dec"].to_numpy(float) - known["dec"]) * 3600
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    inside = (east < left) & (east > right) & (north > low) & (north < high)
    every = [i for i in np.argsort(np.hypot(east, north)) if inside[i]]
    order = every[:_MOST_NEIGHBOURS]
    lines = []
    for number, i in enumerate(order, start=1):
        axes.plot(
            [east[i]], [north[i]], "o", ms=14, mfc="none", mec=_NEIGHBOUR, mew=1.2, gid=f"neighbour {i}"
        )
        axes.annotate(
            str(number),
            (east[i], north[i]),
            xytext=(8, 8),
            textcoords="offset points",
            color=_NEIGHBOUR,
            fontsize=9,
        )
        more = "".join(f", {name} {_value(around[name].iloc[i])}" for name in _said(around, int(i)))
        sides = "E" if east[i] > 0 else "W", "N" if north[i] > 0 else "S"
        place = f"{abs(east[i]):.1f}″ {sides[0]}, {abs(north[i]):.1f}″ {sides[1]}"
        lines.append(f"{number}: {np.hypot(east[i], north[i]):.1f}″ away ({place}){more}")
    if len(every) > len(order):
        lines.append(f"the nearest {len(order)} of {len(every)} in the field")
    return lines


def _said(around: pd.DataFrame, which: int) -> list[str]:
    """What is written beside a neighbour: its brightness, and what it is called."""
    from pandas.api.types import is_float_dtype, is_integer_dtype, is_numeric_dtype, is_string_dtype

    others = {str(name): around[name].dtype for name in around.columns if name not in ("ra", "dec")}
    bright = [name for name, kind in others.items() if is_numeric_dtype(kind) and "mag" in name.lower()]
    bright += [name for name, kind in others.items() if is_float_dtype(kind)]
    bright = [name for name in bright if around[name].notna().iloc[which]]
    called = [name for name, kind in others.items() if is_integer_dtype(kind) or is_string_dtype(kind)]
    return list(dict.fromkeys([*bright[:1], *called[:1]]))


def _value(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float | np.floating) else str(value)


def _draw_night(axes: Axes, seen: Observability) -> None:
    """Altitude against UTC; shaded while it is dark."""
    from matplotlib.dates import AutoDateLocator, DateFormatter

    axes.fill_between(seen.utc, 0, 90, where=seen.dark.tolist(), color=_NIGHT, lw=0, label="dark")
    axes.plot(seen.utc, seen.altitude, color=_MARK, lw=1.8, label="object")
    axes.plot(seen.utc, seen.moon, color=_INK, lw=0.9, ls=":", label="Moon")
    axes.axhline(LOWEST, color=_INK, lw=0.6)
    axes.set_ylim(0, 90)
    evening = np.flatnonzero(seen.sun < 0)
    if len(evening):
        axes.set_xlim(seen.utc[evening[0]], seen.utc[evening[-1]])
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=7))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.set_ylabel("altitude (°)")
    axes.set_xlabel(f"UTC; {seen.site}, night that begins in the evening of {seen.evening}")
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))


def _write(axes: Axes, known: Mapping[str, Any], seen: Observability, neighbours: list[str]) -> None:
    """Name, coordinates in both forms, brightness, when to observe, the neighbours."""
    axes.axis("off")
    ra, dec = known["ra"], known["dec"]
    mag = "no magnitude" if known["mag"] is None else f"{known['mag']:.2f} mag (difference)"
    lines = [
        f"{sexagesimal(ra, dec)}  (ICRS)",
        f"{ra:.6f}° {dec:+.6f}°",
        f"{known['band']} = {mag}, {known['utc']} UTC",
        f"candid {known['candid']}",
        "",
        *_wrapped(seen.words()),
    ]
    axes.text(0, 1, str(known["objectId"]), fontsize=15, fontweight="bold", va="top", color=_INK)
    told = axes.text(0, 0.84, "\n".join(lines), fontsize=10, va="top", color=_INK, linespacing=1.45)
    axes.annotate(
        "\n".join(neighbours),
        (0, 0),
        xycoords=told,
        xytext=(0, -10),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=_INK,
        linespacing=1.4,
    )


def _wrapped(text: str, width: int = 52) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
