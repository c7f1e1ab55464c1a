"""Reading against an oracle: a plain loop over what fastavro decodes.

The archives have many small files and row groups, so that pruning has something to leave out.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.read.archive import Archive, NoSuchArchive
from archive.read.cones import BadCone, cone_of
from archive.read.fragments import BadNights, nights_of
from archive.read.objects import NoSuchAlert
from archive.read.where import BadCondition
from archive.tables import store
from archive.write.ingest import ingest
from filters import registered
from filters.external.externals import stored_columns, to_frame
from schemas.errors import NoSuchColumn
from schemas.packets.reader import PacketReader
from simulator import simulate
from tests.archive.helpers import records_in, write_packets

Packet = dict[str, Any]
SEEN_AS_MISSING = -999.0


@dataclass(frozen=True)
class Kept:
    archive: Archive
    raw: list[bytes]
    packets: list[Packet]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Three simulated nights, in several files a night with small row groups."""
    raw = [alert.packet for alert in simulate(900, 5, nights=3, stamps=False)]
    folder = tmp_path_factory.mktemp("reading")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROW_GROUP_ROWS", 16)
        for part in range(3):
            ingest(write_packets(folder / f"part{part}", raw[part::3]), folder / "archive")
    return Kept(Archive(folder / "archive"), raw, [p for one in raw for p in records_in(one)])


def night_of(packet: Packet) -> date:
    return date(2017, 1, 1) + timedelta(days=math.floor(packet["candidate"]["jd"] - 2457754.5))


def distance(packet: Packet, ra: float, dec: float) -> float:
    """Degrees, by the law of cosines on unit vectors."""
    a, b = (
        np.array([math.cos(y) * math.cos(x), math.cos(y) * math.sin(x), math.sin(y)])
        for x, y in (
            (math.radians(packet["candidate"]["ra"]), math.radians(packet["candidate"]["dec"])),
            (math.radians(ra), math.radians(dec)),
        )
    )
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b)))


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
}


def holds(packet: Packet, column: str, word: str, value: float) -> bool:
    seen = packet["candidate"][column]
    return seen is not None and seen != SEEN_AS_MISSING and COMPARE[word](seen, value)


condition = st.tuples(
    st.sampled_from(["rb", "magpsf", "distpsnr1", "sgscore1", "ssdistnr", "fid", "ndethist"]),
    st.sampled_from(sorted(COMPARE)),
    st.sampled_from([-999.0, 0.0, 0.5, 0.65, 1.0, 2.0, 5.0, 18.5, 20.0]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2),
    st.integers(0, 2),
    st.none() | st.tuples(st.integers(0, 899), st.sampled_from([0.001, 0.5, 5.0, 60.0])),
    st.lists(condition, max_size=2),
    st.booleans(),
)
def test_alerts_are_those_of_a_plain_loop(
    kept: Kept, first: int, more: int, near: tuple[int, float] | None, where: list[Any], public: bool
) -> None:
    every = sorted({night_of(p) for p in kept.packets})
    chosen = every[first : first + more + 1]
    cone = None
    if near is not None:
        centre = kept.packets[near[0]]["candidate"]
        cone = (centre["ra"], centre["dec"], near[1])
    expected = sorted(
        p["candid"]
        for p in kept.packets
        if night_of(p) in chosen
        and (cone is None or distance(p, cone[0], cone[1]) <= cone[2])
        and all(holds(p, *one) for one in where)
        and (not public or p["candidate"]["programid"] == 1)
    )
    found = kept.archive.alerts(f"{chosen[0]}..{chosen[-1]}", ["rb"], cone, where, public=public)
    assert sorted(found.compute(scheduler="sync")["candid"]) == expected


@pytest.mark.parametrize("public", [True, False])
def test_frames_are_what_the_decoder_gives(kept: Kept, public: bool) -> None:
    """Columns of every filter, values and types, history rows that are not public gone or not."""
    reads = list(dict.fromkeys(name for f in registered("ztf").values() for name in f.require_reads()))
    batch = PacketReader(stored_columns(reads, public=public)).read(kept.raw)
    table = batch.table
    if public:
        table = table.filter(np.array(table["programid"].to_pylist()) == 1)
    expected = to_frame(table, reads, public=public).sort_values("candid", ignore_index=True)
    lazy = kept.archive.alerts(columns=reads, public=public)
    found = lazy.compute(scheduler="sync").sort_values("candid", ignore_index=True)
    assert list(found.columns) == list(expected.columns) == list(lazy.columns)
    assert found.dtypes.astype(str).tolist() == lazy._meta.dtypes.astype(str).tolist()
    for name in expected:
        assert [repr(v) for v in found[name].tolist()] == [repr(v) for v in expected[name].tolist()], name


def test_little_is_read_for_little(kept: Kept) -> None:
    whole = kept.archive.cost(columns=["rb"])
    night = kept.archive.cost(str(kept.archive.nights()["night"][0]), ["rb"])
    centre = kept.packets[0]["candidate"]
    cone = kept.archive.cost(columns=["rb"], cone=(centre["ra"], centre["dec"], "1 arcmin"), versions="all")
    assert cone.row_groups < night.row_groups < whole.row_groups
    assert whole.bytes < whole.available / 10
    bright = kept.archive.cost(columns=["rb"], where="magpsf < 5", versions="all")
    assert bright.row_groups == 0


def test_small_pickles_that_work_elsewhere(kept: Kept) -> None:
    again = pickle.loads(pickle.dumps(kept.archive))
    assert again.nights().equals(kept.archive.nights())
    assert len(pickle.dumps(kept.archive)) < 500
    lazy = kept.archive.alerts(columns=["rb"])
    assert len(pickle.dumps(lazy)) < 2_000 * lazy.npartitions + 20_000


def test_packets_come_back(kept: Kept) -> None:
    some = kept.packets[::97]
    for packet, raw in zip(some, kept.archive.packets([p["candid"] for p in some]).values(), strict=True):
        assert repr(records_in(raw)) == repr([packet])
    with pytest.raises(NoSuchAlert, match="12345"):
        kept.archive.packet(12345)


def test_a_bag_of_packets(kept: Kept) -> None:
    bag = kept.archive.bag(where="rb >= 0.65").compute(scheduler="sync")
    expected = [p for p in kept.packets if holds(p, "rb", ">=", 0.65)]
    assert {p["candid"]: repr(p["candidate"]) for p in bag} == {
        p["candid"]: repr(p["candidate"]) for p in expected
    }
    assert kept.archive.bag(where="magpsf < 5").compute(scheduler="sync") == []


def test_cutouts(tmp_path: Path) -> None:
    alert = next(iter(simulate(1, 3)))
    ingest(write_packets(tmp_path / "in", [alert.packet]), tmp_path / "archive")
    found = Archive(tmp_path / "archive").cutouts(alert.candid)
    assert {name: pixels.shape for name, pixels in found.items()} == dict.fromkeys(
        ["Science", "Template", "Difference"], (63, 63)
    )


def test_a_light_curve_has_each_exposure_once(kept: Kept) -> None:
    names = [p["objectId"] for p in kept.packets]
    name = max(set(names), key=names.count)
    own = [p for p in kept.packets if p["objectId"] == name]
    assert len(own) > 1, "an object with one alert proves nothing"
    best: dict[int, tuple[int, float, float | None]] = {}  # pid -> rank, -jd of the alert that tells, magpsf
    for packet in own:
        now = packet["candidate"]
        rows = [(0, now), *((2 - (r["magpsf"] is not None), r) for r in packet["prv_candidates"] or [])]
        for rank, row in rows:
            if rank == 0 or row["jd"] < now["jd"]:
                told = (rank, -now["jd"], row["magpsf"])
                best[row["pid"]] = min(best.get(row["pid"], told), told, key=lambda t: t[:2])
    found = kept.archive.light_curve(name)
    assert found["jd"].is_monotonic_increasing
    assert not found["pid"].duplicated().any()
    epochs = found[found["kind"] != "forced"]
    ranks = {"alert": 0, "detection": 1, "limit": 2}
    assert {int(e.pid): ranks[e.kind] for e in epochs.itertuples()} == {pid: t[0] for pid, t in best.items()}
    for epoch in epochs.itertuples():
        told = best[int(epoch.pid)][2]
        assert (told is None and math.isnan(epoch.magpsf)) or epoch.magpsf == told
    with pytest.raises(NoSuchAlert, match="ZTF00nothing"):
        kept.archive.light_curve("ZTF00nothing")


def changed(raw: bytes, **fields: Any) -> bytes:
    """The packet with other values in `candidate`, written by fastavro."""
    reader = fastavro.reader(io.BytesIO(raw))
    [packet] = list(reader)
    packet["candidate"] |= fields  # type: ignore[index, call-overload, operator]
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(reader.writer_schema), [packet])  # type: ignore[arg-type]
    return out.getvalue()


def test_the_newest_of_a_repeated_candid(tmp_path: Path) -> None:
    raw = [a.packet for a in simulate(40, 9, stamps=False)]
    later = [changed(one, rb=0.125) for one in raw[:7]]
    moved = changed(raw[8], jd=records_in(raw[8])[0]["candidate"]["jd"] + 3)  # into another night
    for number, packets in enumerate([raw, later, [moved]]):
        ingest(write_packets(tmp_path / f"in{number}", packets), tmp_path / "archive")
    archive = Archive(tmp_path / "archive")
    newest = archive.alerts(columns=["rb", "jd"]).compute()
    assert len(newest) == newest["candid"].nunique() == 40
    wanted = {records_in(one)[0]["candid"] for one in later}
    assert set(newest["candid"][newest["rb"] == 0.125]) == wanted
    assert len(archive.alerts(versions="all").compute()) == 48
    candid = records_in(moved)[0]["candid"]
    assert records_in(archive.packet(candid)) == records_in(moved)
    # a condition chooses among the newest; it does not bring back what was replaced
    assert archive.alerts(where="rb > 0.125").compute()["candid"].isin(wanted).sum() == 0


def test_nothing_is_an_empty_frame(kept: Kept) -> None:
    lazy = kept.archive.alerts("1999-01-01", ["rb", "prv_candidates.jd", "_file"])
    empty = lazy.compute()
    assert len(empty) == 0
    assert list(empty.columns) == ["rb", "prv_candidates.jd", "_file", "candid", "objectId"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"columns": ["rbb"]}, NoSuchColumn, "rb"),
        ({"columns": ["_topics"]}, NoSuchColumn, "_topic"),
        ({"nights": "yesterday"}, BadNights, "2023-10-12"),
        ({"nights": []}, BadNights, "leave"),
        ({"nights": "2023-10-14..2023-10-12"}, BadNights, "after"),
        ({"cone": (1, 2)}, BadCone, "ra"),
        ({"cone": (1, 95, 1)}, BadCone, "dec 95"),
        ({"cone": (1, 2, "3 magnitudes")}, BadCone, "ra"),
        ({"where": "rb >"}, BadCondition, "and"),
        ({"where": "rb > 0.5 or rb < 0.1"}, BadCondition, "and"),
        ({"where": [("rb", "~", 1)]}, BadCondition, "<="),
    ],
)
def test_mistakes_are_told(kept: Kept, arguments: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error) as raised:
        kept.archive.alerts(**arguments)
    told = f"{raised.value} {getattr(raised.value, 'hint', '')}"
    assert words in told


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(NoSuchArchive, match="nowhere"):
        Archive(tmp_path / "nowhere").nights()


def test_nights_in_all_spellings() -> None:
    day = date(2023, 10, 12)
    for given_ in (
        "2023-10-12",
        day,
        [day],
        pd.Timestamp(day),
        np.datetime64("2023-10-12"),
        "2023-10-11..2023-10-12",
    ):
        assert nights_of(given_).holds(day)
        assert not nights_of(given_).holds(date(2023, 10, 13))
    assert nights_of("2023-10-12..").holds(date(2030, 1, 1))
    assert nights_of(None).holds(None)
    assert not nights_of("2023-10-12..").holds(None)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 360, exclude_max=True),
    st.floats(-90, 90),
    st.sampled_from([1e-5, 1e-3, 0.1, 3.0, 40.0, 120.0]),
    st.data(),
)
def test_the_ranges_of_a_cone_hold_all_of_it(
    ra: float, dec: float, radius: float, data: st.DataObject
) -> None:
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    from archive.layout import healpix29

    cone = cone_of((ra, dec, radius))
    angle, part = data.draw(st.floats(0, 360)), data.draw(st.floats(0, 0.999))
    inside = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(angle * u.deg, part * radius * u.deg)
    cell = healpix29([inside.ra.deg], [inside.dec.deg])[0].as_py()
    ranges = cone.ranges()
    assert ((ranges[:, 0] <= cell) & (cell < ranges[:, 1])).any()
    assert (ranges[1:, 0] > ranges[:-1, 1]).all()
