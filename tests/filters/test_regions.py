"""Regions beside mocpy and plain geometry; sky maps beside a map worked out pixel by pixel."""

from __future__ import annotations

import io
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from cdshealpix.nested import healpix_to_lonlat
from hypothesis import given
from hypothesis import strategies as st
from mocpy import MOC

from filters.external.add import add_notices, add_region
from filters.external.store import ExternalError, Store
from filters.regions.area import Area, BadRegion, read_area
from filters.regions.skymap import BadSkyMap, SkyMap, read_fits, read_notice
from filters.regions.skymaps import SkyMaps
from simulator import Month
from simulator.sky.messages import messages_of

FAR = 8 / 3600  # degrees: two cells of order 16, which may be inside or not at an edge


def places(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0.01, 20))
def test_a_cone_is_what_is_near(ra: float, dec: float, radius: float) -> None:
    area = read_area(f"cone {ra} {dec} {radius}")
    lon, lat = places(2000, 1)
    apart = np.abs(lat) / 90 * 2 * radius
    around = SkyCoord(ra, dec, unit="deg").directional_offset_by(lon * u.deg, apart * u.deg)
    clear = np.abs(apart - radius) > FAR
    assert (area.holds(around.ra.deg, around.dec.deg) == (apart < radius))[clear].all()


def test_a_polygon_and_a_file_hold_what_mocpy_says(tmp_path: Path) -> None:
    corners = SkyCoord([350, 20, 20, 350], [-30, -30, 25, 25], unit="deg")
    moc = MOC.from_polygon_skycoord(corners, max_depth=10)
    moc.save(tmp_path / "m.fits", format="fits")
    lon, lat = places(20_000, 2)
    theirs = moc.contains_lonlat(lon * u.deg, lat * u.deg)
    assert 0 < theirs.sum() < 5000
    assert (read_area(str(tmp_path / "m.fits")).holds(lon, lat) == theirs).all()
    fine = read_area("polygon 350 -30 20 -30 20 25 350 25")
    assert (fine.holds(lon, lat) == theirs).mean() > 0.99
    assert Area.of(moc).square_degrees == pytest.approx(moc.sky_fraction * 41252.96, rel=1e-6)


def union(*texts: str) -> Area:
    """Regions joined by mocpy, as somebody's MOC file has them."""
    ranges = [read_area(text).ranges for text in texts]
    joined = np.concatenate([np.zeros((0, 2), np.int64), *ranges]).astype(np.uint64)
    return Area.of(MOC.from_depth29_ranges(29, joined))


def test_a_union_and_nothing() -> None:
    both = union("cone 10 0 1", "cone 10.5 0 60 arcmin", "cone 200 80 1")
    assert both.holds(np.array([9.5, 11.2, 200.0, 50.0]), np.array([0, 0, 80.0, 0])).tolist() == [
        True
    ] * 3 + [False]
    assert not union().holds(np.array([1.0]), np.array([1.0])).any()
    assert not both.holds(np.array([np.nan, 10.0]), np.array([0.0, np.nan])).any()


@pytest.mark.parametrize(
    "text", ["", "cone 1 2", "cone a b c", "polygon 1 2 3 4", "nothing.fits", "circle 1 2 3"]
)
def test_what_is_no_region_is_said(text: str) -> None:
    with pytest.raises(BadRegion, match="is no region"):
        read_area(text)


def written(order: np.ndarray, pixel: np.ndarray, density: np.ndarray) -> bytes:
    """A multi-order file by astropy, of cells that are there in any order."""
    table = Table({"UNIQ": 4 * 4 ** order.astype(np.int64) + pixel, "PROBDENSITY": density / u.sr})
    table.meta = {"DATE-OBS": "2023-10-12T03:00:00", "OBJECT": "S1"}
    stream = io.BytesIO()
    table.write(stream, format="fits")
    return stream.getvalue()


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_levels_are_those_of_the_flat_map(seed: int, deepest: int) -> None:
    """Split cells at random, then work out the level of each pixel of the deepest order by hand."""
    rng = np.random.default_rng(seed)
    order, pixel = np.zeros(12, np.int64), np.arange(12)
    for level in range(deepest):
        split = (order == level) & (rng.random(len(order)) < 0.5)
        children = (pixel[split][:, None] * 4 + np.arange(4)).ravel()
        order = np.concatenate([order[~split], np.full(len(children), level + 1)])
        pixel = np.concatenate([pixel[~split], children])
    density = rng.exponential(size=len(order)) ** 3
    area = 4 * np.pi / 12 / 4.0**order
    density /= (density * area).sum()
    mix = rng.permutation(len(order))
    made = read_fits(written(order[mix], pixel[mix], density[mix]))
    flat = np.zeros(12 * 4**deepest)
    for o, p, d in zip(order, pixel, density, strict=True):
        wide = 4 ** (deepest - o)
        flat[p * wide : (p + 1) * wide] = d
    share = flat * 4 * np.pi / len(flat)
    expected = np.array([share[flat >= value].sum() for value in flat])
    lon, lat = healpix_to_lonlat(np.arange(len(flat), dtype=np.uint64), np.uint8(deepest))
    np.testing.assert_allclose(made.levels(lon.deg, lat.deg), expected, atol=1e-9)
    inside = made.area(0.9).holds(lon.deg, lat.deg)
    assert (inside == (expected <= 0.9 + 1e-12)).mean() > 0.99


def test_the_deepest_cells_are_told_apart() -> None:
    pixel = np.array([12 * 4**29 - 1, 0])
    made = read_fits(written(np.array([29, 29]), pixel, np.ones(2)))
    assert made.begins.tolist() == sorted(pixel.tolist())
    assert (made.ends - made.begins).tolist() == [1, 1]


def one_map(event: str, jd: float, level_here: float, number: int = 0) -> SkyMap:
    """A map whose cell 0 (order 0) has this level, and cell 1 the rest."""
    begins = np.array([0, 1], np.int64) << 58
    density = np.array([level_here, 1 - level_here]) / (4 * np.pi / 12)
    return SkyMap(
        event, jd, begins, begins + (1 << 58), density, np.array([40.0, 50.0]), np.array([4.0, 5.0]), number
    )


def test_of_several_maps_the_one_that_holds_an_alert_best() -> None:
    lon, lat = healpix_to_lonlat(np.array([0, 1, 5], np.uint64), np.uint8(0))
    maps = SkyMaps([one_map("A", 100.0, 0.7), one_map("B", 101.0, 0.9), one_map("B", 101.0, 0.6, number=1)])
    names = ["level", "event", "days", "distance"]
    found = maps.columns(names, lon.deg, lat.deg, np.full(3, 102.0))
    assert found["event"].tolist() == ["B", "A", None]
    np.testing.assert_allclose(found["level"], [0.6, 1.0, np.nan])
    np.testing.assert_allclose(found["days"], [1.0, 2.0, np.nan])
    early = maps.columns(names, lon.deg, lat.deg, np.full(3, 100.5))
    assert early["event"].tolist() == ["A", "A", None]
    assert not (maps.columns(["level"], lon.deg, lat.deg, np.full(3, 200.0))["level"] >= 0).any()


def test_the_simulated_merger_s_notices(tmp_path: Path) -> None:
    """The merger is inside the 90 % areas, the update's is smaller, and a retracted event is void."""
    month = Month(nights=6, density=0.05, seed=3, fields=2, quadrants=2, merging=True, stamps=False)
    merger = month.merger(month.survey())
    assert merger is not None
    texts = [
        text for name, text in messages_of(merger, month.seed).items() if b"superevent_id" in text[:2000]
    ]
    notices = sorted((read_notice(text, n) for n, text in enumerate(texts)), key=lambda notice: notice.kind)
    assert {notice.kind for notice in notices} == {"PRELIMINARY", "RETRACTION", "UPDATE"}
    ra, dec = np.array([merger.place.ra]), np.array([merger.place.dec])
    own = {notice.kind: notice.map for notice in notices if notice.event == merger.name and notice.map}
    for one in own.values():
        assert one.levels(ra, dec)[0] <= 0.9
        assert one.level.max() == pytest.approx(1, abs=1e-6)
    assert own["UPDATE"].area(0.9).square_degrees < own["PRELIMINARY"].area(0.9).square_degrees
    add_notices("skymaps", sorted(texts, key=lambda text: read_notice(text).kind), tmp_path)
    in_force = Store(tmp_path).about("skymaps")["maps"]
    assert [one["event"] for one in in_force] == [merger.name]


TAKEN = ["field", "rb", "sky", "coords", "prv_candidate", "diaSource", "Bad", "candidate"]


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_alerts_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExternalError, match="the name"):
        add_region(name, "cone 1 2 3", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_map_is_said() -> None:
    for content in (b"", b"SIMPLE", fits.PrimaryHDU().header.tostring().encode()):
        with pytest.raises(BadSkyMap, match="no multi-order sky map"):
            read_fits(content)
    for text in (
        b"",
        b"[]",
        b"{}",
        b'{"superevent_id": "S1", "alert_type": "UPDATE", "event": {"skymap": "AA"}}',
    ):
        with pytest.raises(BadSkyMap):
            read_notice(text)
