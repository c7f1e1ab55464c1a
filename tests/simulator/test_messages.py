"""Sky maps and notices: what astropy and mocpy read in them, and where the kilonova is."""

import base64
import io
import json
from datetime import datetime

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from cdshealpix.nested import lonlat_to_healpix

from simulator import Month
from simulator.sky.messages import _BROAD, _NARROW, messages_of, sky_map

MONTH = Month(nights=6, density=0.05, seed=3, fields=2, quadrants=2, merging=True, stamps=False)


@pytest.fixture(scope="module")
def merger():
    return MONTH.merger(MONTH.survey())


@pytest.fixture(scope="module")
def messages(merger):
    return messages_of(merger, MONTH.seed)


def maps(messages) -> dict[str, fits.BinTableHDU]:
    return {n: fits.open(io.BytesIO(c))[1] for n, c in messages.items() if n.endswith(".fits")}


def test_every_map_covers_the_sphere_once_and_holds_one(messages) -> None:
    for table in maps(messages).values():
        assert table.header["ORDERING"] == "NUNIQ"
        uniq = table.data["UNIQ"].astype(np.int64)
        order = (np.log2(uniq // 4) // 2).astype(int)
        pixel = uniq - 4 * 4**order
        most = order.max()
        begin, end = pixel * 4 ** (most - order), (pixel + 1) * 4 ** (most - order)
        by = np.argsort(begin)
        assert begin[by][0] == 0
        assert end[by][-1] == 12 * 4**most
        assert np.array_equal(begin[by][1:], end[by][:-1]), "no gap, no overlap"
        area = 4 * np.pi / 12 / 4.0**order
        assert (table.data["PROBDENSITY"] * area).sum() == pytest.approx(1)
        assert len(set(order.tolist())) > 3, "several orders"
        assert (table.data["DISTMU"] > 0).all()


def test_the_update_is_smaller_and_both_hold_the_merger(messages, merger) -> None:
    moc = pytest.importorskip("mocpy").MOC
    areas = []
    for name, content in messages.items():
        if not (name.startswith(merger.name) and name.endswith(".fits")):
            continue
        table = fits.open(io.BytesIO(content))[1].data
        order = (np.log2(table["UNIQ"] // 4) // 2).astype(int)
        mass = table["PROBDENSITY"] * 4 * np.pi / 12 / 4.0**order
        region = moc.from_valued_healpix_cells(
            table["UNIQ"].astype(np.uint64), mass, max_depth=int(order.max()), cumul_to=0.999
        )
        areas.append(region.sky_fraction)
        place = SkyCoord(merger.ra, merger.dec, unit="deg")
        assert region.contains_skycoords(place)
    assert areas[1] < 0.5 * areas[0] < 0.1


def test_maps_are_calibrated(merger) -> None:
    """The merger lies within the p per cent region in p per cent of many maps."""
    from dataclasses import replace

    inside = []
    for k in range(60):
        other = replace(merger, ra=(merger.ra + 17 * k) % 360, dec=-70 + 140 * (k % 9) / 8)
        image = sky_map(other, _BROAD if k % 2 else _NARROW, np.random.default_rng(k))
        place = SkyCoord(other.ra, other.dec, unit="deg")
        best = _density_at(image, place)
        inside.append((image.density * image.area)[image.density > best].sum())
    share = np.mean(np.array(inside) < 0.5)
    assert 0.3 < share < 0.7, "half of them in the half"
    assert np.mean(np.array(inside) < 0.9) > 0.78


def _density_at(image, place: SkyCoord) -> float:
    for order in sorted(set(image.order.tolist()), reverse=True):
        uniq = 4 * 4**order + int(lonlat_to_healpix(place.ra, place.dec, order)[0])
        found = np.flatnonzero(image.uniq == uniq)
        if len(found):
            return float(image.density[found[0]])
    raise AssertionError("the map has a hole")


def test_notices_follow_one_another(messages, merger) -> None:
    notices = {n: json.loads(c) for n, c in messages.items() if n.endswith(".json") and n != "neutrino.json"}
    kinds = sorted((v["superevent_id"], v["time_created"], v["alert_type"]) for v in notices.values())
    own = [kind for name, _, kind in kinds if name == merger.name]
    others = [kind for name, _, kind in kinds if name != merger.name]
    assert own == ["PRELIMINARY", "UPDATE"]
    assert others == ["PRELIMINARY", "RETRACTION"]
    for name, notice in notices.items():
        datetime.fromisoformat(notice["time_created"])
        if notice["alert_type"] == "RETRACTION":
            assert notice["event"] is None
        else:
            image = messages[name.replace(".json", ".multiorder.fits")]
            assert base64.b64decode(notice["event"]["skymap"]) == image
    neutrino = json.loads(messages["neutrino.json"])
    assert 0 <= neutrino["ra"] < 360
    assert -90 <= neutrino["dec"] <= 90


def test_its_kilonova_is_in_the_packets_after_it(merger) -> None:
    found = [a for a in MONTH if a.truth.get("designation") == merger.name]
    assert found
    for alert in found:
        assert alert.truth["class"] == "kilonova"
        assert alert.jd > merger.jd
        place = SkyCoord(alert.truth["ra"], alert.truth["dec"], unit="deg")
        assert place.separation(SkyCoord(merger.ra, merger.dec, unit="deg")).to_value(u.arcsec) < 0.01


def test_the_same_seed_gives_the_same_messages(messages, merger) -> None:
    assert messages_of(merger, MONTH.seed) == messages
