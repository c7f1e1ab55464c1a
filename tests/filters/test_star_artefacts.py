"""Artefacts around bright stars and exposures with too many alerts: planted in a simulated night,
neighbours kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

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
from simulator import simulate, simulate_rubin, truth_table
from tests.archive.helpers import night, write_packets

BRIGHT, FAINT = (150.0, 40.0), (150.5, 40.2)
"""Two stars, of magnitudes 7 and 9: far from all that is simulated."""


Place = tuple[float, float, float, float]


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
    table = with_columns(table, columns)
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


def turned(data: bytes) -> WCS:
    """How a stamp lies on the sky, by astropy alone."""
    header = fits.Header.fromstring(data[: data.index(b"END".ljust(80))].decode())
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    return WCS(header)


def on_detector(wcs: WCS, star: tuple[float, float], along: float, across: float, angle: float) -> Place:
    """ra, dec, x and y of a place so many pixels along and across a spike of a star at (2000, 2000)."""
    turn = np.radians(angle)
    x = 2000 + along * np.cos(turn) - across * np.sin(turn)
    y = 2000 + along * np.sin(turn) + across * np.cos(turn)
    wcs = wcs.deepcopy()
    wcs.wcs.crpix, wcs.wcs.crval = (2001, 2001), star
    ra, dec = wcs.all_pix2world([[x, y]], 0)[0]
    return float(ra), float(dec), float(x), float(y)


def test_of_rubin_the_spikes_turn_with_the_camera_and_trails_are_found(tmp_path: Path) -> None:
    """Planted on one detector of a visit of the simulated night, whose stamps are turned."""
    star, angle = (59.2, -49.0), 30.0
    add_catalogue(pd.DataFrame([star], columns=["ra", "dec"]).assign(mag=8.0), "bright", 300, root=tmp_path)
    alerts = list(simulate_rubin(400, seed=5))
    visits = pd.Series([one.pid // 1000 for one in alerts])
    rows = np.flatnonzero(visits == visits.value_counts().index[0])
    planted, innocent = rows[:9], rows[9:15]
    f = load("filters.exposures.bright_stars:no_star_artefact_rubin")
    trails = load("filters.exposures.trails:no_trail_rubin")
    reads = dict.fromkeys([*f.require_reads(), *trails.require_reads()])
    maker = frames_of(tuple(reads), "lsst", externals=Externals(tmp_path))
    table = PacketReader(maker.columns, "lsst").read([one.packet for one in alerts]).table
    wcs = turned(table["cutoutDifference"][int(planted[0])].as_py())
    spikes = [(300.0, 10.0), (-420.0, -12.0), (5.0, 500.0), (-10.0, -350.0)]
    halo = [(60.0, 40.0), (-80.0, 90.0), (100.0, -70.0), (20.0, 30.0), (0.0, -90.0)]
    beside = [
        (300.0, 300.0),
        (250.0, 60.0),
        (1500.0, 900.0),
        (-900.0, 850.0),
        (40.0, 1450.0),
        (700.0, -1300.0),
    ]
    columns = {name: table[name].to_pylist() for name in ("ra", "dec", "x", "y", "detector")}
    for row, offset in zip([*planted, *innocent], [*spikes, *halo, *beside], strict=True):
        for name, value in zip(("ra", "dec", "x", "y"), on_detector(wcs, star, *offset, angle), strict=True):
            columns[name][row] = value
        columns["detector"][row] = 500
    judged = f.using(angle=angle).judge(maker.frame(with_columns(table, columns)))
    assert np.flatnonzero(~judged.mask).tolist() == sorted(planted.tolist())
    kept = judged.values["turn"][np.flatnonzero(judged.mask) == innocent[0]].iloc[0]
    there = on_detector(wcs, star, 300.0, 0.0, angle)
    told = SkyCoord(*star, unit="deg").position_angle(SkyCoord(*there[:2], unit="deg")).deg
    assert (kept - told) % 90 == pytest.approx(0, abs=0.1) or (kept - told) % 90 > 89.9
    assert f.using(angle=angle + 45).judge(maker.frame(with_columns(table, columns))).mask[planted[:4]].all()
    blind = with_columns(table, columns | {"cutoutDifference": [None] * len(alerts)})
    judged = f.using(angle=angle).judge(maker.frame(blind))
    assert np.flatnonzero(~judged.mask).tolist() == sorted(planted[4:].tolist())
    assert judged.values["turn"].isna().all()

    for number, row in enumerate(planted):  # a satellite across the detector
        columns["x"][row], columns["y"][row] = 150.0 + 400 * number, 3500.0 - 370 * number + 4 * (number % 2)
    judged = trails.judge(maker.frame(with_columns(table, columns)))
    assert np.flatnonzero(~judged.mask).tolist() == sorted(planted.tolist())


def with_columns(table: pa.Table, columns: dict[str, list[Any]]) -> pa.Table:
    for name, values in columns.items():
        kind = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), kind, pa.array(values, kind.type))
    return table


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
