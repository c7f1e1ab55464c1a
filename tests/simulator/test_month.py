"""Some nights by density: the same packets however the work is divided; the catalogue agrees with them."""

import io
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import astropy.units as u
import fastavro
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord

from simulator import Month, Part
from simulator.packets.packet import ztf_schema

MONTH = Month(nights=4, density=0.4, rare=30, seed=9, fields=3, quadrants=2, schema="3.3,4.02", stamps=False)


def read(packet: bytes) -> dict:
    return next(fastavro.reader(io.BytesIO(packet)))


def packets(part: Part) -> dict[int, bytes]:
    """At the top of the module, so that another process can be asked."""
    return {alert.candid: alert.packet for alert in part}


@pytest.fixture(scope="module")
def whole() -> dict[int, bytes]:
    return {alert.candid: alert.packet for alert in MONTH}


@pytest.mark.parametrize("number", [1, 2, 5, 40])
def test_the_parts_are_the_whole(number: int, whole: dict[int, bytes]) -> None:
    parts = MONTH.partitions(number)
    assert len(parts) == number
    found = [packets(pickle.loads(pickle.dumps(part))) for part in parts]
    assert sum(map(len, found)) == len(whole)
    assert {candid: raw for part in found for candid, raw in part.items()} == whole


def test_other_processes_make_the_same(whole: dict[int, bytes]) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(packets, MONTH.partitions(2)))
    assert found[0] | found[1] == whole


def test_quadrant_by_quadrant_is_the_same_too(whole: dict[int, bytes]) -> None:
    (part,) = MONTH.partitions(1)
    found = {a.candid: a.packet for _, alerts in part.by_quadrant() for a in alerts}
    assert found == whole


def test_time_order_and_four_nights() -> None:
    alerts = list(MONTH)
    assert [a.jd for a in alerts] == sorted(a.jd for a in alerts)
    assert 2 <= len({a.night for a in alerts}) <= 4
    kinds = {str(a.truth["class"]) for a in alerts}
    assert {"asteroid", "bogus", "AGN", "eclipsing binary"} <= kinds


def test_two_schema_versions_in_one_night(whole: dict[int, bytes]) -> None:
    schemas = {name: fastavro.parse_schema(ztf_schema(name)) for name in ("3.3", "4.02")}
    by_night: dict[int, set[str]] = {}
    versions: dict[int, set[str]] = {}
    for packet in whole.values():
        record = read(packet)
        version = record["schemavsn"]
        assert fastavro.validate(record, schemas[version], raise_errors=True)
        assert ("fp_hists" in record) == (version == "4.02")
        by_night.setdefault(record["candidate"]["nid"], set()).add(version)
        versions.setdefault(record["candidate"]["pid"], set()).add(version)
    assert {"3.3", "4.02"} in by_night.values()
    assert all(len(found) == 1 for found in versions.values()), "an exposure has one version"


def test_density_and_rare_kinds_raise_what_they_say() -> None:
    def counted(**more: float) -> tuple[int, int]:
        alerts = list(Month(nights=3, fields=2, quadrants=3, seed=4, stamps=False, **more))
        return len(alerts), sum(str(a.truth["class"]).startswith("SN") for a in alerts)

    plain, dense, rare = counted(), counted(density=3), counted(rare=100)
    assert 2 < dense[0] / plain[0] < 4
    assert rare[1] > max(10, 5 * plain[1])


def test_candids_and_names_are_unique(whole: dict[int, bytes]) -> None:
    owner: dict[int, str] = {}
    for packet in whole.values():
        record = read(packet)
        owner[record["candid"]] = record["objectId"]
        for row in record["prv_candidates"] or []:
            if row["candid"] is not None:
                assert owner.setdefault(row["candid"], record["objectId"]) == record["objectId"]


def test_the_catalogue_gives_the_columns_back(whole: dict[int, bytes]) -> None:
    """PS1, Gaia and reference columns from the written table, by astropy's spherical trigonometry."""
    cells = MONTH.partitions(1)[0].cells()
    table = pa.concat_tables([cell.catalogue.table() for cell in cells]).to_pandas().drop_duplicates("objid")
    sky = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    listed = table[["gmag", "rmag", "imag", "zmag"]].notna().any(axis=1).to_numpy()
    for packet in list(whole.values())[::25]:
        c = read(packet)["candidate"]
        away = SkyCoord(c["ra"], c["dec"], unit="deg").separation(sky).to_value(u.arcsec)
        near = np.flatnonzero((away <= 30) & listed)
        assert c["nmtchps"] == pytest.approx(len(near), abs=1), "one may sit on the border"
        ranked = near[np.argsort(away[near])][:3]
        for rank, index in enumerate(ranked, 1):
            assert c[f"distpsnr{rank}"] == pytest.approx(away[index], abs=0.03)
            assert c[f"objectidps{rank}"] in table["objid"].to_numpy()
            row = table[table["objid"] == c[f"objectidps{rank}"]].iloc[0]
            assert np.float32(c[f"srmag{rank}"]) == np.float32(
                row["rmag"] if row["rmag"] == row["rmag"] else -999
            )
        stars = np.flatnonzero(table["gaia_g"].notna().to_numpy())
        nearest = stars[np.argmin(away[stars])]
        assert c["neargaia"] == pytest.approx(away[nearest], abs=0.05)
        reference = SkyCoord(c["ranr"], c["decnr"], unit="deg")
        there = SkyCoord(c["ra"], c["dec"], unit="deg").separation(reference).to_value(u.arcsec)
        assert c["distnr"] * 1.0125 == pytest.approx(there, abs=0.03)


@pytest.mark.parametrize(
    "bad", [{"nights": 0}, {"fields": 0}, {"quadrants": 65}, {"density": 0}, {"schema": "9"}]
)
def test_what_cannot_be_asked_is_said(bad: dict) -> None:
    with pytest.raises(ValueError, match="cannot"):
        Month(**bad)
