"""Rubin's simulated sky: valid packets of the newest schema, of a night of visits, with the truth."""

from __future__ import annotations

import io
from collections import Counter
from itertools import pairwise

import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from filters import registered
from filters.scoring import ask, score
from schemas.frame import frame_maker
from schemas.packets.packet import read_packet, stamp
from schemas.packets.sky import stamp_sky
from schemas.surveys.lsst.versions import REFERENCE
from simulator import simulate_rubin, truth_table
from simulator.rubin.visits import BANDS, EVERY, visits
from tests import rubin

ALERTS = list(simulate_rubin(400, seed=2, stamps=False))
PACKETS = [rubin.read(alert.packet) for alert in ALERTS]


def test_the_same_seed_gives_the_same_bytes() -> None:
    again = list(simulate_rubin(30, seed=5))
    assert [a.packet for a in simulate_rubin(30, seed=5)] == [a.packet for a in again]
    assert [a.packet for a in simulate_rubin(30, seed=6)] != [a.packet for a in again]
    assert len({a.candid for a in ALERTS}) == len(ALERTS) == 400


def test_packets_are_valid_in_the_newest_schema_in_both_framings() -> None:
    confluent = list(simulate_rubin(400, seed=2, stamps=False, framing="confluent"))
    for alert, other, packet in zip(ALERTS, confluent, PACKETS, strict=True):
        fastavro.validate(packet, rubin.parsed(REFERENCE))
        assert rubin.read(other.packet) == packet
        assert int.from_bytes(other.packet[1:5], "big") == 1100
        assert packet["diaSourceId"] == packet["diaSource"]["diaSourceId"] == alert.candid


def test_a_visit_each_37_seconds_in_six_bands_two_to_a_field() -> None:
    seen_from = visits(seed=1, pairs=20)
    jd = seen_from.jd[seen_from.emitted]
    steps = np.diff(jd) * 86400
    assert np.isclose(steps, EVERY, atol=0.01).sum() >= len(jd) - 2
    assert set(seen_from.band.tolist()) == set(range(len(BANDS)))
    assert (np.diff(seen_from.number) > 0).all()


def test_histories_are_before_the_alert_and_the_object_counts_them() -> None:
    for packet in PACKETS:
        source, past = packet["diaSource"], packet["prvDiaSources"] or []
        assert all(a["midpointMjdTai"] < b["midpointMjdTai"] for a, b in pairwise([*past, source]))
        assert (packet["diaObject"] is None) == (packet["ssSource"] is not None)
        if packet["diaObject"] is not None:
            assert packet["diaObject"]["nDiaSources"] == len(past) + 1
            assert source["ssObjectId"] is None
        forced = {row["visit"] for row in packet["prvDiaForcedSources"] or []}
        assert {row["visit"] for row in past} <= forced or not forced
        assert source["visit"] not in forced


def test_fluxes_are_five_sigma_and_of_both_signs() -> None:
    frame = frame_maker(["flux", "fluxerr", "positive", "night", "mag"], "lsst").of_packets(PACKETS)
    assert (frame["flux"].abs() >= 5 * frame["fluxerr"] * (1 - 1e-6)).all()
    assert 0.5 < frame["positive"].mean() < 1
    assert frame["night"].nunique() == 1
    truth = truth_table(ALERTS).to_pandas()
    assert np.abs(frame["mag"].to_numpy() - truth["magpsf"]).max() < 1e-4


def test_stamps_are_three_images_that_lie_on_the_sky() -> None:
    for alert in simulate_rubin(5, seed=3):
        packet = read_packet(alert.packet)[0]
        units = fits.open(io.BytesIO(packet["cutoutScience"]))
        assert [unit.data.shape for unit in units] == [(30, 30), (30, 30), (41, 41)]
        assert stamp(packet, "Template").shape == (30, 30)
        sky = stamp_sky(packet, "Difference")
        assert sky is not None
        assert sky.is_turned
        assert np.allclose(
            [sky.ra, sky.dec], [packet["diaSource"]["ra"], packet["diaSource"]["dec"]], atol=1e-4
        )


def test_every_filter_finds_something_and_what_it_is_for() -> None:
    truth = truth_table(ALERTS).to_pandas()
    packets = [alert.packet for alert in ALERTS]
    for name, f in registered("lsst").items():
        answer = ask(f, packets)
        assert len(answer.asked) == len(ALERTS)
        assert answer.passed or name == "point_like", name  # here are no stamps
    for name, least in (("known_object", 1.0), ("unknown_mover", 0.5), ("reliable", 0.9)):
        assert score(name, truth, ask(registered()[name], packets)).purity >= least, name
    assert isinstance(truth, pd.DataFrame)


@pytest.mark.parametrize(("alerts", "framing"), [(0, "container"), (5, "json")])
def test_what_cannot_be_simulated_is_said(alerts: int, framing: str) -> None:
    with pytest.raises(ValueError, match="cannot simulate"):
        next(simulate_rubin(alerts, 1, framing=framing))


def test_a_dense_sky_has_as_many_alerts_a_visit_as_asked_for() -> None:
    found = [
        read_packet(alert.packet)[0] for alert in simulate_rubin(600, seed=4, stamps=False, density=0.01)
    ]
    visits = Counter(packet["diaSource"]["visit"] for packet in found)
    assert 70 <= np.mean(list(visits.values())[:-1]) <= 130, "1 % of 10,000, but for chance"
    assert len({packet["diaSource"]["diaSourceId"] for packet in found}) == 600
    times = sorted({packet["diaSource"]["midpointMjdTai"] * 86400 for packet in found})
    assert np.allclose(np.diff(times), 37, atol=0.01)
    with pytest.raises(ValueError, match="density"):
        next(simulate_rubin(1, 1, density=0.0))
