"""Pictures of a replay: alerts a night, the funnel, the sky, and a random sample of what passed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from archive.replay.results import Replay
from filters import Filter
from schemas.errors import ZadsError
from schemas.pictures.figure import blank_figure, show, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Which = int | str | Filter
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
"""Okabe & Ito (2008): told apart by colour-blind people too."""
_GREY = "#B8B8B8"
_MOST_LINES = 12


def plot_nights(found: Replay) -> Figure:
    """Alerts that pass, by night: one line a filter; nights that are not whole are hollow."""
    figure = blank_figure(8, 3.6)
    axes = figure.add_subplot()
    table = found.nights()
    for number, label in enumerate(found.labels[:_MOST_LINES]):
        rows = table[table["filter"] == label]
        colour = _COLOURS[number % len(_COLOURS)]
        days = [_day(night) for night in rows["night"]]
        axes.plot(days, rows["alerts"], "-", color=colour, label=label, linewidth=1.2)
        faces = [colour if whole else "white" for whole in rows["complete"]]
        axes.scatter(days, rows["alerts"], color=faces, edgecolors=colour, s=28, zorder=3)
    left = len(found.labels) - _MOST_LINES
    if left > 0:
        axes.set_title(f"the first {_MOST_LINES} of {len(found.labels)}", fontsize=9, loc="left")
    axes.set_ylabel("alerts a night")
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="x", rotation=30)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return plain_axes(figure, axes)


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
    """Where the alerts of these nights were (grey, a sample) and those that pass; Mollweide, east left."""
    nights = sorted({str(one.night) for one in found.sums if one.night is not None})
    frame = found.archive.alerts(nights or None, ["ra", "dec"], public=found.public).compute()
    passed = frame[frame["candid"].isin(found.of(which)["candid"])]
    rest = frame.sample(min(sample, len(frame)), random_state=0)
    figure = blank_figure(8, 4.4)
    axes = figure.add_subplot(projection="mollweide")
    axes.scatter(*_on_map(rest), s=1, color=_GREY, rasterized=True, label="all alerts")
    axes.scatter(*_on_map(passed), s=12, color=_COLOURS[1], label=found.labels[found.which(which)])
    axes.grid(alpha=0.3)
    axes.set_xticklabels([f"{hour % 24}h" for hour in range(10, -12, -2)], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1.05, -0.05), markerscale=2)
    return figure


def _on_map(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mollweide's x (east to the left, 0h in the middle) and y."""
    ra = (frame["ra"].to_numpy() + 180) % 360 - 180
    return -np.radians(ra), np.radians(frame["dec"].to_numpy())


def plot_examples(found: Replay, which: Which = 0, limit: int = 6, seed: int = 0) -> Figure:
    """Light curves and cut-outs of a random sample of what passed. Raises ZadsError when nothing did."""
    packets = found.packets(which, limit, seed)
    if not packets:
        raise ZadsError(
            f"{found.labels[found.which(which)]} passes no alert of these nights: nothing to draw"
        )
    return show(packets, limit)


def save_plots(found: Replay, folder: str | Path) -> list[Path]:
    """PNG files into a folder, which is made: nights, and funnel, sky and examples of each filter."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_figure(plot_nights(found), folder / "nights.png")]
    for number, label in enumerate(found.labels):
        name = "".join(c if c.isalnum() or c in "._-=" else "_" for c in label)
        written.append(write_figure(plot_funnel(found, number), folder / f"funnel_{name}.png"))
        written.append(write_figure(plot_sky(found, number), folder / f"sky_{name}.png"))
        if len(found.of(number)):
            written.append(write_figure(plot_examples(found, number), folder / f"examples_{name}.png"))
    return written


def _day(night: Any) -> str:
    return "no date" if pd.isna(night) else str(night.date())


def plain_axes(figure: Figure, axes: Axes) -> Figure:
    """The figure, with no more ink around the axes than is read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y" if axes.get_xscale() == "linear" else "x", alpha=0.25)
    axes.set_axisbelow(True)
    return figure
