"""Histories of the simulated sky agree with the alerts that were really sent, and with the definitions."""

import io
from collections import defaultdict

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import SimulatedAlert, simulate

SEEDS = st.integers(0, 2**32 - 1)
# A history row differs from its alert in these only: the image's path, and null for "no such object".
DIFFERS = {"pdiffimfilename", "ssdistnr", "ssmagnr", "ssnamenr"}
HALF_MINUTE = 0.5 / 1440

Sky = list[tuple[SimulatedAlert, dict]]


def sky(alerts: int, seed: int, nights: int = 1) -> Sky:
    return [
        (a, next(fastavro.reader(io.BytesIO(a.packet)))) for a in simulate(alerts, seed, nights, stamps=False)
    ]


@pytest.fixture(scope="module")
def three_nights() -> Sky:
    return sky(900, seed=21, nights=3)


def test_rows_equal_the_alerts_of_their_epochs(three_nights: Sky) -> None:
    sent = {a.candid: record["candidate"] for a, record in three_nights}
    names = {a.candid: a.objectId for a, _ in three_nights}
    first = min(a.night for a, _ in three_nights)
    met = 0
    for alert, record in three_nights:
        for row in record["prv_candidates"] or []:
            if row["candid"] is None or row["nid"] < first:
                continue
            assert row["candid"] in sent, "a detection of an emitted night was not sent"
            assert names[row["candid"]] == alert.objectId
            original = sent[row["candid"]]
            assert {k: v for k, v in row.items() if k not in DIFFERS} == {
                k: original[k] for k in row if k not in DIFFERS
            }
            assert row["ssnamenr"] == (None if original["ssnamenr"] == "null" else original["ssnamenr"])
            met += 1
    assert met > 300


def test_every_earlier_alert_of_an_object_is_in_the_history(three_nights: Sky) -> None:
    earlier: dict[str, set[int]] = defaultdict(set)
    for alert, record in three_nights:
        rows = {row["candid"] for row in record["prv_candidates"] or []}
        assert earlier[alert.objectId] <= rows
        earlier[alert.objectId].add(alert.candid)


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, nights=st.integers(1, 3))
def test_windows_limits_and_order(seed: int, nights: int) -> None:
    for alert, record in sky(60, seed, nights):
        rows = record["prv_candidates"] or []
        times = [row["jd"] for row in rows]
        assert times == sorted(times)
        assert all(alert.jd - 30 <= jd < alert.jd for jd in times)
        assert len({row["pid"] for row in rows}) == len(rows)
        for row in rows:
            assert row["diffmaglim"] is not None
            assert row["nid"] == int(row["jd"] - 2457754.5)
            assert row["programid"] in (1, 2, 3)
            absent = [
                row[n] is None for n in ("candid", "isdiffpos", "magpsf", "sigmapsf", "ra", "dec", "rb")
            ]
            assert all(absent) or not any(absent)


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_counts_and_beginnings(seed: int) -> None:
    last: dict[str, dict] = {}
    for alert, record in sky(120, seed, 3):
        now = record["candidate"]
        rows = record["prv_candidates"] or []
        found = [row["jd"] for row in rows if row["magpsf"] is not None]
        assert now["ndethist"] >= 1 + len(found)
        assert now["ncovhist"] >= max(now["ndethist"], 1 + len(rows))
        assert now["jdstarthist"] <= min([*found, now["jd"]])
        assert now["jdendhist"] == now["jd"]
        if now["jdstarthist"] >= now["jd"] - 30:  # the whole story is in the packet
            assert now["ndethist"] == 1 + len(found)
            assert now["jdstarthist"] == min([*found, now["jd"]])
        if before := last.get(alert.objectId):
            assert now["ndethist"] == before["ndethist"] + 1
            assert now["ncovhist"] > before["ncovhist"]
            assert now["jdstarthist"] == before["jdstarthist"]
        last[alert.objectId] = now


def test_an_exposure_is_one_time_band_program_and_limit(three_nights: Sky) -> None:
    seen: dict[int, tuple] = {}
    for _, record in three_nights:
        for row in [record["candidate"], *(record["prv_candidates"] or [])]:
            facts = tuple(
                row[n] for n in ("jd", "fid", "programid", "field", "rcid", "diffmaglim", "magzpsci")
            )
            assert seen.setdefault(row["pid"], facts) == facts
            fraction = int((row["jd"] - 2457754.5) % 1 * 1e5)
            assert row["pid"] == row["nid"] * 10**9 + fraction * 10**4 + row["rcid"] * 100 + 15


def test_histories_mix_programs(three_nights: Sky) -> None:
    """A public packet holds private epochs: what the privacy rules must remove."""
    mixed = [
        a
        for a, record in three_nights
        if a.programid == 1 and {row["programid"] for row in record["prv_candidates"] or []} >= {1, 2}
    ]
    private = [
        a
        for a, record in three_nights
        if a.programid == 1
        and any(row["programid"] != 1 and row["magpsf"] is not None for row in record["prv_candidates"] or [])
    ]
    assert mixed
    assert private
    assert {a.programid for a, _ in three_nights} == {1, 2, 3}


def test_forced_photometry_joins_on_pid_and_agrees(three_nights: Sky) -> None:
    """mag = magzpsci − 2.5 log₁₀(flux), DEFINITIONS.md."""
    import math

    compared = 0
    for alert, record in three_nights:
        rows = {row["pid"]: row for row in record["prv_candidates"] or []}
        for forced in record["fp_hists"] or []:
            row = rows[forced["pid"]]
            assert forced["jd"] == row["jd"]
            assert row["nid"] < alert.night
            flux = forced["forcediffimflux"]
            assert (flux == -99999.0) == (forced["procstatus"] in ("61", "55"))
            if flux > 0 and row["magpsf"] is not None and row["isdiffpos"] == "t":
                assert forced["magzpsci"] - 2.5 * math.log10(flux) == pytest.approx(row["magpsf"], abs=1e-5)
                compared += 1
    assert compared > 100


def test_sightings_of_a_moving_body_are_objects_of_their_own(three_nights: Sky) -> None:
    bodies: dict[str, list[tuple[SimulatedAlert, dict]]] = defaultdict(list)
    for alert, record in three_nights:
        if "asteroid" in str(alert.truth["class"]):
            bodies[str(alert.truth["designation"])].append((alert, record["candidate"]))
    assert any(len(sightings) > 1 for sightings in bodies.values())
    for sightings in bodies.values():
        assert len({a.objectId for a, _ in sightings}) == len(sightings)
        for alert, candidate in sightings:
            assert candidate["ndethist"] == 1
            known = alert.truth["class"] == "asteroid"
            assert (candidate["ssnamenr"] != "null") == known
            assert (0 <= candidate["ssdistnr"] <= 5) == known
            assert known or candidate["ssdistnr"] == candidate["ssmagnr"] == -999
