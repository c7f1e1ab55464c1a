"""Artefacts around bright stars and exposures with too many alerts: planted in a simulated night,
neighbours kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from archive.read.archive import Archive
from archive.replay.usual import usual_alerts
from archive.write.ingest import ingest
from commands.external.catalogues import add_catalogue
from filters import load
from filters.errors import FilterError
from filters.exposures.bright_stars import from_star
from filters.external import Externals
from filters.external.externals import frames_of
from schemas.packets.reader import PacketReader
from simulator import simulate, truth_table
from tests.archive.helpers import night, write_packets

BRIGHT, FAINT = (150.0, 40.0), (150.5, 40.2)
"""Two stars, of magnitudes 7 and 9: far from all that is simulated."""


def beside(star: tuple[float, float], north: float, east: float) -> tuple[float, float]:
    """The place so many arcsec from a star."""
    place = SkyCoord(*star, unit="deg").spherical_offsets_by(east * u.arcsec, north * u.arcsec)
    return place.ra.deg, place.dec.deg


HALO = [(20.0, 10.0), (-30.0, 5.0), (10.0, -40.0), (0.0, 50.0)]
SPIKES = [(120.0, 2.0), (-180.0, -3.0), (1.0, 90.0), (-2.0, -200.0), (70.0, 0.0)]
OFF = [(100.0, 100.0), (60.0, 15.0), (0.0, 260.0)]
"""Between the spikes; beside one; beyond the end of one."""


def test_planted_artefacts_are_rejected_and_innocent_neighbours_kept(tmp_path: Path) -> None:
    stars = pd.DataFrame({"ra": [BRIGHT[0], FAINT[0]], "dec": [BRIGHT[1], FAINT[1]], "mag": [7.0, 9.0]})
    add_catalogue(stars, "bright", 300, root=tmp_path)
    f = load("filters.exposures.bright_stars:no_star_artefact")
    alerts = list(simulate(1500, seed=29, stamps=False))
    maker = frames_of(f.require_reads(), "ztf", externals=Externals(tmp_path))
    table = PacketReader(maker.columns).read([one.packet for one in alerts]).table
    bogus = (truth_table(alerts).to_pandas()["class"] == "bogus").to_numpy()
    planted, innocent = np.flatnonzero(bogus)[:9], np.flatnonzero(~bogus)[:5]
    exposure = table["pid"][int(innocent[0])].as_py()
    columns = {name: table[name].to_pylist() for name in ("ra", "dec", "pid")}
    places = [beside(BRIGHT, *offset) for offset in [*HALO, *SPIKES, *OFF]]
    places += [beside(FAINT, 5.0, 5.0), beside(FAINT, 20.0, 0.0)]  # two alone with the other star
    for row, (ra, dec) in zip([*planted, *innocent], places, strict=True):
        columns["ra"][row], columns["dec"][row], columns["pid"][row] = ra, dec, exposure
    for name, values in columns.items():
        kind = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), kind, pa.array(values, kind.type))
    judged = f.judge(maker.frame(table))
    assert np.flatnonzero(~judged.mask).tolist() == sorted(planted.tolist())
    told = f.evaluate(f.restricted(maker.frame(table)))[1]
    assert np.flatnonzero(~told["no halo"]).tolist() == sorted(planted[:4].tolist())
    assert np.flatnonzero(~told["no spike"]).tolist() == sorted(planted[4:].tolist())
    turned = f.using(angle=45.0).judge(maker.frame(table)).mask
    assert turned[planted[4:]].all()
    assert f.using(members=6).passes(maker.frame(table)).all()


def frame(
    exposures: list[int], offsets: list[tuple[float, float]], star: tuple[float, float]
) -> pd.DataFrame:
    """Alerts beside one star of magnitude 10."""
    places = np.array([beside(star, *offset) for offset in offsets])
    own = {"exposure": exposures, "ra": places[:, 0], "dec": places[:, 1], "rb": 1.0}
    sep = SkyCoord(places, unit="deg").separation(SkyCoord(*star, unit="deg")).arcsec
    fixed = {"bright.sep": sep, "bright.ra": star[0], "bright.dec": star[1], "bright.mag": 10.0}
    return pd.DataFrame(own | fixed).assign(candid=range(len(places)), objectId="ZTF18a")


@pytest.mark.parametrize("star", [(10.0, 0.0), (0.001, -30.0), (359.999, 60.0), (200.0, 89.0)])
def test_places_along_a_spike_wherever_the_star_is(star: tuple[float, float]) -> None:
    offsets = [(70.0, 1.0), (-2.0, -60.0), (40.0, 40.0)]
    there = frame([1, 1, 1], offsets, star)
    names = ("ra", "dec", "bright.ra", "bright.dec")
    along, across = from_star({name: there[name].to_numpy() for name in names}, 0.0)
    assert along.tolist() == pytest.approx([70, 60, 40], abs=0.7)
    assert across.tolist() == pytest.approx([1, 2, 40], abs=0.7)


def test_one_exposure_does_not_see_another() -> None:
    f = load("filters.exposures.bright_stars:no_star_artefact")
    offsets = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert not f.passes(frame([1, 1, 1], offsets, (10.0, 0.0))).any()
    assert f.passes(frame([1, 1, 2], offsets, (10.0, 0.0))).all()
    lonely = frame([1, 1, 1], offsets, (10.0, 0.0))
    lonely[["bright.sep", "bright.ra", "bright.dec", "bright.mag"]] = np.nan  # no star within the radius
    assert f.passes(lonely).all()


def test_an_exposure_with_far_more_alerts_than_its_quadrant_usually_has(tmp_path: Path) -> None:
    write_packets(tmp_path / "in", [alert.packet for alert in night()])
    ingest(tmp_path / "in", tmp_path / "archive")
    archive = Archive(tmp_path / "archive")
    usual = usual_alerts(archive, exposures=2)
    f = load("filters.exposures.crowded:no_crowd").using(usual=usual, least=1, factor=4)
    assert f.reads is not None
    assert "rcid" in f.reads
    alerts = archive.alerts(columns=list(f.reads)).compute().reset_index(drop=True)
    counts = alerts.groupby("exposure")["rcid"].agg(["first", "size"])
    for quadrant, sizes in counts.groupby("first")["size"]:
        expected = usual.get(str(int(quadrant)), usual["else"])
        assert expected == (sizes.median() if len(sizes) >= 2 else counts["size"].median())
    assert f.passes(alerts).mean() > 0.9
    chosen = counts["size"].idxmax()
    flood = pd.concat([alerts[alerts["exposure"] == chosen]] * 40 + [alerts[alerts["exposure"] != chosen]])
    flood = flood.reset_index(drop=True)
    judged = f.judge(flood)
    assert not judged.mask[flood["exposure"] == chosen].any()
    others = f.passes(alerts[alerts["exposure"] != chosen]).tolist()
    assert judged.mask[flood["exposure"] != chosen].tolist() == others
    with pytest.raises(FilterError, match="not the same"):
        usual_alerts(archive, by="rb")
