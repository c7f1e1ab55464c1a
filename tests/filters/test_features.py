"""Features of light curves beside a reading of their definitions, one alert at a time in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from filters import alert_filter, expression, history
from filters.features import FEATURES
from schemas.frame import frame_maker
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS
from tests.filters.oracle import night, there
from tests.filters.packets import NOW, PHASES, alert, detection, limit, packets

Packet = dict[str, Any]
BANDS = {1: "g", 2: "r", 3: "i"}


def rows(packet: Packet) -> list[dict[str, Any]]:
    now = packet["candidate"]["jd"]
    return [row for row in packet["prv_candidates"] or [] if there(row["jd"]) and row["jd"] < now]


def detected(packet: Packet) -> list[dict[str, Any]]:
    """Past detections; of one exposure the first stored."""
    once: list[dict[str, Any]] = []
    for row in rows(packet):
        same = [other for other in once if there(row.get("pid")) and other.get("pid") == row.get("pid")]
        if there(row["magpsf"]) and not same:
            once.append(row)
    return once


def latest(chosen: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the latest time; of equal ones the last stored."""
    return max(enumerate(chosen), key=lambda pair: (pair[1]["jd"], pair[0]))[1] if chosen else None


def own(packet: Packet, name: str) -> Any:
    value = packet["candidate"].get(name)
    return value if there(value) else None


def rise_rate(packet: Packet) -> float | None:
    mag, now, band = own(packet, "magpsf"), packet["candidate"]["jd"], BANDS.get(own(packet, "fid"))
    before = [
        r for r in detected(packet) if BANDS.get(r["fid"]) == band and band and now - r["jd"] >= 0.5 / 24
    ]
    last = latest(before)
    return None if last is None or mag is None else (last["magpsf"] - mag) / (now - last["jd"])


def since_first(packet: Packet) -> float:
    return packet["candidate"]["jd"] - min(
        [r["jd"] for r in detected(packet)], default=packet["candidate"]["jd"]
    )


def detections_tonight(packet: Packet) -> float:
    return 1 + sum(night(r["jd"]) == night(packet["candidate"]["jd"]) for r in detected(packet))


def limit_before_first(packet: Packet) -> float | None:
    first = packet["candidate"]["jd"] - since_first(packet)
    limits = [r["jd"] for r in rows(packet) if not there(r["magpsf"]) and r["jd"] < first]
    return first - max(limits) if limits else None


def peak(packet: Packet) -> float | None:
    mags = [m for m in [own(packet, "magpsf"), *(r["magpsf"] for r in detected(packet))] if m is not None]
    return min(mags, default=None)


def since_peak(packet: Packet) -> float | None:
    mag, brightest = own(packet, "magpsf"), min([r["magpsf"] for r in detected(packet)], default=None)
    if mag is not None and (brightest is None or mag <= brightest):
        return 0.0
    last = latest([r for r in detected(packet) if r["magpsf"] == brightest])
    return None if last is None else packet["candidate"]["jd"] - last["jd"]


def colour(packet: Packet) -> float | None:
    mag, band = own(packet, "magpsf"), BANDS.get(own(packet, "fid"))
    tonight = [r for r in detected(packet) if night(r["jd"]) == night(packet["candidate"]["jd"])]
    other = latest([r for r in tonight if BANDS.get(r["fid"]) == {"g": "r", "r": "g"}.get(band or "")])
    if mag is None or other is None:
        return None
    return mag - other["magpsf"] if band == "g" else other["magpsf"] - mag


ORACLE: dict[str, Callable[[Packet], float | None]] = {
    "rise_rate": rise_rate,
    "since_first": since_first,
    "detections_tonight": detections_tonight,
    "limit_before_first": limit_before_first,
    "peak": peak,
    "since_peak": since_peak,
    "colour": colour,
}


def reads_of(name: str, survey: str) -> list[str]:
    curve = SURVEYS[survey].light_curve.detections
    feature = FEATURES[name]
    return [*feature.own, *(f"{curve}.{row}" for row in feature.rows), f"{curve}.jd"]


def of_packets(name: str, batch: list[Packet]) -> list[float]:
    frame = frame_maker(reads_of(name, "ztf"), "ztf").of_packets(batch)
    return FEATURES[name].function(frame, history(frame, "prv_candidates")).tolist()


def is_usual(packet: Packet) -> bool:
    """Without magnitudes that are no magnitudes: their differences are a matter of rounding."""
    mags = [own(packet, "magpsf"), *(r["magpsf"] for r in packet["prv_candidates"] or [])]
    return all(not there(m) or 10 < m < 30 for m in mags)


@pytest.mark.parametrize("name", FEATURES)
def test_each_is_what_its_definition_says(name: str) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
    @given(packets)
    def check(batch: list[Packet]) -> None:
        batch = [packet for packet in batch if is_usual(packet)]
        expected = [math.nan if (v := ORACLE[name](packet)) is None else v for packet in batch]
        np.testing.assert_allclose(of_packets(name, batch), expected, rtol=1e-6, atol=1e-9)

    check()


def test_by_hand() -> None:
    past = [limit(3000), detection(144, fid=2, magpsf=19.5), detection(72, fid=1, magpsf=19.0)]
    packet = alert(past, fid=1, magpsf=18.5)
    values = {name: of_packets(name, [packet])[0] for name in FEATURES}
    assert values["rise_rate"] == pytest.approx(10.0, rel=1e-5)
    assert values["since_first"] == pytest.approx(0.1)
    assert values["detections_tonight"] == 3
    assert values["limit_before_first"] == pytest.approx((3000 - 144) / 1440)
    assert values["peak"] == 18.5
    assert values["since_peak"] == 0
    assert values["colour"] == pytest.approx(-1.0)
    assert NOW > 0


@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_expressions_know_them_for_every_survey(survey: str) -> None:
    text = "rise_rate() > 0.1 and since_first() < 5 and colour('g', 'r') < 0"
    text += " and since_peak() <= 0 and peak() < 20"
    f = expression(f"{text} and detections_tonight() >= 2 and not (limit_before_first() > 3)", survey)
    empty = frame_maker(f.require_reads(), survey).of_packets([])
    assert f(empty).shape == (0, 7)


@pytest.mark.parametrize("name", FEATURES)
def test_explain_shows_the_same_of_a_filter_in_python_as_of_an_expression(name: str) -> None:
    texts = ("g", "r")[: FEATURES[name].texts]
    called = f"{name}({', '.join(map(repr, texts))})"

    @alert_filter(survey="ztf", reads=reads_of(name, "ztf"))
    def one(alerts: pd.DataFrame) -> Any:
        past = history(alerts, "prv_candidates")
        return {"cut": FEATURES[name].function(alerts, past, *texts) > -99, "other": alerts["jd"] > 0}

    packets = [
        {**alert([limit(5760), detection(2880, magpsf=19.0)]), "candid": 1},
        {**alert([detection(1440, magpsf=18.0, fid=2)]), "candid": 2},
    ]
    asked = expression(f"{called} > -99", "ztf")
    frame = frame_maker(asked.require_reads(), "ztf").of_packets(packets)
    for candid in (1, 2):
        cut, other = one.explain(frame, candid)["saw"]
        (wanted,) = asked.explain(frame, candid)["saw"]
        shown = called.replace("'", '"')
        assert cut.pop(shown) == wanted.pop(called, wanted.pop(shown, "")), (cut, wanted)
        assert cut == wanted
        assert set(other) == {"jd"}


def test_on_real_packets(real_alerts: Any) -> None:
    """Every feature of real light curves equals its definition."""
    raws = [path.read_bytes() for path in sorted(real_alerts.glob("ztf_4.01/*.avro"))]
    from schemas.packets.packet import read_packet

    batch = [read_packet(raw)[0] for raw in raws]
    for name in FEATURES:
        maker = frame_maker(reads_of(name, "ztf"), "ztf")
        frame: pd.DataFrame = maker.frame(PacketReader(maker.columns).read(raws).table)
        found = FEATURES[name].function(frame, history(frame, "prv_candidates"))
        expected = [math.nan if (v := ORACLE[name](packet)) is None else v for packet in batch]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
        assert found.notna().any() or name == "colour", name
