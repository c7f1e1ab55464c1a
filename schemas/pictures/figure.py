"""Pictures of alerts: the light curve and the three stamps, one row an alert.

    show(packets).savefig("alerts.png")        # dictionaries, bytes, paths, or what `listen` gives
    save_picture("2475433850015010009.avro", "alert.png")

matplotlib is imported when a picture is drawn, through its objects only: no pyplot, no global state, no
screen needed.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.errors import NoSuchColumn, PacketError
from schemas.packets.packet import STAMPS, read_packet, stamp
from schemas.packets.sky import StampSky, stamp_sky
from schemas.pictures.light_curve import (
    BANDS,
    Band,
    CannotDraw,
    Epoch,
    LightCurve,
    band,
    headline,
    is_negative,
    light_curve,
)
from schemas.surveys.registry import survey_of_packet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NO_PIXEL = 1e30  # templates say "no data" by -3.4e38, the lowest float32, where the other stamps have NaN
_SCALE_BARS = (1, 2, 5, 15, 60)  # arcsec
_STRETCH = "asinh stretch"
_INK, _FAINT, _NO_DATA = "#222222", "#9a9a9a", "#ccd6e0"
_WIDTH, _ROW, _LEGEND = 11.0, 2.45, 0.6  # inches


def stamp_of(packet: Mapping[str, Any], name: str) -> npt.NDArray[np.float32] | str:
    """A stamp (pixels, NaN where there are no data), or the words to print in its place."""
    try:
        pixels = stamp(packet, name)
    except NoSuchColumn:
        return "no stamp"
    except PacketError as error:
        return f"stamp unreadable:\n{error.reason}"
    pixels = np.where(np.abs(pixels) < _NO_PIXEL, pixels, np.float32(np.nan))
    return pixels if np.isfinite(pixels).any() else "stamp without data"


def stamp_title(packet: Mapping[str, Any], name: str) -> str:
    """What to write under a stamp. ZTF reverses the difference image of a negative subtraction, so that the
    candidate is bright in it (as it is in all 44 negative ones of 203 real packets): without this label a
    fading star would look like a rising one.
    """
    survey = survey_of_packet(packet)
    turned = survey is not None and survey.stamps.turned and name == "Difference"
    return "Template − Science" if turned and is_negative(packet) else name


_ALONG = 0.963  # cos^2 of 11 degrees


def displayed(pixels: npt.NDArray[Any], sky: StampSky | None) -> tuple[npt.NDArray[Any], StampSky | None]:
    """A stamp as it is drawn, row 0 below, and how that lies on the sky.

    Where rows and columns run nearly along right ascension and declination (within 11 degrees) they are
    turned round so that north is up and east left. A stamp that is turned by a larger angle is drawn as it is
    stored. The compass is drawn turned: pixels are never interpolated. A view: the given array stays so.

    Source for ZTF: `dec` against `ypos` in real packets, and the reference source nearest to the candidate
    (`ranr`, `decnr`) in the template (tests/schemas/test_orientation.py).
    """
    if sky is None or abs(np.linalg.det(np.diag(np.diag(sky.matrix)))) < _ALONG * sky.scale**2:
        return pixels, sky
    (east, _), (_, north) = sky.matrix
    rows, columns = (-1 if north < 0 else 1), (-1 if east > 0 else 1)
    row, column = (
        place if place is None or step > 0 else side - 1 - place
        for place, step, side in zip((sky.row, sky.column), (rows, columns), pixels.shape, strict=True)
    )
    turned = replace(sky, matrix=sky.matrix * np.array([columns, rows]), column=column, row=row)
    return pixels[::rows, ::columns], turned


def stretch(pixels: npt.NDArray[Any], symmetric: bool = False) -> npt.NDArray[np.float64]:
    """Grey levels 0 (black) to 1 (white) of a stamp, the same shape; NaN stays NaN.

    The inverse hyperbolic sine of the signal over the noise (Lupton, Gunn & Szalay 1999): linear in the
    noise, logarithmic in stars. `symmetric` puts zero signal at 0.5, for difference images.
    """
    finite = np.where(np.isfinite(pixels), pixels, np.nan).astype(float)
    background = 0.0 if symmetric else np.nanmedian(finite)
    noise = 1.4826 * np.nanmedian(np.abs(finite - np.nanmedian(finite)))
    signal = (finite - background) / (noise if noise > 0 else max(np.nanstd(finite), 1e-30))
    bent = np.arcsinh(signal / 2)
    if symmetric:
        high = max(np.nanpercentile(np.abs(bent), 99.8), math.asinh(4))
        return np.clip(0.5 + bent / high / 2, 0, 1)
    low, high = math.asinh(-1.25), max(np.nanpercentile(bent, 99.8), math.asinh(4))
    return np.clip((bent - low) / (high - low), 0, 1)


def packets_of(alerts: Any, limit: int | None = None) -> list[Mapping[str, Any]]:
    """The packets in whatever was given, as plain dictionaries, at most `limit` of them.

    A dictionary, the bytes of a packet, a path, anything with a `packet`, or an iterable of these, which is
    not read further than needed. Raises CannotDraw for anything else, PacketError for bytes that are none.
    """
    if limit is not None and limit < 1:
        raise CannotDraw(f"limit {limit}: at least one alert is needed for a picture")
    return list(islice(_packets(alerts), limit))


def _packets(given: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(given, Mapping):
        yield given
    elif isinstance(given, (bytes, bytearray, memoryview)):
        yield from read_packet(bytes(given))
    elif isinstance(given, (str, PathLike)):
        if not Path(given).is_file():
            raise CannotDraw(
                f"no packet file at {given}", hint="a path names one file; give a folder's files as a list"
            )
        yield from read_packet(Path(given))
    elif hasattr(given, "packet"):
        yield from _packets(given.packet() if callable(given.packet) else given.packet)
    elif isinstance(given, Iterable) and not hasattr(given, "columns"):
        for one in given:
            yield from _packets(one)
    else:
        raise CannotDraw(
            f"cannot draw this {type(given).__name__}: it is no alert packet",
            hint="give packets (dictionaries, bytes, paths); a table of columns holds no stamps",
        )


def show(alerts: Any, limit: int = 6) -> Figure:
    """A figure of alerts, one row each: light curve, then Science, Template and Difference stamp.

    alerts: packets as dictionaries, bytes or paths, what `listen` yields, or an iterable of these; the first
    `limit` are drawn. Filled points are brighter than the reference image, open ones fainter; small points
    are forced photometry (of a signal of three times its error), triangles limits where that has nothing
    either; the alert itself is ringed. Stamps have north up and east left.

    Raises CannotDraw when there is no alert or it is of no survey that we know, PacketError when
    bytes are no packet.
    """
    packets = packets_of(alerts, limit)
    curves = [light_curve(packet) for packet in packets]
    if not packets:
        raise CannotDraw("no alert to draw", hint="the filter passed none, or the topic is empty")
    figure = blank_figure(_WIDTH, _ROW * len(packets) + _LEGEND)
    grid = figure.add_gridspec(len(packets), 4, width_ratios=[2.5, 1, 1, 1])
    for row, (packet, curve) in enumerate(zip(packets, curves, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        _draw_light_curve(axes, curve)
        _write_headline(axes, *headline(packet))
        for column, which in enumerate(STAMPS, start=1):
            draw_stamp(figure.add_subplot(grid[row, column]), packet, which)
    _legend(figure, curves, list(dict.fromkeys(filter(None, map(_stamp_note, packets)))))
    return figure


def _stamp_note(packet: Mapping[str, Any]) -> str:
    """How the stamps of a packet lie, for the legend."""
    sky = stamp_sky(packet, "Science")
    if sky is None:
        return ""
    way = "N and E as drawn" if sky.is_turned else "N up, E left"
    return f"stamps: {way}, {sky.scale:.2f}″ a pixel, {_STRETCH}"


def save_picture(alerts: Any, path: str | PathLike[str], limit: int = 6, dpi: int = 150) -> Path:
    """Draw alerts as `show` does, and write the picture to a file.

    Parameters
    ----------
    alerts
        What `show` takes: packets as dictionaries, bytes or paths, what `listen` yields, or an iterable of
        these.
    path
        The file; its ending (.png, .svg, .pdf) names the format.
    limit
        Most alerts to draw.
    dpi
        Resolution of pixel formats, dots per inch.

    Raises
    ------
    CannotDraw
        For an ending that matplotlib does not know, a missing folder, and where `show` raises it.
    PacketError
        When bytes are no packet.
    """
    return write_figure(show(alerts, limit), path, dpi)


def write_figure(figure: Figure, path: str | PathLike[str], dpi: int = 150) -> Path:
    """Write a figure to a file and return its path.

    Parameters
    ----------
    figure
        The figure.
    path
        The file; its ending (.png, .svg, .pdf) names the format.
    dpi
        Resolution of pixel formats, dots per inch.

    Raises
    ------
    CannotDraw
        When the ending names no picture format or the folder is missing.
    """
    path = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise CannotDraw(
            f"cannot draw into {path}: its ending is none of {', '.join('.' + k for k in known)}"
        )
    if not path.parent.is_dir():
        raise CannotDraw(f"cannot draw into {path}: there is no folder {path.parent}")
    figure.savefig(path, dpi=dpi)
    return path


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that a notebook shows by itself, without pyplot."""
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            into = io.BytesIO()
            self.savefig(into, format="png", dpi=110)
            return into.getvalue()

    return Picture(figsize=(width, height), layout="constrained", facecolor="white")


def _write_headline(axes: Axes, name: str, said: Sequence[str]) -> None:
    """Above the whole row: the name in bold, the rest after it."""
    title = axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=_INK, pad=7)
    rest = axes.annotate(
        "  ·  ".join(said),
        xy=(1, 0),
        xycoords=title,
        xytext=(10, 0),
        textcoords="offset points",
        fontsize=9.5,
        color=_INK,
        va="bottom",
        annotation_clip=False,
    )
    rest.set_in_layout(False)


def _draw_light_curve(axes: Axes, curve: LightCurve) -> None:
    for name in dict.fromkeys(epoch.band for epoch in curve.epochs):
        mine, look = [epoch for epoch in curve.epochs if epoch.band == name], band(name)
        for positive in (True, False):
            seen = [e for e in mine if e.detected and e.positive == positive]
            _draw_detections(axes, seen, look, filled=positive)
            forced = [e for e in mine if e.forced and e.positive == positive]
            _draw_detections(axes, forced, look, filled=positive, forced=True)
        limits = [e for e in mine if e.limit]
        if limits:
            axes.plot(
                [e.days for e in limits],
                [e.value for e in limits],
                "v",
                color=look.colour,
                markersize=5,
                markeredgecolor="none",
                alpha=0.5,
                zorder=2,
                label=f"{look.name} limits",
            )
    axes.axvline(0, color=_FAINT, lw=0.8, ls=(0, (4, 3)), zorder=1)
    if curve.now is not None:
        axes.plot(
            [0],
            [curve.now.value],
            marker="o",
            ms=13,
            mfc="none",
            mec=_INK,
            mew=1.1,
            label="this alert",
            zorder=4,
        )
    _set_axes(axes, curve)


def _draw_detections(
    axes: Axes, epochs: Sequence[Epoch], look: Band, filled: bool, forced: bool = False
) -> None:
    """Detections, or the smaller points of forced photometry: filled where brighter than the reference."""
    if not epochs:
        return
    kind = "forced " if forced else ""
    axes.errorbar(
        [e.days for e in epochs],
        [e.value for e in epochs],
        yerr=[0.0 if math.isnan(e.error) else e.error for e in epochs],
        fmt=look.marker,
        color=look.colour,
        markerfacecolor=look.colour if filled else "white",
        label=f"{look.name} {kind}{'positive' if filled else 'negative'}",
        markersize=3.5 if forced else 5.5,
        markeredgewidth=1.2,
        elinewidth=1,
        zorder=3,
    )


def _set_axes(axes: Axes, curve: LightCurve) -> None:
    longest = max([epoch.days for epoch in curve.epochs], default=0.0) or 1.0
    axes.set_xlim(longest * 1.04, -longest * 0.04)  # time runs to the right
    errors = [0 if math.isnan(e.error) else e.error for e in curve.epochs]
    lows = [e.value - error for e, error in zip(curve.epochs, errors, strict=True)]
    highs = [e.value + error for e, error in zip(curve.epochs, errors, strict=True)]
    if curve.epochs:
        low, high = min(lows), max(highs)
        least = 0.8 if curve.inverted else 0.1 * max(abs(low), abs(high))  # shown at least, in all
        margin = max(0.09 * (high - low), (least - (high - low)) / 2, 0.06 if curve.inverted else 1e-9)
        limits = (high + margin, low - margin)  # bright is up
        axes.set_ylim(limits if curve.inverted else limits[::-1])
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no magnitude", transform=axes.transAxes, ha="center", va="center", color=_FAINT)
    axes.set_xlabel("days before this alert", fontsize=8.5, color=_INK)
    axes.set_ylabel(curve.label, fontsize=8.5, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK, direction="in", top=True, right=True)
    axes.grid(color="#ececec", lw=0.6)
    axes.set_axisbelow(True)
    if curve.note:
        axes.text(0.01, 0.02, curve.note, transform=axes.transAxes, fontsize=7, color="#777777", va="bottom")


def draw_stamp(axes: Axes, packet: Mapping[str, Any], which: str) -> None:
    """Draw one stamp with the candidate marked, or write why there is none.

    Parameters
    ----------
    axes
        Where to draw.
    packet
        The packet as a dictionary.
    which
        "Science", "Template" or "Difference".
    """
    from matplotlib import colormaps

    axes.set(xticks=[], yticks=[], box_aspect=1)
    axes.set_xlabel(stamp_title(packet, which), fontsize=8.5, color=_INK)
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
    pixels = stamp_of(packet, which)
    if isinstance(pixels, str):
        axes.set_facecolor("#f4f4f4")
        axes.text(
            0.5,
            0.5,
            pixels,
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=8.5,
            color="#777777",
        )
        return
    grey = colormaps["gray"].with_extremes(bad=_NO_DATA)
    levels, sky = displayed(stretch(pixels, symmetric=which == "Difference"), stamp_sky(packet, which))
    shown = np.ma.masked_invalid(levels)
    axes.imshow(shown, cmap=grey, vmin=0, vmax=1, origin="lower", interpolation="nearest")
    _crosshair(axes, pixels.shape, sky)
    if which == "Science" and sky is not None:
        _scale_bar(axes, pixels.shape, sky)
        _compass(axes, pixels.shape, sky)


def _crosshair(axes: Axes, shape: tuple[int, ...], sky: StampSky | None) -> None:
    """Two short lines that point to the candidate without covering it.

    It is the reference position of the stamp, or its middle where there is none.
    """
    y, x = ((side - 1) / 2 for side in shape)
    if sky is not None and sky.column is not None and sky.row is not None:
        x, y = sky.column, sky.row
    near, far = 0.08 * shape[1], 0.2 * shape[1]
    for xs, ys in (([x + near, x + far], [y, y]), ([x, x], [y + near, y + far])):
        axes.plot(xs, ys, color="white", lw=3.2, solid_capstyle="butt")
        axes.plot(xs, ys, color="#0072B2", lw=1.6, solid_capstyle="butt")


def _scale_bar(axes: Axes, shape: tuple[int, ...], sky: StampSky) -> None:
    """A bar of at most a third of the stamp's width."""
    from matplotlib.patheffects import withStroke

    most = shape[1] * sky.scale / 3
    bar = max((one for one in _SCALE_BARS if one <= most), default=_SCALE_BARS[0])
    length, halo = bar / sky.scale, [withStroke(linewidth=2.2, foreground="black")]
    axes.plot([2, 2 + length], [2.5, 2.5], color="white", lw=1.6, solid_capstyle="butt", path_effects=halo)
    axes.text(
        2 + length / 2,
        3.6,
        f"{bar}″",
        color="white",
        fontsize=7,
        ha="center",
        va="bottom",
        path_effects=halo,
    )


def _compass(axes: Axes, shape: tuple[int, ...], sky: StampSky) -> None:
    """Two arrows in the lower right corner, to the north and to the east."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.2, foreground="black")]
    # What a step to the north (to the east) is in columns and rows, made one long.
    steps = np.linalg.inv(sky.matrix)[:, [1, 0]]
    (dx_n, dx_e), (dy_n, dy_e) = 0.14 * shape[1] * steps / np.linalg.norm(steps, axis=0)
    x = 0.95 * shape[1] - 1 - max(0.0, dx_n, dx_e)
    y = 0.05 * shape[0] - min(0.0, dy_n, dy_e)
    for dx, dy, letter in ((dx_n, dy_n, "N"), (dx_e, dy_e, "E")):
        axes.plot([x, x + dx], [y, y + dy], color="white", lw=1.4, path_effects=halo)
        across = "center" if abs(dx) < abs(dy) else "left" if dx > 0 else "right"
        along = "center" if abs(dx) >= abs(dy) else "bottom" if dy > 0 else "top"
        at = x + dx, y + dy
        axes.text(*at, letter, color="white", fontsize=7, path_effects=halo, ha=across, va=along)


def _legend(figure: Figure, curves: Sequence[LightCurve], notes: Sequence[str]) -> None:
    """One legend for all rows: the bands that occur, what the shapes mean, then the notes."""
    from matplotlib.lines import Line2D

    def entry(label: str, **look: Any) -> Line2D:
        return Line2D([], [], ls="none", label=label, **look)

    epochs = [epoch for curve in curves for epoch in curve.epochs]
    order = list(BANDS)
    names = sorted({e.band for e in epochs}, key=lambda name: order.index(name) if name in order else 99)
    counts = Counter(epoch.band for epoch in epochs if not epoch.limit)
    entries = [
        entry(
            f"{band(name).name}: {counts[name]} point{'s' * (counts[name] != 1)}",
            marker=band(name).marker,
            color=band(name).colour,
            ms=6,
        )
        for name in names
    ]
    if any(epoch.forced for epoch in epochs):
        entries.append(entry("small: forced photometry", marker="o", color=_INK, ms=3.5))
    if any(not epoch.limit and not epoch.positive for epoch in epochs):
        entries.append(entry("open: fainter than the reference", marker="o", mfc="white", mec=_INK, ms=6))
    if any(epoch.limit for epoch in epochs):
        entries.append(entry("limit, nothing measured", marker="v", color=_INK, alpha=0.5, mec="none", ms=6))
    if any(curve.now for curve in curves):
        entries.append(entry("this alert", marker="o", mfc="none", mec=_INK, ms=11))
    entries += [entry(note, marker="") for note in notes]
    figure.legend(handles=entries, loc="outside lower left", ncols=4, fontsize=8.5, frameon=False)
