"""The simulated night holds what the first filters look for; catalogues and coordinates are right."""

import io
from collections import Counter

import astropy.units as u
import fastavro
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import SimulatedAlert, simulate
from simulator.identity import object_name
from simulator.packets.encode import zigzag
from simulator.packets.packet import packet_writer
from simulator.sky.heavens import galactic_latitude
from simulator.sky.telescope import PIXEL_SCALE, Plan, Survey, night_of, pid_of

Night = list[tuple[SimulatedAlert, dict]]


@pytest.fixture(scope="module")
def night() -> Night:
    """A night of two thousand alerts, as demonstrations use it."""
    alerts = simulate(2000, seed=1, stamps=False)
    return [(a, next(fastavro.reader(io.BytesIO(a.packet)))) for a in alerts]


def missing(value: float) -> float:
    return np.nan if value == -999 else value


def is_star(c: dict) -> bool:
    return missing(c["distpsnr1"]) <= 1.5 and missing(c["sgscore1"]) > 0.5


def is_known(c: dict) -> bool:
    return 0 <= missing(c["ssdistnr"]) <= 5


def detections(record: dict) -> list[dict]:
    return [row for row in record["prv_candidates"] or [] if row["magpsf"] is not None]


def is_pure_transient(record: dict) -> bool:
    c = record["candidate"]
    good = (
        c["rb"] >= 0.65
        and c["nbad"] == 0
        and c["fwhm"] <= 5
        and c["elong"] <= 1.2
        and abs(c["magdiff"]) <= 0.1
    )
    epochs = np.sort([row["jd"] for row in detections(record) if row["isdiffpos"] == "t"] + [c["jd"]])
    again = np.any(np.diff(epochs) * 1440 >= 30)
    return bool(good and again and c["isdiffpos"] == "t" and not is_star(c) and not is_known(c))


def is_young(record: dict) -> bool:
    c = record["candidate"]
    first = min([row["jd"] for row in detections(record)] + [c["jd"]])
    limits = [row["jd"] for row in record["prv_candidates"] or [] if row["magpsf"] is None]
    fresh = any(0 < first - jd <= 2.5 for jd in limits)
    return is_pure_transient(record) and c["jd"] - c["jdstarthist"] <= 5 and fresh


def is_stellar_outburst(record: dict) -> bool:
    def flux(row: dict) -> float:
        return (1 if row["isdiffpos"] == "t" else -1) * 10 ** (-0.4 * (row["magpsf"] - 25))

    c = record["candidate"]
    past = np.array([flux(row) for row in detections(record) if row["fid"] == c["fid"]])
    return is_star(c) and len(past) >= 5 and abs(flux(c) - past.mean()) > 5 * past.std()


def is_blue_outburst(record: dict) -> bool:
    c = record["candidate"]
    quiet = missing({1: c["sgmag1"], 2: c["srmag1"], 3: c["simag1"]}[c["fid"]])
    blue = missing(c["sgmag1"]) - missing(c["srmag1"]) < 0.6
    return missing(c["distpsnr1"]) <= 1.5 and blue and quiet - c["magpsf"] >= 2 and c["isdiffpos"] == "t"


def is_new_asteroid(record: dict) -> bool:
    c = record["candidate"]
    alone = not missing(c["distpsnr1"]) <= 5
    return c["isdiffpos"] == "t" and c["rb"] >= 0.65 and c["ndethist"] <= 1 and alone and not is_known(c)


def is_nuclear(record: dict) -> bool:
    c = record["candidate"]
    host = missing(c["distpsnr1"]) <= 0.6 and missing(c["sgscore1"]) < 0.5
    return c["isdiffpos"] == "t" and host and not is_known(c)


def is_seen_twice(record: dict) -> bool:
    c = record["candidate"]
    past = detections(record)
    tonight = [row for row in past if row["nid"] == c["nid"]]
    again = any((c["jd"] - row["jd"]) * 1440 > 30 for row in tonight)
    return c["isdiffpos"] == "t" and again and len(tonight) == len(past)


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (is_young, {"SN Ia", "SN II", "SN Ibc"}),
        (is_pure_transient, {"SN Ia", "SN II", "TDE", "AGN"}),
        (is_stellar_outburst, {"stellar outburst"}),
        (is_blue_outburst, {"dwarf nova"}),
        (is_new_asteroid, {"unknown asteroid"}),
        (is_nuclear, {"AGN", "TDE"}),
        (is_seen_twice, {"SN Ia", "dwarf nova"}),
    ],
)
def test_each_first_filter_has_something_to_find(night: Night, wanted, kinds: set[str]) -> None:
    """The definitions in plain Python, one alert at a time, sharing nothing with the filters."""
    found = Counter(str(a.truth["class"]) for a, record in night if wanted(record))
    assert found.total() >= 8, found
    assert found.total() < 0.1 * len(night), "rare kinds stay rare"
    assert sum(found[k] for k in kinds) >= 0.4 * found.total(), found


def test_known_bodies_are_marked(night: Night) -> None:
    assert {a.candid for a, r in night if is_known(r["candidate"])} == {
        a.candid for a, _ in night if a.truth["class"] == "asteroid"
    }


def test_scores_of_real_and_bogus_overlap(night: Night) -> None:
    for name in ("rb", "drb"):
        bogus = np.array([r["candidate"][name] for a, r in night if a.truth["class"] == "bogus"])
        real = np.array([r["candidate"][name] for a, r in night if a.truth["class"] != "bogus"])
        assert np.median(real) > 0.75 > 0.5 > np.median(bogus)
        assert bogus.max() > np.quantile(real, 0.1)
        assert real.min() < np.quantile(bogus, 0.5)


def test_all_alerts_of_a_default_run_are_of_one_night(night: Night) -> None:
    assert len({a.night for a, _ in night}) == 1
    assert Counter(a.programid for a, _ in night).most_common(1)[0][0] == 1


def test_detections_are_five_sigma(night: Night) -> None:
    for _, record in night:
        for row in [record["candidate"], *detections(record)]:
            assert 0 < row["sigmapsf"] < np.hypot(1.0857 / 5, 0.02)
            assert row["scorr"] >= 5


def test_sentinels_stand_for_what_is_missing(night: Night) -> None:
    """Ranked PS1 matches: distances ascend, and everything of an absent one is −999, DEFINITIONS.md."""
    gaps = 0
    for _, record in night:
        c = record["candidate"]
        distances = [c[f"distpsnr{i}"] for i in (1, 2, 3)]
        present = [d for d in distances if d != -999]
        assert distances == present + [-999] * (3 - len(present))
        assert present == sorted(present)
        assert all(0 <= d <= 30 for d in present)
        assert c["nmtchps"] >= len(present)
        for i in range(len(present) + 1, 4):
            names = ("sgmag", "srmag", "simag", "szmag", "sgscore", "objectidps")
            assert {c[f"{n}{i}"] for n in names} == {-999}
            gaps += 1
        assert (c["neargaia"] == -999) == (c["maggaia"] == -999)
        assert (c["ssnamenr"] == "null") == (c["ssdistnr"] == -999)
    assert gaps


def test_ranges_are_those_of_real_packets(night: Night, real_alerts) -> None:
    """Medians lie within the spread of the survey's own packets."""
    real = []
    for folder in ("ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_4.02_spark"):
        for path in (real_alerts / folder).glob("*.avro"):
            with path.open("rb") as file:
                real += [record["candidate"] for record in fastavro.reader(file)]
    names = "magpsf sigmapsf diffmaglim fwhm elong magdiff chipsf aimage bimage seeratio rb scorr sky magnr"
    for name in [*names.split(), "magzpsci", "magzpscirms", "clrmed", "nmatches"]:
        low, high = np.quantile([c[name] for c in real if c[name] is not None], [0.02, 0.98])
        assert low <= np.median([r["candidate"][name] for _, r in night]) <= high, name


@settings(deadline=None)
@given(ra=st.floats(0, 359.99), dec=st.floats(-89, 89))
def test_galactic_latitude_as_astropy_has_it(ra: float, dec: float) -> None:
    assert galactic_latitude(ra, dec) == pytest.approx(SkyCoord(ra, dec, unit="deg").galactic.b.deg, abs=0.01)


@settings(deadline=None)
@given(rcid=st.integers(0, 63), x=st.floats(0, 3071), y=st.floats(0, 3079), number=st.integers(0, 3))
def test_positions_as_a_tangent_plane_has_them(rcid: int, x: float, y: float, number: int) -> None:
    """Gnomonic about the field's centre, against astropy; 1.0125 arcsec a pixel, rows grow southward."""
    survey = SURVEY
    field = survey.fields[number]
    here = SkyCoord(*survey.position(number, rcid, x, y), unit="deg")
    east, north = (
        a.to_value(u.deg) for a in SkyCoord(field.ra, field.dec, unit="deg").spherical_offsets_to(here)
    )
    assert np.hypot(east, north) < 6
    plane = WCS(naxis=2)
    plane.wcs.ctype, plane.wcs.crval = ["RA---TAN", "DEC--TAN"], [field.ra, field.dec]
    plane.wcs.cdelt, plane.wcs.crpix = [-PIXEL_SCALE / 3600, -PIXEL_SCALE / 3600], [1, 1]
    other = survey.position(number, rcid, x + 50, y - 20)
    before, after = plane.all_world2pix(here.ra.deg, here.dec.deg, 0), plane.all_world2pix(*other, 0)
    assert np.subtract(after, before) == pytest.approx([50, -20], abs=1e-6)


SURVEY = Survey(Plan(4, 14, 1), seed=3)


def test_exposures_follow_one_another() -> None:
    assert np.all(np.diff(SURVEY.jd) * 86400 > 39), "one telescope"
    assert len(np.unique(pid_of(SURVEY.jd, 0))) == len(SURVEY.jd)
    assert np.array_equal(night_of(SURVEY.jd), SURVEY.night)
    assert np.all((SURVEY.jd + 0.5) % 1 < 0.6), "Palomar's nights lie in the first half of the UT day"


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_longs_as_fastavro_writes_them(number: int) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert zigzag(number) == out.getvalue()


def test_joined_rows_are_what_fastavro_writes_in_one_go(night: Night) -> None:
    for version in ("4.01", "3.3"):
        schema = fastavro.parse_schema(packet_writer(version).schema)
        for alert in simulate(20, seed=9, schema=version):
            out = io.BytesIO()
            fastavro.schemaless_writer(out, schema, next(fastavro.reader(io.BytesIO(alert.packet))))
            assert out.getvalue() in alert.packet


def test_names_count_up() -> None:
    assert object_name(2025, 0) == "ZTF25aaaaaaa"
    assert object_name(2031, 27) == "ZTF31aaaaabb"
    names = [object_name(2025, i) for i in range(0, 2_000_000, 997)]
    assert names == sorted(set(names))
