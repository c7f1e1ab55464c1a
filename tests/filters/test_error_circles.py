"""Error circles of neutrinos and gamma-ray bursts: their maps beside the sphere of astropy."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from confluent_kafka import Producer
from typer.testing import CliRunner

from cluster.kafka.broker import Broker
from commands import application
from filters.external import Externals, Store
from filters.external.add import add_notices
from filters.regions.circles import Ellipse, map_of
from filters.regions.skymap import BadSkyMap, read_fits
from pipeline.broker.client import producer_settings
from simulator.sky.merger import merger_of
from simulator.sky.messages import messages_of
from tests.pipeline.topics import new_topic

JD = 2460235.5


def icecube(**changes: Any) -> bytes:
    """A notice as IceCube sends it."""
    notice = {
        "mission": "IceCube",
        "messenger": "Neutrino",
        "id": ["137840_57034692"],
        "alert_datetime": "2023-10-18T00:40:00.0Z",
        "alert_type": "initial",
        "alert_tense": "current",
        "trigger_time": "2023-10-18T00:00:00Z",
        "ra": 345.82,
        "dec": 9.01,
        "ra_dec_error": 0.5,
        "containment_probability": 0.9,
    }
    told = {name: value for name, value in {**notice, **changes}.items() if value is not None}
    return json.dumps(told).encode()


def levels(root: Path, places: SkyCoord, jd: float = JD + 1) -> np.ndarray:
    columns = Externals(root).columns(
        ["skymaps.level"], places.ra.deg, places.dec.deg, np.full(len(places), jd)
    )
    return np.asarray(columns["skymaps.level"], float)


def around(ra: float, dec: float, apart: np.ndarray, angle: np.ndarray) -> SkyCoord:
    return SkyCoord(ra, dec, unit="deg").directional_offset_by(angle * u.deg, apart * u.deg)


@pytest.mark.parametrize("error", [4 / 3600, 0.05, 0.5, 8.0])
@pytest.mark.parametrize(("ra", "dec"), [(345.82, 9.01), (0.0, 0.0), (120.0, 89.99), (200.0, -88.0)])
@pytest.mark.parametrize("share", [0.9, 0.68])
def test_the_level_of_a_circle_is_that_of_a_normal_distribution(
    error: float, ra: float, dec: float, share: float, tmp_path: Path
) -> None:
    add_notices(
        "skymaps", [icecube(ra=ra, dec=dec, ra_dec_error=error, containment_probability=share)], tmp_path
    )
    rng = np.random.default_rng(3)
    sigma = error / math.sqrt(-2 * math.log(1 - share))
    apart, angle = sigma * rng.uniform(0, 3.5, 400), rng.uniform(0, 360, 400)
    found = levels(tmp_path, around(ra, dec, apart, angle))
    wanted = 1 - np.exp(-0.5 * (apart / sigma) ** 2)
    assert np.abs(found - wanted).max() < 0.1
    assert np.abs(found - wanted).mean() < 0.03
    assert abs(np.interp(error, np.sort(apart), np.sort(found)) - share) < 0.05
    assert np.isnan(levels(tmp_path, around(ra, dec, np.array([9 * sigma]), np.array([10.0])))).all()


def test_an_ellipse_lies_along_its_angle() -> None:
    one = read_fits(map_of(Ellipse(10.0, 40.0, a=2.0, b=0.2, angle=30.0), "E", JD))
    for angle, apart, wanted in ((30, 2.0, 1), (210, 2.0, 1), (120, 0.2, 1), (120, 0.4, 2), (75, 2.0, None)):
        place = around(10.0, 40.0, np.array([apart]), np.array([float(angle)]))
        (level,) = one.levels(place.ra.deg, place.dec.deg)
        if wanted is None:
            assert np.isnan(level)
        else:
            assert level == pytest.approx(1 - math.exp(-0.5 * wanted**2), abs=0.06)
    across = read_fits(map_of(Ellipse(10.0, 40.0, a=0.2, b=2.0, angle=120.0), "E", JD))
    assert across.area(0.9).square_degrees == pytest.approx(one.area(0.9).square_degrees, rel=0.02)


def test_updates_supersede_and_a_retraction_makes_void(tmp_path: Path) -> None:
    far = around(345.82, 9.01, np.array([0.3]), np.array([0.0]))
    add_notices("skymaps", [icecube()], tmp_path)
    (first,) = levels(tmp_path, far)
    before = Store(tmp_path).current("skymaps")
    [update] = add_notices(
        "skymaps", [icecube(alert_type="update", ra_dec_error=1.0, id="137840_57034692")], tmp_path
    )
    assert (update.event, update.map and update.map.number) == ("IceCube 137840_57034692", 0)
    (second,) = levels(tmp_path, far)
    assert 0.1 < second < first < 0.7
    add_notices("skymaps", [icecube(alert_type="retraction", ra=None, id=["137840_57034692"])], tmp_path)
    assert np.isnan(levels(tmp_path, far)).all()
    old = Externals(tmp_path, {"skymaps": before})  # what was known then
    assert (
        old.columns(["skymaps.level"], far.ra.deg, far.dec.deg, np.array([JD + 1]))["skymaps.level"] == first
    )


def test_two_missions_are_two_events_and_one_of_them_says_when(tmp_path: Path) -> None:
    swift = icecube(mission="SWIFT", id=1253910, ra=100.0, dec=-20.0, ra_dec_error=0.05, alert_tense=None)
    told = add_notices("skymaps", [icecube(), swift], tmp_path)
    assert [one.event for one in told] == ["IceCube 137840_57034692", "Swift 1253910"]
    places = SkyCoord([345.82, 100.0], [9.01, -20.0], unit="deg")
    names = ["skymaps.event", "skymaps.days"]
    columns = Externals(tmp_path).columns(names, places.ra.deg, places.dec.deg, np.array([JD + 1, JD + 2]))
    assert list(columns["skymaps.event"]) == [one.event for one in told]
    assert np.asarray(columns["skymaps.days"], float) == pytest.approx([1, 2], abs=1e-6)
    assert np.isnan(levels(tmp_path, places, JD - 1)).all()


def test_a_map_in_the_notice_is_taken_rather_than_the_circle(tmp_path: Path) -> None:
    content = map_of(Ellipse(50.0, 10.0, 1.0, 1.0), "other", JD)
    packed = base64.b64encode(content).decode()
    [one] = add_notices("skymaps", [icecube(healpix_file=packed)], tmp_path)
    assert one.map is not None
    assert np.isfinite(one.map.levels(np.array([50.0]), np.array([10.0]))).all()
    assert one.event == "IceCube 137840_57034692"


@pytest.mark.parametrize(
    ("notice", "says"),
    [
        (icecube(ra=None), "no place with an error yet"),
        (icecube(ra_dec_error=None), "no place with an error yet"),
        (icecube(alert_tense="test"), "alert_tense is test"),
        (icecube(ra_dec_error=0), "is none"),
        (icecube(ra="north"), "no notice of an event"),
        (icecube(healpix_file="AAAA"), "no multi-order sky map"),
        (b"{}", "no notice of an event"),
        (b"{", "no notice of an event"),
    ],
)
def test_what_is_left_out_says_why(notice: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadSkyMap, match=says):
        add_notices("skymaps", [notice], tmp_path)
    assert Store(tmp_path).names() == []


def test_the_simulated_neutrino_is_a_test_of_such_a_notice(tmp_path: Path) -> None:
    merger = merger_of({"t0": JD, "ra": 10.0, "dec": 10.0, "redshift": 0.02})
    notice = messages_of(merger, 1)["neutrino.json"]
    with pytest.raises(BadSkyMap, match="test"):
        add_notices("skymaps", [notice], tmp_path)
    [one] = add_notices("skymaps", [notice], tmp_path, tests=True)
    assert one.event == "IceCube simulated"


def test_notices_from_a_topic(broker: Broker, tmp_path: Path) -> None:
    topic = new_topic(broker.bootstrap_servers)
    producer = Producer(producer_settings(broker.bootstrap_servers))
    for notice in (icecube(ra=None), icecube(), icecube(id="2"), icecube(id="2", alert_type="retraction")):
        producer.produce(topic, notice, partition=0)
    producer.flush()
    arguments = ["skymaps", "follow", topic, "--bootstrap", broker.bootstrap_servers, "--root", str(tmp_path)]
    done = CliRunner().invoke(application(), [*arguments, "--until-drained"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert f"{topic}/0/0: left out: IceCube 137840_57034692 has no place with an error yet" in said
    assert "IceCube 2: retracted" in said
    assert [one["event"] for one in Store(tmp_path).about("skymaps")["maps"]] == ["IceCube 137840_57034692"]
