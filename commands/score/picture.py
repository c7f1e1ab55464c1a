"""The picture of a score: completeness by magnitude and class, confusion, time to the first alert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from filters.scoring import Score

_FOUND, _THERE = "#2a6f97", "#c9d6df"


def draw_score(result: Score, path: Path) -> None:
    """Write the picture; the suffix of `path` says the format."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    purity, completeness = (f"{v:.0%}" if v == v else "-" for v in (result.purity, result.completeness))
    figure.suptitle(f"{result.filter}: completeness {completeness}, purity {purity} (alerts)")
    _magnitudes(axes[0, 0], result)
    _classes(axes[0, 1], result)
    _confusion(axes[1, 0], result)
    _delays(axes[1, 1], result)
    figure.savefig(path, dpi=120)


def _magnitudes(axes: Axes, result: Score) -> None:
    table = result.by_magnitude()
    middle = (table["low"] + table["high"]) / 2
    # Wilson's interval would be better; the binomial error is enough to judge a bin.
    error = np.sqrt(table["completeness"] * (1 - table["completeness"]) / table["alerts"].clip(lower=1))
    axes.errorbar(middle, table["completeness"], error, fmt="o-", color=_FOUND)
    axes.set(xlabel="true magnitude of the change", ylabel="completeness", ylim=(-0.03, 1.03))
    counts = axes.twinx()
    counts.bar(middle, table["alerts"], 0.45, color=_THERE, zorder=0)
    counts.set_ylabel("alerts sought")
    axes.set_zorder(counts.get_zorder() + 1)
    axes.patch.set_visible(False)


def _classes(axes: Axes, result: Score) -> None:
    table = result.by_class().head(14).iloc[::-1]
    pairs = zip(table["class"].tolist(), table["sought"].tolist(), strict=True)
    names = [str(c) + " *" if s else str(c) for c, s in pairs]
    axes.barh(names, table["alerts"], color=_THERE, label="alerts")
    axes.barh(names, table["passed"], color=_FOUND, label="pass")
    axes.set(xscale="symlog", xlabel="alerts (* sought)")
    axes.legend(frameon=False)


def _confusion(axes: Axes, result: Score) -> None:
    table = result.confusion()
    numbers = table.to_numpy(dtype=np.int64)
    axes.imshow(np.log1p(numbers), cmap="Blues")
    axes.set_xticks(range(2), list(table.columns))
    axes.set_yticks(range(2), list(table.index))
    for i in range(2):
        for j in range(2):
            dark = np.log1p(numbers[i, j]) > 0.6 * np.log1p(numbers.max())
            colour = "white" if dark else "black"
            axes.text(j, i, format(int(numbers[i, j]), ","), ha="center", va="center", color=colour)
    axes.set_title("confusion (alerts)")


def _delays(axes: Axes, result: Score) -> None:
    delays = result.delays()
    for column, label in (("after_first", "since its first alert"), ("after_begin", "since it began")):
        days = delays[column].dropna()
        if len(days):
            axes.hist(days.clip(upper=60), list(np.linspace(0, 60, 31)), histtype="step", lw=1.6, label=label)
    axes.set(xlabel="days to the first alert that passes (60: more)", ylabel="objects sought")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
