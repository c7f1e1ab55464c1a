"""Pictures of one object hold what the archive knows of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from archive.plots.objects import plot_cutouts, plot_light_curve, plot_place
from archive.read.archive import Archive
from archive.read.objects import NoSuchAlert
from archive.write.ingest import ingest
from schemas.errors import ZadsError
from simulator import SimulatedAlert, simulate
from tests.archive.helpers import write_packets


@pytest.fixture(scope="module")
def alerts() -> list[SimulatedAlert]:
    return list(simulate(200, seed=5, nights=3))


@pytest.fixture(scope="module")
def archive(alerts: list[SimulatedAlert], tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("object-plots")
    ingest(write_packets(folder / "packets", [alert.packet for alert in alerts]), folder / "archive")
    return Archive(folder / "archive")


@pytest.fixture(scope="module")
def most_seen(alerts: list[SimulatedAlert]) -> str:
    return Counter(alert.objectId for alert in alerts).most_common(1)[0][0]


def test_every_epoch_of_a_light_curve_is_drawn(archive: Archive, most_seen: str) -> None:
    curve = archive.light_curve(most_seen)
    [axes] = plot_light_curve(curve).axes
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    seen = curve["magpsf"].notna()
    snr = (curve["forcediffimflux"] / curve["forcediffimfluxunc"]).abs()
    measured = ~seen & curve["usable"] & (snr >= 3)
    forced = curve["magzpsci"] - 2.5 * np.log10(curve["forcediffimflux"].abs())
    limits = curve.loc[(curve["kind"] == "limit") & ~measured, "diffmaglim"]
    told = np.concatenate([curve.loc[seen, "magpsf"], forced[measured], limits])
    alerts = curve.loc[curve["kind"] == "alert", "magpsf"]
    assert sorted(heights) == pytest.approx(sorted([*told, *alerts]))
    assert measured.any(), "nothing is proved of forced photometry"
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    for fid, name in ((1, "g"), (2, "r")):
        count = int(((curve["fid"] == fid) & (seen | measured)).sum())
        assert any(word.startswith(f"{name}: {count} point") for word in words), words
    assert axes.yaxis_inverted()


def test_a_light_curve_of_limits_alone_is_drawn(archive: Archive, most_seen: str) -> None:
    curve = archive.light_curve(most_seen)
    limits = curve.assign(kind="limit", magpsf=np.nan)
    assert plot_light_curve(limits).axes


def test_each_alert_has_its_cut_out(archive: Archive, most_seen: str, alerts: list[SimulatedAlert]) -> None:
    mine = sum(alert.objectId == most_seen for alert in alerts)
    assert len(plot_cutouts(archive, most_seen).axes) == min(mine, 6)


def test_the_place_shows_every_alert_of_the_object(
    archive: Archive, most_seen: str, alerts: list[SimulatedAlert]
) -> None:
    _, near = plot_place(archive, most_seen).axes
    circle, *bands = sorted(near.lines, key=lambda line: -len(line.get_xdata()))
    assert len(circle.get_xdata()) == 200
    assert sum(len(line.get_xdata()) for line in bands) == sum(a.objectId == most_seen for a in alerts)
    assert near.xaxis_inverted()  # east is left


@pytest.mark.parametrize("plot", [plot_cutouts, plot_place])
def test_who_is_not_there_is_told(archive: Archive, plot: object) -> None:
    with pytest.raises((NoSuchAlert, ZadsError), match="ZTF00nobody"):
        plot(archive, "ZTF00nobody")  # type: ignore[operator]


def test_a_picture_can_be_shown_by_a_notebook(archive: Archive, most_seen: str, tmp_path: Path) -> None:
    assert plot_place(archive, most_seen)._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
