"""Pictures of replays hold, whatever is drawn: looked at as they are rendered."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from archive.plots.replays import line_look, plot_funnel, plot_nights, plot_sky, plot_sweep
from archive.read.archive import Archive
from archive.replay.funnels import Funnel, NightSum
from archive.replay.replay import replay
from archive.replay.results import Replay
from archive.replay.sweep import sweep
from archive.write.ingest import ingest
from filters.errors import FilterError
from filters.scoring import Answer, score
from simulator import SimulatedAlert, simulate
from tests.archive.helpers import write_packets


@pytest.fixture(scope="module")
def alerts() -> list[SimulatedAlert]:
    return list(simulate(300, 5, nights=2, stamps=False))


@pytest.fixture(scope="module")
def found(alerts: list[SimulatedAlert], tmp_path_factory: pytest.TempPathFactory) -> Replay:
    folder = tmp_path_factory.mktemp("pictures")
    ingest(write_packets(folder / "in", [alert.packet for alert in alerts]), folder / "archive")
    values = [0.1, 0.5, 0.7, 0.9]
    return replay("real_bogus", Archive(folder / "archive"), parameters={"rb_min": values}, public=False)


def boxes(figure: Figure, which: str) -> list:
    """Where the labels of an axis are in the picture, pixels; those that are drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = getattr(figure.axes[0], which)()
    shown = [label for label in labels if label.get_visible() and label.get_text()]
    return [label.get_window_extent(canvas.get_renderer()) for label in shown]


def of_nights(found: Replay, count: int, step: int = 1) -> Replay:
    """A result of so many nights, some of them with nothing."""
    rng = np.random.default_rng(count)
    sums = []
    for n in range(count):
        passed = int(rng.integers(0, 50))
        funnel = Funnel(("real",), np.array([90, passed]), np.array([80, passed]))
        night = date(2023, 1, 1) + timedelta(days=n * step)
        sums.append(NightSum(night, 1, 90, complete=True, funnels=[funnel] * len(found.filters)))
    return replace(found, sums=tuple(sums))


@pytest.mark.parametrize(
    ("count", "step"), [(1, 1), (2, 1), (7, 1), (8, 1), (30, 1), (100, 1), (400, 1), (5, 90)]
)
def test_dates_do_not_lie_on_one_another(found: Replay, count: int, step: int) -> None:
    figure = plot_nights(of_nights(found, count, step))
    [axes] = figure.axes
    labels = boxes(figure, "get_xticklabels")
    assert 1 <= len(labels) <= 14
    assert not any(a.overlaps(b) for a, b in combinations(labels, 2))
    points = axes.lines[0].get_xydata()
    assert len(points) == count
    low, high = axes.get_xlim()
    assert all(low <= x <= high for x, _ in points)
    assert (np.diff(points[:, 0]) == step).all(), "days are as far apart as they are"


def test_more_lines_than_colours_are_told_apart(found: Replay) -> None:
    looks = [line_look(number) for number in range(28)]
    assert len(set(looks)) == 28
    many = replace(found, filters=tuple(found.filters[0].using(rb_min=n / 40) for n in range(40)))
    figure = plot_nights(of_nights(many, 5))
    [axes] = figure.axes
    assert "the first 28 of 40" in axes.get_title(loc="left")
    drawn = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    assert len(set(drawn)) == len(drawn) == 28
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    legend = axes.get_legend().get_window_extent(canvas.get_renderer())
    assert legend.height <= figure.bbox.height * 1.01


def test_colours_are_told_apart_by_the_colour_blind() -> None:
    """Machado et al. (2009), deuteranomaly of severity 1: no two of the seven come near each other."""
    from matplotlib.colors import to_rgb

    matrix = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    seen = [matrix @ np.array(to_rgb(line_look(n)[0])) for n in range(7)]
    assert min(np.abs(a - b).sum() for a, b in combinations(seen, 2)) > 0.12


def test_the_sky_zooms_to_what_is_there(found: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_places(ra: list[float], dec: list[float]) -> Figure:
        frame = pd.DataFrame({"ra": ra, "dec": dec, "candid": found.of(0)["candid"][: len(ra)].to_numpy()})
        places = SimpleNamespace(
            survey="ztf", alerts=lambda *_, **__: SimpleNamespace(compute=lambda **_: frame)
        )
        return plot_sky(replace(found, archive=places))  # type: ignore[arg-type]

    [axes] = of_places([359.0, 1.0, 2.0], [10.0, 11.0, 12.0]).axes
    assert axes.name == "rectilinear"
    left, right = axes.get_xlim()
    assert left > right, "east is left"
    assert left - right < 60
    points = axes.collections[0].get_offsets()
    assert np.ptp(points[:, 0]) == pytest.approx(3.0), "over 0 degrees without a jump"
    [whole] = of_places([10.0, 200.0, 300.0], [10.0, -30.0, 60.0]).axes
    assert whole.name == "mollweide"


def test_a_sweep_is_as_scored(found: Replay, alerts: list[SimulatedAlert], tmp_path: Path) -> None:
    from simulator.check.truth import truth_table

    truth = truth_table(alerts).to_pandas()
    table = sweep(found, truth, ["SN Ia", "SN II"])
    assert table["rb_min"].tolist() == [0.1, 0.5, 0.7, 0.9]
    everything = frozenset(alert.candid for alert in alerts)
    for number, row in enumerate(table.to_dict("records")):
        own = found.of(number)
        result = score("real_bogus", truth, Answer(everything, frozenset(own["candid"])), ["SN Ia", "SN II"])
        assert (row["completeness"], row["purity"]) == (result.completeness, result.purity)
        assert (row["alerts"], row["objects"]) == (len(own), own["objectId"].nunique())
        assert row["lost"] == table["alerts"][0] - row["alerts"]
        assert row["object_completeness"] == result.by_class().query("sought").pipe(
            lambda t: t["found"].sum() / t["objects"].sum()
        )
    assert table["completeness"].is_monotonic_decreasing
    first, second = plot_sweep(table).axes
    assert first.lines[0].get_xdata().tolist() == [0.1, 0.5, 0.7, 0.9]
    assert second.lines[0].get_ydata().tolist() == table["completeness"].tolist()
    table.attrs["units"] = {"rb_min": "d"}
    assert plot_sweep(table).axes[0].get_xlabel() == "rb_min (d)"
    truth.to_parquet(tmp_path / "truth.parquet")
    assert sweep(found, tmp_path / "truth.parquet", ["SN Ia", "SN II"]).equals(table)
    for wrong in (tmp_path / "none.parquet", Path(__file__)):
        with pytest.raises(FilterError, match="truth table"):
            sweep(found, wrong)
    some = replay("real_bogus", found.archive, cone=(0.0, 0.0, 1.0))
    with pytest.raises(FilterError, match="were asked about 0 of the"):
        sweep(some, truth)
    assert len(plot_sweep(sweep(found)).axes) == 1
    assert plot_sweep(sweep(found).drop(columns="rb_min")).axes[0].get_xticklabels()


def test_a_long_cut_name_is_inside_the_picture(found: Replay, tmp_path: Path) -> None:
    figure = plot_funnel(found, 0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for box in boxes(figure, "get_yticklabels"):
        assert box.x0 >= 0
