"""Crossmatches beside astropy's: at the poles, across RA 0, at cells' edges, with motion and own radii."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import lsdb
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from commands import application
from commands.external.catalogues import add_catalogue
from filters.catalogues import describe
from filters.catalogues.columns import Crossmatch
from filters.catalogues.match import nearest, within
from filters.external import Externals, NoSuchExternal, Store
from filters.external.store import ExternalError
from schemas.errors import NoSuchColumn

RADIUS = 5.0


def sky(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places all over the sky, with crowds at the poles, at RA 0 and where many HEALPix cells meet."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    for part, (lon, lat) in enumerate(
        [(0.0, 0.0), (10.0, 90.0), (200.0, -90.0), (45.0, 0.0), (0.0, 41.8103149)]
    ):
        here = slice(part * (n // 8), (part + 1) * (n // 8))
        size = rng.exponential(20 / 3600, n // 8)
        turn = rng.uniform(0, 2 * np.pi, n // 8)
        place = SkyCoord(lon * u.deg, lat * u.deg).directional_offset_by(turn * u.rad, size * u.deg)
        ra[here], dec[here] = place.ra.deg, place.dec.deg
    return ra, dec


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogues")
    ra, dec = sky(4000, 1)
    number = np.arange(4000)
    frame = pd.DataFrame(
        {"ra": ra, "dec": dec, "id": number + 2**60, "mag": np.where(number % 7, 20.0, -999.0)}
    )
    frame["name"], frame["big"] = [f"s{i}" for i in range(4000)], number % 2 == 0
    add_catalogue(frame, "crowd", RADIUS, nulls=[-999.0], units={"mag": "mag"}, root=folder)
    return folder


def test_all_pairs_are_those_of_astropy(root: Path) -> None:
    matcher = Crossmatch(describe(Store(root), "crowd"))
    cat_ra, cat_dec = sky(4000, 1)
    ra, dec = sky(3000, 2)
    ours = within(matcher.tiles, ra, dec, RADIUS)
    assert len(matcher.tiles._kept) > 5, "the crowds lie in several cells"
    a, b, apart, _ = search_around_sky(
        SkyCoord(ra, dec, unit="deg"), SkyCoord(cat_ra, cat_dec, unit="deg"), RADIUS * u.arcsec
    )
    ids = [
        matcher.tiles.tile(c).table["id"][r].as_py() - 2**60 for c, r in zip(ours.cell, ours.row, strict=True)
    ]
    theirs = sorted(zip(a.tolist(), b.tolist(), strict=True))
    assert len(theirs) > 3000
    assert sorted(zip(ours.place.tolist(), ids, strict=True)) == theirs
    by_pair = dict(zip(zip(a.tolist(), b.tolist(), strict=True), apart.arcsec, strict=True))
    expected = [by_pair[place, number] for place, number in zip(ours.place.tolist(), ids, strict=True)]
    np.testing.assert_allclose(ours.separation, expected, atol=2e-7)


def test_columns_of_the_nearest_are_those_that_astropy_names(root: Path) -> None:
    matcher = Crossmatch(describe(Store(root), "crowd"))
    cat_ra, cat_dec = sky(4000, 1)
    ra, dec = sky(3000, 3)
    columns = matcher.columns(["sep", "match", "count", "covered", "id", "mag", "name", "big"], ra, dec)
    where, apart, _ = SkyCoord(ra, dec, unit="deg").match_to_catalog_sky(
        SkyCoord(cat_ra, cat_dec, unit="deg")
    )
    there = apart.arcsec <= RADIUS
    assert 1000 < there.sum() < 2900
    assert columns["match"].tolist() == there.tolist()
    np.testing.assert_allclose(columns["sep"][there], apart.arcsec[there], atol=2e-7)
    assert columns["sep"][~there].isna().all()
    assert columns["id"][there].tolist() == (where[there] + 2**60).tolist()
    assert columns["id"][~there].isna().all()
    assert str(columns["id"].dtype) == "Int64"
    expected = np.where(where % 7 == 0, np.nan, 20.0)[there]
    np.testing.assert_array_equal(columns["mag"][there], expected)
    assert columns["name"][there].tolist() == [f"s{i}" for i in where[there]]
    assert columns["big"].tolist() == (there & (where % 2 == 0)).tolist()
    assert (columns["count"] >= columns["match"]).all()
    assert columns["covered"].all()


def test_nothing_and_nowhere_have_the_same_types(root: Path) -> None:
    matcher = Crossmatch(describe(Store(root), "crowd"))
    names = ["sep", "match", "count", "covered", "id", "mag", "name", "big"]
    full = matcher.columns(names, *sky(100, 3))
    odd = np.array([np.nan, 1.0, 400.0, np.inf])
    for ra, dec in ((np.zeros(0), np.zeros(0)), (odd, np.array([0.0, np.nan, 95.0, 0.0]))):
        columns = matcher.columns(names, ra, dec)
        assert {n: c.dtype for n, c in columns.items()} == {n: c.dtype for n, c in full.items()}
        assert not columns["match"].any()
        assert not columns["covered"].any()
    with pytest.raises(NoSuchColumn, match=r"did you mean 'crowd\.mag'"):
        matcher.columns(["mga"], np.zeros(1), np.zeros(1))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2999), max_size=60), st.integers(0, 60))
def test_neighbours_in_a_batch_change_nothing(shared_root: Path, chosen: list[int], cut: int) -> None:
    matcher = Crossmatch(describe(Store(shared_root), "crowd"))
    ra, dec = (values[chosen] for values in sky(3000, 3))
    whole = nearest(matcher.tiles, ra, dec, RADIUS)
    parts = [nearest(matcher.tiles, ra[s], dec[s], RADIUS) for s in (slice(None, cut), slice(cut, None))]
    for name in ("cell", "row", "separation"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name))


@pytest.fixture(scope="module")
def shared_root(root: Path) -> Path:
    return root


def test_lsdb_reads_it(root: Path) -> None:
    about = describe(Store(root), "crowd")
    frame = lsdb.open_catalog(about.folder).compute()
    assert len(frame) == 4000
    assert set(frame["name"]) == {f"s{i}" for i in range(4000)}


def test_a_margin_only_where_a_source_is_near_an_edge(tmp_path: Path) -> None:
    """At RA 0 and Dec 0 cells meet: a source there is found from all of them, those without sources too."""
    arcsec, turns = 1 / 3600, np.array([45.0, 135.0, 225.0, 315.0])
    ra, dec = 2 * arcsec * np.sin(np.radians(turns)) % 360, 2 * arcsec * np.cos(np.radians(turns))
    for name, lon, lat in (("corner", arcsec / 10, arcsec / 10), ("inside", 20.0, 20.0)):
        frame = pd.DataFrame({"ra": [lon, 200.0], "dec": [lat, 33.0]})
        about = add_catalogue(frame, name, 3.0, root=tmp_path)
        assert (about.margins is None) == (name == "inside")
        seen = Crossmatch(about).columns(["match"], (ra + lon) % 360, dec + lat)["match"]
        assert all(seen)


def test_few_cells_in_memory_give_the_same(root: Path) -> None:
    about = describe(Store(root), "crowd")
    roomy, tight = Crossmatch(about), Crossmatch(about, most_bytes=1)
    ra, dec = sky(500, 5)
    assert roomy.columns(["sep"], ra, dec)["sep"].equals(tight.columns(["sep"], ra, dec)["sep"])
    tight.columns(["sep"], ra, dec)
    assert tight.tiles.loads > roomy.tiles.loads
    assert len(tight.tiles._kept) == 1


def test_proper_motion_takes_sources_to_the_alert_s_time(tmp_path: Path) -> None:
    """Barnard's star: Gaia DR3's position and motion, where astropy says that it is."""
    barnard = {"ra": 269.44850252543836, "dec": 4.739420051112412, "pmra": -801.551, "pmdec": 10362.394}
    frame = pd.DataFrame([barnard, {"ra": 10.0, "dec": 89.9999, "pmra": 500.0, "pmdec": 100.0}])
    about = add_catalogue(frame, "gaia", 1.0, motion=("pmra", "pmdec", 2016.0), root=tmp_path)
    matcher = Crossmatch(about)
    when = Time(["2016-01-01T12:00", "2023-10-12", "2026-02-24"], scale="tcb")
    star = SkyCoord(
        barnard["ra"] * u.deg,
        barnard["dec"] * u.deg,
        pm_ra_cosdec=barnard["pmra"] * u.mas / u.yr,
        pm_dec=barnard["pmdec"] * u.mas / u.yr,
        obstime=Time(2016.0, format="jyear", scale="tcb"),
        distance=1.828 * u.pc,
    )
    then = star.apply_space_motion(new_obstime=when)
    sep = matcher.columns(["sep"], then.ra.deg, then.dec.deg, when.jd)["sep"]
    assert (sep < 0.01).all()
    assert matcher.columns(["match"], then.ra.deg, then.dec.deg)["match"].tolist() == [True, False, False]


def test_each_source_of_a_watchlist_has_its_own_radius(tmp_path: Path) -> None:
    frame = pd.DataFrame({"ra": [10.0, 10.01], "dec": [0.0, 0.0], "r": [2.0, 60.0], "who": ["near", "wide"]})
    matcher = Crossmatch(add_catalogue(frame, "mine", 1.0, radius_column="r", root=tmp_path))
    ra = np.array([10.0 + 1 / 3600, 10.0 + 3 / 3600, 10.2])
    columns = matcher.columns(["who", "count", "sep"], ra, np.zeros(3))
    assert columns["who"].tolist()[:2] == ["near", "wide"]
    assert columns["count"].tolist() == [2, 1, 0]


def test_outside_the_footprint_is_not_no_match(tmp_path: Path) -> None:
    frame = pd.DataFrame({"ra": [10.0], "dec": [20.0]})
    matcher = Crossmatch(add_catalogue(frame, "patch", 3.0, footprint="sources", root=tmp_path))
    columns = matcher.columns(
        ["covered", "match"], np.array([10.0, 10.1, 40.0]), np.array([20.0, 20.0, 20.0])
    )
    assert columns["covered"].tolist() == [True, True, False]
    assert columns["match"].tolist() == [True, False, False]


@pytest.mark.parametrize("suffix", ["csv", "fits", "vot", "parquet", "ecsv"])
def test_every_format_and_its_units(tmp_path: Path, suffix: str) -> None:
    table = Table({"RAJ2000": [10.0, 359.9999], "DEJ2000": [-5.0, 0.0], "NUV mag": [19.5, -999.0]})
    table["RAJ2000"].unit = table["DEJ2000"].unit = "deg"
    table["NUV mag"].unit, table["NUV mag"].description = "mag", "near ultraviolet"
    file = tmp_path / f"galex.{suffix}"
    if suffix == "parquet":
        table.to_pandas().to_parquet(file)
    else:
        formats = {"csv": "ascii.csv", "vot": "votable", "fits": "fits", "ecsv": "ascii.ecsv"}
        table.write(file, format=formats[suffix])
    about = add_catalogue(file, "galex", 3.0, nulls=[-999], root=tmp_path / "c")
    columns = Crossmatch(about).columns(["NUV_mag", "sep"], np.array([10.0, 0.0]), np.array([-5.0, 0.0]))
    np.testing.assert_array_equal(columns["NUV_mag"], [19.5, np.nan])
    np.testing.assert_allclose(columns["sep"], [0.0, 0.36], atol=1e-6)
    if suffix in ("fits", "vot", "ecsv"):
        assert about.columns["NUV_mag"].unit == "mag"


def test_versions(tmp_path: Path) -> None:
    frame = pd.DataFrame({"ra": [10.0], "dec": [20.0], "mag": [19.0]})
    first = add_catalogue(frame, "mine", 3.0, root=tmp_path)
    assert add_catalogue(frame, "mine", 3.0, root=tmp_path).version == first.version
    second = add_catalogue(frame.assign(mag=18.0), "mine", 3.0, root=tmp_path)
    store = Store(tmp_path)
    assert store.versions("mine") == [first.version, second.version]
    assert describe(store, "mine").version == second.version
    assert (
        Crossmatch(describe(store, "mine", first.version)).columns(
            ["mag"], np.array([10.0]), np.array([20.0])
        )["mag"][0]
        == 19
    )
    with pytest.raises(NoSuchExternal, match="has no version"):
        describe(store, "mine", "nonsense")
    with pytest.raises(NoSuchExternal, match="no catalogue, region or sky map 'yours'"):
        describe(store, "yours")


def test_what_cannot_be_added_is_said(tmp_path: Path) -> None:
    good = pd.DataFrame({"ra": [10.0], "dec": [20.0]})
    for arguments, says in (
        ((good, "Bad Name", 3.0), "catalogue name"),
        ((good, "x", 0.0), "must be more than 0"),
        ((good.rename(columns={"ra": "x"}), "x", 3.0), "no column looks like ra"),
        ((good * 1000, "x", 3.0), "from 0 to 360"),
        ((tmp_path / "nothing.csv", "x", 3.0), "no file"),
    ):
        with pytest.raises(ExternalError, match=says):
            add_catalogue(*arguments, root=tmp_path)
    (tmp_path / "broken.fits").write_bytes(b"SIMPLE")
    with pytest.raises(ExternalError, match="cannot be read as a table"):
        add_catalogue(tmp_path / "broken.fits", "x", 3.0, root=tmp_path)
    assert not list(tmp_path.glob("x/*"))


def test_the_commands(tmp_path: Path) -> None:
    pd.DataFrame({"ra": [10.0], "dec": [20.0], "mag": [-99.0]}).to_csv(tmp_path / "t.csv", index=False)
    root = ["--root", str(tmp_path / "c")]

    def zads(*arguments: str) -> str:
        done = CliRunner().invoke(application(), ["catalogue", *arguments, *root])
        assert done.exit_code == 0, done.output
        return done.output

    assert "1 source," in zads(
        "add", str(tmp_path / "t.csv"), "--name", "t", "--null", "mag=-99", "--unit", "mag=mag"
    )
    assert "within 3 arcsec" in zads("list")
    shown = zads("show", "t")
    assert "t.mag" in shown
    assert "-99.0" in shown
    words = Externals(tmp_path / "c").words(["t"])
    assert not [word.name for word in words if not word.meaning]
    assert [word.unit for word in words if word.name in ("t.ra", "t.dec", "t.mag")] == ["deg", "deg", "mag"]
    assert "gone" in zads("remove", "t")
    assert "no catalogues" in zads("list")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".vot"])
def test_long_identifiers_with_gaps_stay_exact(tmp_path: Path, suffix: str) -> None:
    """A gap among whole numbers makes floats of them in many readers: 2**60 + 1 would be another source."""
    ids = [2**60 + 1, 2**60 + 3, None]
    file = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        file.write_text("ra,dec,id\n" + "".join(f"{10 + n},5,{i or ''}\n" for n, i in enumerate(ids)))
    else:
        frame = pd.DataFrame({"ra": [10.0, 11.0, 12.0], "dec": 5.0, "id": pd.array(ids, "Int64")})
        if suffix == ".parquet":
            frame.to_parquet(file)
        else:
            Table.from_pandas(frame).write(file, format="votable")
    add_catalogue(file, "gaps", 3, root=tmp_path)
    found = Externals(tmp_path).columns(
        ["gaps.id"], np.array([10.0, 12.0, 11.0]), np.full(3, 5.0), np.zeros(3)
    )
    assert [None if one is pd.NA else int(one) for one in found["gaps.id"]] == [ids[0], None, ids[1]]
