"""The Rubin filters against a second reading of their descriptions, and the law that every filter keeps."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filters import Filter, alert_filter, registered
from filters.stamps.psf import psf_score
from schemas.errors import NoSuchColumn
from schemas.frame import frame_maker
from simulator import simulate_rubin
from simulator.rubin.stamps import ARTEFACTS, cutouts
from tests import rubin
from tests.filters.lsst_oracle import ORACLE
from tests.filters.packets import alert as ztf_alert

Packet = dict[str, Any]

relaxed = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@cache
def stamp(artefact: str = "") -> bytes:
    """The difference cut-out of a point source or an artefact, 40 times its error."""
    made_of = (2000.0, 50.0, 0.0, 10.0, -30.0, 1.0, np.random.default_rng(1))
    return cutouts(*made_of, artefact)["cutoutDifference"]


fluxes = st.sampled_from([None, -3000.0, -60.0, 0.0, 40.0, 50.0, 200.0, 900.0, 3000.0])
errors = st.sampled_from([8.0, 8.0, 8.0, 40.0, 0.0, None])
bands = st.sampled_from(["r", "r", "r", "r", "g", None])
flags = st.sampled_from([False] * 6 + [True, None])
days = st.sampled_from([-1.0, 0.0, 2.0, 6.0, 0.005, 0.02, 0.3, 0.45, 1.0, 4.0, 12.0])

rows = st.lists(
    st.fixed_dictionaries(
        {
            "days": days,
            "band": bands,
            "scienceFlux": fluxes,
            "isNegative": st.sampled_from([True, False, False, None]),
            "visit": st.integers(1, 6),
        }
    ),
    max_size=8,
)
forced_rows = st.lists(
    st.fixed_dictionaries(
        {
            "days": days,
            "band": bands,
            "psfFlux": fluxes,
            "psfFluxErr": errors,
            "timeWithdrawnMjdTai": st.sampled_from([None, None, None, 60900.0]),
        }
    ),
    max_size=6,
)
sources = st.fixed_dictionaries(
    {
        "reliability": st.sampled_from([0.9] * 9 + [0.5, 0.4, None]),
        "psfFlux": fluxes,
        "psfFluxErr": errors,
        "scienceFlux": fluxes,
        "band": bands,
        "isNegative": st.sampled_from([True, False, False, None]),
        "isDipole": flags,
        "dipoleLength": st.sampled_from([None, 0.5, 3.0, 4.0]),
        "dipoleMeanFlux": fluxes,
        "dipoleMeanFluxErr": errors,
        "trailLength": st.sampled_from([None, 0.2, 1.5, 9.0]),
        "trail_flag_edge": flags,
        "ssObjectId": st.sampled_from([None] * 7 + [0, 5]),
        "timeWithdrawnMjdTai": st.sampled_from([None] * 9 + [60900.0]),
        "cutoutDifference": st.sampled_from(["", *ARTEFACTS]).map(stamp) | st.none(),
    }
)
objects = st.none() | st.fixed_dictionaries(
    {
        "nDiaSources": st.sampled_from([0, 1, 2, 5, 20, 21]),
        "days": st.sampled_from([None, 0.0, 3.0, 9.9, 11.0]),
    }
)


GOOD = {"reliability": 0.9, "psfFlux": 900.0, "psfFluxErr": 8.0, "isNegative": False}
STEADY = [
    {"days": days, "band": "r", "psfFlux": flux, "psfFluxErr": 8.0, "timeWithdrawnMjdTai": None}
    for days, flux in ((1.0, 900.0), (2.0, 1200.0), (6.0, 1000.0))
]
SWINGS = [
    {"days": float(n), "band": "r", "scienceFlux": flux, "isNegative": False, "visit": n}
    for n, flux in enumerate((3000.0, 900.0, 1000.0, 1100.0), 1)
]
# of each filter a packet that passes: values of the source, rows, forced rows, the object
PASSING: dict[str, tuple[Packet, list[Packet], list[Packet], Packet | None]] = {
    "reliable": (GOOD, [], [], None),
    "dipole": (
        GOOD | {"isDipole": True, "dipoleLength": 0.5, "dipoleMeanFlux": 200.0, "dipoleMeanFluxErr": 8.0},
        *([], [], None),
    ),
    "known_object": (GOOD | {"ssObjectId": 5}, [], [], None),
    "unknown_mover": (GOOD | {"trailLength": 9.0}, [], [], None),
    "new_transient": (GOOD, [], [], {"nDiaSources": 5, "days": 3.0}),
    "rising": (GOOD | {"psfFlux": 3000.0}, [], STEADY, None),
    "fading": (GOOD, [], STEADY, None),
    "large_amplitude": (GOOD | {"scienceFlux": 900.0}, SWINGS, [], None),
    "point_like": (GOOD | {"cutoutDifference": stamp()}, [], [], None),
    "negative_source": (GOOD | {"isNegative": True, "psfFlux": -3000.0, "isDipole": False}, [], [], None),
    "repeated_tonight": (GOOD, [SWINGS[0] | {"days": 0.02}], [], None),
}


@st.composite
def packets(draw: st.DrawFn, near: str | None = None) -> Packet:
    """Values on both sides of every threshold, missing ones among them.

    near: this filter's packet that passes with up to three values drawn anew.
    """
    drawn = draw(sources), draw(rows), draw(forced_rows), draw(objects)
    if near is None:
        return packet(draw, *drawn)
    source, past, forced, about = PASSING[near]
    changed = draw(st.sets(st.sampled_from(sorted(drawn[0])), max_size=3))
    source = source | {name: drawn[0][name] for name in changed}
    others = draw(st.sampled_from([None, None, None, "past", "forced", "about"]))
    return packet(
        draw,
        source,
        drawn[1] if others == "past" else past,
        drawn[2] if others == "forced" else forced,
        drawn[3] if others == "about" else about,
    )


def packet(
    draw: st.DrawFn, source: Packet, past: list[Packet], forced: list[Packet], about: Packet | None
) -> Packet:
    """With one flag set now and then."""
    flag = {}
    if draw(st.integers(0, 4)) == 0:
        flag[draw(st.sampled_from(["pixelFlags_bad", "centroid_flag", "pixelFlags_injected"]))] = draw(flags)
    return made(source | flag, past, forced, about, draw(st.integers(1, 9)))


def made(
    source: Packet, past: list[Packet], forced: list[Packet], about: Packet | None, candid: int = 1
) -> Packet:
    """A packet of 11.0; rows and the object tell their time in days before the source's."""
    past, forced = (
        [{**row, "midpointMjdTai": rubin.NOW - row["days"]} for row in kind] for kind in (past, forced)
    )
    for row in [*past, *forced]:
        del row["days"]
    records = {}
    if about is not None:
        first = None if about["days"] is None else rubin.NOW - about["days"]
        records["diaObject"] = {"nDiaSources": about["nDiaSources"], "firstDiaSourceMjdTai": first}
    own = {name: value for name, value in source.items() if name != "cutoutDifference"}
    packet = rubin.alert("11.0", candid, past, forced, records, **own)
    return packet | {"cutoutDifference": source.get("cutoutDifference")}


def verdicts(f: Filter, batch: list[Packet]) -> list[bool]:
    found: list[bool] = f.passes(frame_maker(f.require_reads(), "lsst").of_packets(batch)).tolist()
    return found


def test_every_filter_has_a_second_reading() -> None:
    assert set(ORACLE) == set(registered("lsst"))
    assert len(ORACLE) == 11


@pytest.mark.parametrize("name", sorted(ORACLE))
def test_the_filter_passes_what_it_is_for(name: str) -> None:
    batch = [made(*PASSING[name]), rubin.alert()]
    assert verdicts(registered()[name], batch) == [True, False] == [ORACLE[name](each) for each in batch]


@pytest.mark.parametrize("name", sorted(ORACLE))
@relaxed
@given(st.data())
def test_the_filter_says_what_its_description_says(name: str, data: st.DataObject) -> None:
    """Around what passes as well as anywhere."""
    batch = data.draw(st.lists(packets() | packets(near=name), min_size=1, max_size=16))
    assert verdicts(registered()[name], batch) == [ORACLE[name](each) for each in batch]


@pytest.mark.parametrize("name", sorted(ORACLE))
def test_real_packets(name: str, real_alerts: Path) -> None:
    batch = [rubin.read(path.read_bytes()) for path in sorted(real_alerts.glob("lsst_[o9]*/*.avro"))]
    assert verdicts(registered()[name], batch) == [ORACLE[name](each) for each in batch]


def test_a_variable_of_large_amplitude_by_hand() -> None:
    past = [
        {"midpointMjdTai": rubin.NOW - n, "band": "r", "visit": n, "scienceFlux": flux}
        for n, flux in enumerate((1000.0, 900.0, 500.0, 600.0), 1)
    ]
    source = {"reliability": 0.9, "scienceFlux": 390.0}
    large = registered()["large_amplitude"]
    assert large.one(rubin.alert(past=past, **source))
    assert not large.one(rubin.alert(past=past, **source | {"scienceFlux": 410.0}))
    assert not large.one(rubin.alert(past=past[1:], **source | {"scienceFlux": 10.0}))
    assert not large.one(rubin.alert(past=[{**row, "visit": 1} for row in past], **source))


def test_a_source_that_fades_by_hand() -> None:
    forced = [
        {"midpointMjdTai": rubin.NOW - n, "band": "r", "psfFlux": flux, "psfFluxErr": 10.0}
        for n, flux in enumerate((600.0, 700.0, 500.0), 1)
    ]
    source = {"reliability": 0.9, "psfFluxErr": 10.0, "isNegative": False}
    fading = registered()["fading"]
    for flux, passes in ((600.0, True), (601.0, False), (640.0, False), (-50.0, True)):
        packet = rubin.alert(forced=forced, psfFlux=flux, **source)
        assert bool(fading.one(packet)) == passes == ORACLE["fading"](packet)
    assert not fading.one(rubin.alert(forced=forced[1:], psfFlux=500.0, **source))


def test_a_stamp_is_judged_by_the_psf_that_it_brings() -> None:
    point_like = registered()["point_like"]
    for artefact in ("", *ARTEFACTS):
        assert bool(point_like.one(made(GOOD | {"cutoutDifference": stamp(artefact)}, [], [], None))) == (
            not artefact
        )
    scores = psf_score(
        pd.Series([stamp(), None, b"", b"no image", stamp()[:-3000], stamp()[:100]], dtype=object)
    )
    assert scores[0] > 0.9
    assert np.isnan(scores[1:]).all()


def test_dipoles_of_the_telescope_are_no_points(real_alerts: Path) -> None:
    """The survey's own flag on its own stamps, of any size and seeing."""
    packets = [rubin.read(path.read_bytes()) for path in sorted(real_alerts.glob("lsst_[o9]*/*.avro"))]
    scores = psf_score(pd.Series([one["cutoutDifference"] for one in packets], dtype=object))
    dipole = np.array([bool(one["diaSource"]["isDipole"]) for one in packets])
    assert dipole.sum() > 20
    assert scores[dipole].max() < 0.1
    assert np.median(scores[~dipole]) > 0.9


def test_stamps_of_the_simulated_sky() -> None:
    alerts = list(simulate_rubin(400, seed=5))
    stamps = [rubin.read(one.packet)["cutoutDifference"] for one in alerts]
    scores, real = (
        psf_score(pd.Series(stamps, dtype=object)),
        np.array([a.truth["class"] != "bogus" for a in alerts]),
    )
    assert (~real).sum() > 10
    assert (scores[real] >= 0.5).mean() > 0.95
    assert (scores[~real] >= 0.5).mean() < 0.2


@pytest.mark.parametrize("name", sorted(ORACLE))
@relaxed
@given(st.lists(packets(), max_size=8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_the_law(name: str, batch: list[Packet], cut: int, random: Any) -> None:
    """f(a ++ b) = f(a) ++ f(b), in any order, and the input is not changed."""
    f = registered()[name]
    frame = frame_maker(f.require_reads(), "lsst").of_packets(batch)
    before = frame.copy(deep=True)
    whole = f(frame)
    pd.testing.assert_frame_equal(frame, before)
    parts = [f(frame.iloc[:cut]), f(frame.iloc[cut:])]
    assert np.array_equal(whole.to_numpy(), np.concatenate([part.to_numpy() for part in parts]))
    order = random.sample(range(len(batch)), len(batch))
    assert np.array_equal(whole.to_numpy()[order], f(frame.iloc[order]).to_numpy())


def test_one_filter_for_both_surveys() -> None:
    """With the columns that both have, under the same names and with the same meaning."""

    @alert_filter(survey=["ztf", "lsst"], reads=["mag", "positive", "band", "night", "jd", "exposure"])
    def bright(alerts: pd.DataFrame, *, mag_max: float = 20.0) -> dict[str, Any]:
        """Bright and positive."""
        return {"bright": alerts["mag"] <= mag_max, "positive": alerts["positive"]}

    rubins = [
        rubin.alert(psfFlux=flux, isNegative=flux < 0, band="r") for flux in (40_000.0, 30_000.0, -40_000.0)
    ]
    assert [bool(bright.one(packet)) for packet in rubins] == [True, False, False]
    assert bright.one(ztf_alert(magpsf=19.9))
    assert not bright.one(ztf_alert(magpsf=20.1))
    with pytest.raises(NoSuchColumn, match="rb"):
        alert_filter(survey=["ztf", "lsst"], reads=["rb"])(bright.function)
