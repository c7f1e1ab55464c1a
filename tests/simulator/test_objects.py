"""Identity, counts and rates over many nights: the whole survey, moving bodies, defects, volumes."""

import io
import math
from collections import Counter, defaultdict

import astropy.units as u
import dask.bag
import fastavro
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.cosmology import FlatLambdaCDM

from simulator import Month
from simulator.sky.kinds import KINDS
from simulator.sky.population import Sky
from simulator.sky.telescope import QUADRANT_AREA
from simulator.sky.transients import IA_REDSHIFT

LONG = Month(nights=100, density=0.35, rare=15, seed=2, fields=2, quadrants=2, stamps=False)
DIFFERS = {"pdiffimfilename", "ssdistnr", "ssmagnr", "ssnamenr"}


@pytest.fixture(scope="module")
def alerts() -> list[tuple]:
    """(alert, record) of a hundred nights of two quadrants."""
    return [(a, next(fastavro.reader(io.BytesIO(a.packet)))) for a in LONG]


def test_the_whole_surveys_columns_count_every_alert(alerts) -> None:
    """For what began in the emitted nights: all its alerts are here, and counted one by one."""
    begin = min(a.jd for a, _ in alerts)
    seen: dict[str, list[float]] = defaultdict(list)
    counted = longer = 0
    for alert, record in alerts:
        c = record["candidate"]
        seen[alert.objectId].append(alert.jd)
        assert c["jdendhist"] == alert.jd
        if c["jdstarthist"] < begin:
            assert c["ndethist"] > len(seen[alert.objectId])
            continue
        assert c["ndethist"] == len(seen[alert.objectId])
        assert c["jdstarthist"] == seen[alert.objectId][0]
        counted += 1
        longer += alert.jd - seen[alert.objectId][0] > 30
    assert counted > 300
    assert longer > 10, "some go back beyond the history"


def test_coverage_counts_every_visit(alerts) -> None:
    """ncovhist goes up by one with each exposure of the quadrant that some packet shows."""
    visits: dict[tuple, dict[float, int]] = defaultdict(dict)
    for _, record in alerts:
        c = record["candidate"]
        place = c["field"], c["rcid"]
        assert visits[place].setdefault(c["jd"], c["ncovhist"]) == c["ncovhist"]
        rows = record["prv_candidates"] or []
        for row in rows:
            before = c["ncovhist"] - sum(row["jd"] <= r["jd"] for r in rows)
            assert visits[place].setdefault(row["jd"], before) == before


def test_thirty_days_of_history_to_the_digit(alerts) -> None:
    sent = {a.candid: record["candidate"] for a, record in alerts}
    first = min(a.night for a, _ in alerts)
    mine: dict[str, list] = defaultdict(list)
    for alert, _ in alerts:
        mine[alert.objectId].append(alert)
    met = 0
    for alert, record in alerts:
        past = [r for r in record["prv_candidates"] or [] if r["candid"] is not None]
        for row in past:
            if row["nid"] >= first:
                original = sent[row["candid"]]
                assert all(row[k] == original[k] for k in row if k not in DIFFERS)
                met += 1
        within = {a.candid for a in mine[alert.objectId] if alert.jd - 30 <= a.jd < alert.jd}
        assert within <= {r["candid"] for r in past}
    assert met > 1000


def test_a_bad_pixel_keeps_its_name_and_its_pixel(alerts) -> None:
    groups = defaultdict(list)
    for alert, record in alerts:
        if alert.truth.get("artefact") in ("hot pixel", "hot column"):
            groups[alert.objectId].append(record["candidate"])
    repeated = [rows for rows in groups.values() if len(rows) > 3]
    assert repeated
    for rows in repeated:
        assert np.ptp([c["xpos"] for c in rows]) < 1
        assert np.ptp([c["ypos"] for c in rows]) < 1
        assert rows[-1]["ndethist"] >= len(rows)


def test_bodies_move_at_their_rates_and_are_new_each_time(alerts) -> None:
    bodies = defaultdict(list)
    for alert, record in alerts:
        if "asteroid" in str(alert.truth["class"]):
            assert record["candidate"]["ndethist"] == 1
            bodies[alert.truth["designation"], alert.truth["rate"]].append(alert)
    many = [sorted(b, key=lambda a: a.jd) for b in bodies.values() if len(b) > 2]
    assert len(many) > 30
    for body in many:
        assert len({a.objectId for a in body}) == len(body)
        a, b = body[0], body[-1]
        places = [SkyCoord(x.truth["ra"], x.truth["dec"], unit="deg") for x in (a, b)]
        rate = places[0].separation(places[1]).to_value(u.arcsec) / (b.jd - a.jd) / 24
        assert rate == pytest.approx(a.truth["rate"], rel=0.02)


def test_bodies_are_as_many_on_each_night(alerts) -> None:
    """Entering and leaving balance: no trend through the nights."""
    exposures = sorted({(a.jd, a.pid % 10**4) for a, _ in alerts})
    counts = Counter((a.jd, a.pid % 10**4) for a, _ in alerts if a.truth["class"] == "asteroid")
    half = len(exposures) // 2
    early, late = (sum(counts[e] for e in part) / len(part) for part in (exposures[:half], exposures[half:]))
    assert 0.6 < early / late < 1.6


def test_supernovae_are_as_many_as_their_volume_has() -> None:
    """2.35e-5 a Mpc³ and year (Perley et al. 2020), with astropy's volume."""
    survey = LONG.survey()
    sky = Sky(survey, LONG.plan.emitted, cell=(0, survey.fields[0].quadrants[0]))
    volume = FlatLambdaCDM(H0=70, Om0=0.3).comoving_volume(IA_REDSHIFT).to_value(u.Mpc**3)
    expected = 2.35e-5 * volume * QUADRANT_AREA / 41253 * (100 + 75) / 365.25
    assert KINDS["SN Ia"].expected(sky) == pytest.approx(expected, rel=0.05)


def test_every_kind_has_a_rate_a_share_and_a_source() -> None:
    survey = LONG.survey()
    sky = Sky(survey, LONG.plan.emitted, cell=(0, survey.fields[0].quadrants[0]))
    for name, kind in KINDS.items():
        assert kind.source, name
        assert 0 < kind.share < 0.5, name
        assert kind.expected(sky) > 0, name
        assert math.isfinite(kind.expected(sky))


def test_a_dask_bag_of_parts_is_the_month() -> None:
    month = Month(nights=2, density=0.3, seed=5, fields=2, quadrants=2, stamps=False)
    bag = dask.bag.from_sequence(month.partitions(3), npartitions=3).map(list).flatten()
    found = bag.map(lambda alert: (alert.candid, alert.packet)).compute(scheduler="threads")
    assert sorted(found) == sorted((a.candid, a.packet) for a in month)
