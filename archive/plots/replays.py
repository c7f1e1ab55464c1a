"""Pictures of a replay: alerts a night, the funnel, the sky, and a random sample of what passed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from archive.replay.results import Replay
from archive.replay.sweep import sweep
from filters import Filter
from schemas.pictures.figure import blank_figure, show, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Which = int | str | Filter
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
"""Okabe & Ito (2008): colour-blind readers can distinguish these colours."""
_GREY = "#B8B8B8"
_STYLES = ("-", "--", ":", "-.")
_MOST_LINES = len(_COLOURS) * len(_STYLES)
_LONGEST_NAME = 100
_MOST_LINEAR = 100  # counts; larger ones are drawn on a logarithmic scale
_WIDEST_ZOOM = 40.0
"""Degrees: alerts within an area of this size are drawn as a map of that area."""


def plot_nights(found: Replay) -> Figure:
    """Alerts that pass, by night, on an axis of dates: one line a filter, distinguished by colour and dashes.

    Nights that are not whole are hollow; alerts without a date stand in the title.
    """
    figure = blank_figure(8, 3.6 + 0.17 * max(0, len(found.labels) - 12))
    axes = figure.add_subplot()
    table = found.nights()
    for number, label in enumerate(found.labels[:_MOST_LINES]):
        rows = table[(table["filter"] == label) & table["night"].notna()].sort_values("night")
        colour, style = line_look(number)
        axes.plot(rows["night"], rows["alerts"], style, color=colour, label=label, linewidth=1.2)
        faces = [colour if whole else "white" for whole in rows["complete"]]
        size = 28 if len(rows) < 60 else 8
        axes.scatter(rows["night"], rows["alerts"], color=faces, edgecolors=colour, s=size, zorder=3)
    _title_nights(axes, found, table)
    _date_axis(axes, table["night"].dropna())
    axes.set_ylabel("alerts a night")
    axes.set_ylim(bottom=0, top=None if table["alerts"].any() else 1)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return plain_axes(figure, axes)


def line_look(number: int) -> tuple[str, str]:
    """Colour and dashes of a line: 28 combinations that colour-blind readers can distinguish too."""
    return _COLOURS[number % len(_COLOURS)], _STYLES[number // len(_COLOURS) % len(_STYLES)]


def _title_nights(axes: Axes, found: Replay, table: pd.DataFrame) -> None:
    words = []
    if len(found.labels) > _MOST_LINES:
        words.append(f"the first {_MOST_LINES} of {len(found.labels)} filters")
    undated = int(table.loc[table["night"].isna() & (table["filter"] == found.labels[0]), "of"].sum())
    if undated:
        words.append(f"{undated:,} alerts without a date are not shown")
    if not table["alerts"].any():
        words.append("nothing passed")
    axes.set_title("; ".join(words), fontsize=9, loc="left")


def _date_axis(axes: Axes, nights: pd.Series) -> None:
    """Ticks at whole days for a few nights, at weeks, months or years for many; they never overlap."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter, DayLocator

    if nights.empty:
        axes.set_xticks([])
        return
    first, last = nights.min(), nights.max()
    days = (last - first).days
    axes.set_xlim(first - pd.Timedelta(days=0.5 + days / 50), last + pd.Timedelta(days=0.5 + days / 50))
    if days < 5:
        axes.xaxis.set_major_locator(DayLocator())
        axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))
        return
    locator = AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def plot_funnel(found: Replay, which: Which = 0) -> Figure:
    """Alerts left after each cut, all nights together, on a logarithmic scale."""
    table = found.funnel(which).groupby("cut", sort=False)["alerts"].sum()
    figure = blank_figure(7, 0.8 + 0.36 * len(table))
    axes = figure.add_subplot()
    places = np.arange(len(table))[::-1]
    axes.barh(places, table.clip(lower=0.5), color=[_GREY] + [_COLOURS[0]] * (len(table) - 1), height=0.7)
    for place, count in zip(places, table, strict=True):
        axes.annotate(f" {count:,}", (max(count, 0.5), place), va="center", fontsize=9)
    axes.set_yticks(places, [str(cut) for cut in table.index])
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(table.max(), 1) * 4)
    axes.set_xlabel("alerts left")
    axes.set_title(found.labels[found.which(which)], fontsize=10, loc="left")
    return plain_axes(figure, axes)


def plot_sky(found: Replay, which: Which = 0, sample: int = 20_000) -> Figure:
    """Where the alerts of these nights were (grey, a sample) and those that pass; north up, east left.

    The whole sky (Mollweide), or where all of it is within 40 degrees a map of that part.

    Parameters
    ----------
    found
        The replay.
    which
        Which of its filters: a number, a label, or the filter.
    sample
        How many of the alerts are drawn in grey, at most.
    """
    nights = sorted({str(one.night) for one in found.sums if one.night is not None})
    frame = found.archive.alerts(nights or None, ["ra", "dec"], public=found.public).compute(
        scheduler="threads"
    )
    frame = frame[np.isfinite(frame["ra"]) & np.isfinite(frame["dec"])]
    passed = frame[frame["candid"].isin(found.of(which)["candid"])]
    rest = frame.sample(min(sample, len(frame)), random_state=0)
    figure = blank_figure(8, 4.4)
    middle = _middle(frame)
    place = _on_map if middle is None else _around(middle[0])
    if middle is None:
        axes = figure.add_subplot(projection="mollweide")
        axes.set_xticklabels([f"{hour % 24}h" for hour in range(10, -12, -2)], fontsize=7)
    else:
        axes = figure.add_subplot()
        axes.invert_xaxis()
        axes.set_xlabel("right ascension (°)")
        axes.set_ylabel("declination (°)")
        axes.set_aspect(1 / max(np.cos(np.radians(middle[1])), 0.1), adjustable="datalim")
    label = f"{found.labels[found.which(which)]}: {len(passed):,}"
    axes.scatter(*place(rest), s=1 if middle is None else 3, color=_GREY, rasterized=True, label="all alerts")
    axes.scatter(*place(passed), s=12, color=_COLOURS[1], label=label if len(passed) else "nothing passed")
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(
        fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.08), markerscale=2, ncols=2
    )
    return figure


def _middle(frame: pd.DataFrame) -> tuple[float, float] | None:
    """The middle of what is there, ra and dec in degrees, when it fits into a map of its own."""
    if frame.empty:
        return None
    ra, dec = np.radians(frame["ra"].to_numpy()), frame["dec"].to_numpy()
    middle = float(np.degrees(np.arctan2(np.sin(ra).mean(), np.cos(ra).mean())) % 360)
    east = (frame["ra"].to_numpy() - middle + 180) % 360 - 180
    wide = np.ptp(east) * np.cos(np.radians(np.abs(dec).min()))
    small = wide < _WIDEST_ZOOM and np.ptp(dec) < _WIDEST_ZOOM and np.abs(dec).max() < 80
    return (middle, float(dec.mean())) if small else None


def _around(middle: float) -> Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]:
    """Right ascension without its jump at 0, and declination."""
    return lambda frame: (
        middle + (frame["ra"].to_numpy() - middle + 180) % 360 - 180,
        frame["dec"].to_numpy(),
    )


def _on_map(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mollweide's x (east to the left, 0h in the middle) and y."""
    ra = (frame["ra"].to_numpy() + 180) % 360 - 180
    return -np.radians(ra), np.radians(frame["dec"].to_numpy())


def plot_examples(found: Replay, which: Which = 0, limit: int = 6, seed: int = 0) -> Figure:
    """Light curves and cut-outs of a random sample of what passed; a note when nothing did.

    Parameters
    ----------
    found
        The replay.
    which
        Which of its filters: a number, a label, or the filter.
    limit
        How many alerts, at most.
    seed
        Of the random choice.
    """
    packets = found.packets(which, limit, seed)
    if packets:
        return show(packets, limit)
    figure = blank_figure(8, 1.2)
    words = f"{found.labels[found.which(which)]}: nothing passed, of {found.alerts:,} alerts"
    figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=11, color="#777777")
    return figure


def plot_sweep(table: pd.DataFrame) -> Figure:
    """What `sweep` gives: alerts against the threshold that was swept, completeness and purity beside them.

    Where several parameters, or none that is a number, were swept, the rows stand one after the other.
    """
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure = blank_figure(7.5, 4)
    axes = figure.add_subplot()
    places, name = _threshold(table)
    axes.plot(places, table["alerts"], "o-", color=_COLOURS[0], label="alerts")
    axes.plot(places, table["objects"], "s--", color=_COLOURS[5], label="objects")
    if table["alerts"].max() >= _MOST_LINEAR:
        axes.set_yscale("symlog")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(bottom=0)
    unit = table.attrs.get("units", {}).get(name, "")
    axes.set_xlabel(f"{name} ({unit})" if unit else name or "")
    axes.set_ylabel("pass (alerts, objects)")
    if not name:
        axes.set_xticks(places, table["filter"], rotation=25, ha="right", fontsize=8)
    if "purity" in table:
        beside = axes.twinx()
        beside.plot(places, table["completeness"], "^-", color=_COLOURS[2], label="completeness (alerts)")
        beside.plot(
            places, table["object_completeness"], "^:", color=_COLOURS[2], label="completeness (objects)"
        )
        beside.plot(places, table["purity"], "v-", color=_COLOURS[1], label="purity")
        beside.set_ylim(-0.02, 1.02)
        beside.set_ylabel("completeness, purity")
        beside.spines["top"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=5, fontsize=8, frameon=False)
    axes.spines["top"].set_visible(False)
    axes.grid(alpha=0.25)
    return figure


def _threshold(table: pd.DataFrame) -> tuple[np.ndarray, str | None]:
    """Where each row stands, and the one parameter with numbers that was swept."""
    first, last = list(table.columns).index("filter") + 1, list(table.columns).index("alerts")
    names = list(table.columns[first:last])
    if len(names) == 1 and pd.api.types.is_numeric_dtype(table[names[0]]):
        return table[names[0]].to_numpy(float), str(names[0])
    return np.arange(len(table), dtype=float), None


def save_plots(
    found: Replay,
    folder: str | Path,
    truth: pd.DataFrame | None = None,
    seeks: Sequence[str] | None = None,
) -> list[Path]:
    """Save the pictures of a replay as PNG files: nights, the sweep, and funnel, sky and examples of each
    filter.

    Parameters
    ----------
    found
        The replay.
    folder
        Where to; it is made if it is not there.
    truth
        The truth table of a simulated sky, for the picture of the sweep.
    seeks
        Classes that the filters are for; None: the usual ones of each.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_figure(plot_nights(found), folder / "nights.png")]
    for number, label in enumerate(found.labels):
        name = "".join(c if c.isalnum() or c in "._-=" else "_" for c in label)[:_LONGEST_NAME]
        written.append(write_figure(plot_funnel(found, number), folder / f"funnel_{name}.png"))
        written.append(write_figure(plot_sky(found, number), folder / f"sky_{name}.png"))
        if len(found.of(number)):
            written.append(write_figure(plot_examples(found, number), folder / f"examples_{name}.png"))
    if len(found.filters) > 1:
        written.append(write_figure(plot_sweep(sweep(found, truth, seeks)), folder / "sweep.png"))
    return written


def plain_axes(figure: Figure, axes: Axes) -> Figure:
    """The figure without unnecessary frames around the axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y" if axes.get_xscale() == "linear" else "x", alpha=0.25)
    axes.set_axisbelow(True)
    return figure
