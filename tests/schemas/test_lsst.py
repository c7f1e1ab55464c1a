"""Rubin's words, on packets of every version and on all the real ones, beside fastavro and astropy."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pandas as pd
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from schemas.avro.framing import Framer, OwnSchemas, RegistrySource, RoomSource, schema_source
from schemas.errors import NoSchemaSource, UnknownSchema
from schemas.frame import FrameMaker, frame_maker
from schemas.packets.packet import read_packet
from schemas.packets.reader import Batch, PacketReader, read_by_survey
from schemas.surveys.lsst.versions import ALIASES, REFERENCE, major_of, schema_of
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import COMMON
from schemas.time import jd_of_tai, tai_of_jd
from simulator import simulate
from tests import rubin

LSST = SURVEYS["lsst"]
NAMES = list(COMMON)


@pytest.fixture
def registry() -> Iterator[rubin.Registry]:
    with rubin.registry() as told:
        yield told


def seen(raws: list[bytes], *reads: str, schemas: str = "lsst") -> pd.DataFrame:
    maker = FrameMaker(reads, "lsst")
    batch = PacketReader(maker.columns, "lsst", schema_source(schemas)).read(raws)
    assert not batch.refused
    return maker.frame(batch.table)


@pytest.mark.parametrize("version", rubin.VERSIONS)
def test_a_packet_of_each_version_by_fastavro_and_by_the_reader(version: str) -> None:
    record = rubin.alert(version, candid=2**53 + 1, past=[{"midpointMjdTai": 60900.5, "psfFlux": 4.0}])
    record["diaSource"] |= {"diaObjectId": 2**62 + 3, "psfFlux": 250.0, "psfFluxErr": 25.0, "visit": 7}
    columns = [*LSST.stored_names(), "prvDiaSources"]
    for raw in (rubin.ocf(record, version), rubin.confluent(record, version)):
        table = PacketReader(columns, "lsst", RoomSource("lsst")).read([raw]).table
        assert table["candid"].to_pylist() == [2**53 + 1]
        assert table["diaObjectId"].to_pylist() == [2**62 + 3]
        assert table["prvDiaSources.psfFlux"].to_pylist() == [[4.0]]
        frame = seen([raw], *NAMES)
        assert frame["objectId"].tolist() == [str(2**62 + 3)]
        assert frame["exposure"].tolist() == [7000]
        assert frame["flux"].tolist() == [250.0]


@pytest.mark.parametrize("version", rubin.VERSIONS)
def test_one_packet_as_a_dictionary_is_the_same(version: str) -> None:
    record = rubin.alert(version, psfFlux=250.0, past=[{"midpointMjdTai": 60900.5, "psfFlux": 4.0}])
    reads = [*NAMES, "prvDiaSources.jd", "prvDiaSources.flux", "mpc_orbits.e", "ssSource.helioRange"]
    by_reader = seen([rubin.ocf(record, version)], *reads)
    pd.testing.assert_frame_equal(frame_maker(reads, "lsst").of_packets([record]), by_reader)


def test_a_source_is_asked_once_for_an_id_whoever_reads() -> None:
    class Counting(RoomSource):
        asked = 0

        def schema(self, number: int) -> Mapping[str, Any]:
            self.asked += 1
            return super().schema(number)

    source = Counting("lsst")
    packets = [rubin.confluent(rubin.alert(candid=candid)) for candid in range(5)]
    writers = {Framer(source).frame(raw).writer for raw in packets}
    assert len(writers) == source.asked == 1
    assert {read_packet(raw, source)[0]["diaSourceId"] for raw in packets} == set(range(5))
    assert PacketReader(["candid"], "lsst", source).read(packets).table.num_rows == 5
    assert source.asked == 1


def test_without_a_source_the_schemas_that_lie_here_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = rubin.confluent(rubin.alert(candid=7))
    assert PacketReader(["candid"], "lsst").read([raw]).table["candid"].to_pylist() == [7]
    (nobodys,) = PacketReader(["candid"], "lsst").read([b"\0\0\0\0\7" + raw[5:]]).refused
    assert nobodys.error.reason == "unknown-schema"
    monkeypatch.setitem(SURVEYS, "twin", SURVEYS["lsst"])  # with the same ids
    with pytest.raises(UnknownSchema, match="one of each of lsst and twin"):
        OwnSchemas().schema(900)


def test_each_survey_is_read_by_its_own_whatever_comes_first() -> None:
    ztf = [alert.packet for alert in simulate(3, seed=1, stamps=False)]
    mixed = [rubin.ocf(rubin.alert(candid=1)), *ztf, rubin.confluent(rubin.alert(candid=2)), b"no packet"]
    for packets in (mixed, mixed[::-1], mixed[1:]):
        for names in (("ztf", "lsst"), ("lsst", "ztf")):
            parts = read_by_survey([PacketReader(["candid"], n, RoomSource("lsst")) for n in names], packets)
            found = {name: {packets[i] for i in batch.packet} for name, batch in _named(parts)}
            assert found == {"ztf": set(ztf), "lsst": set(packets) - {*ztf, b"no packet"}}
            refused = [packets[one.index] for _, batch in parts for one in batch.refused]
            assert refused == [b"no packet"]
            assert not any(batch.other_packets for _, batch in parts)


def _named(parts: list[tuple[PacketReader, Batch]]) -> list[tuple[str, Batch]]:
    return [(reader.survey.name, batch) for reader, batch in parts]


def test_the_sign_has_had_two_names() -> None:
    for version in rubin.VERSIONS:
        fields = rubin.row(version, "diaSource")
        name = next((name for name in ("isNegative", "is_negative") if name in fields), None)
        for value in (True, False, None):
            record = rubin.alert(version, psfFlux=-8.0 if value else 8.0)
            if name is not None:
                record["diaSource"][name] = value
            frame = seen([rubin.ocf(record, version)], "positive", "mag")
            told = name is not None and value is False
            assert frame["positive"].tolist() == [told], version
            # A flux whose sign contradicts the detection's has no magnitude.
            expected = 31.4 - 2.5 * np.log10(8.0) if told or value else np.nan
            assert frame["mag"].tolist() == pytest.approx([expected], nan_ok=True), version


def test_names_that_changed_are_read_and_the_others_are_null() -> None:
    orbit = {"e": 0.25, "a": 2.5, "incl": 7.0, "M": 33.0, "mpcH": 18.0, "epoch": 60000.0, "peri": 11.0}
    source = {
        "topocentricDist": 1.5,
        "heliocentricX": -2.0,
        "heliocentricVX": 9.0,
        "predictedVMagnitude": 21.0,
    }
    record = rubin.alert("9.0", ssObjectId=77, records={"MPCORB": orbit, "ssSource": source})
    frame = seen(
        [rubin.ocf(record, "9.0")],
        *(f"mpc_orbits.{name}" for name in ("e", "a", "i", "mean_anomaly", "h", "epoch_mjd", "argperi", "g")),
        *(f"ssSource.{name}" for name in ("topoRange", "helio_x", "helio_vx", "ephVmag", "ephOffset")),
    ).iloc[0]
    told = [f"mpc_orbits.{n}" for n in ("e", "a", "i", "mean_anomaly", "h", "epoch_mjd", "argperi")]
    assert frame[told].tolist() == [0.25, 2.5, 7.0, 33.0, 18.0, 60000.0, 11.0]
    assert frame[["ssSource.topoRange", "ssSource.helio_x", "ssSource.ephVmag"]].tolist() == [1.5, -2.0, 21.0]
    assert frame[["mpc_orbits.g", "ssSource.helio_vx", "ssSource.ephOffset"]].isna().all()
    assert frame["objectId"] == "ss77"


def test_every_alias_is_a_field_of_some_version() -> None:
    for name, places in ALIASES.items():
        for place in places:
            head, leaf = place.rpartition(".")[::2] if "." in place else ("", place)
            records = [
                blank.get(head, {}) if head else blank
                for version in rubin.VERSIONS
                for blank in [{**rubin.alert(version), **_rows(version)}]
            ]
            assert any(leaf in record for record in records), (name, place)


def _rows(version: str) -> dict[str, dict]:
    tops = (f["name"] for f in schema_of(version)["fields"])
    records = ("diaSource", "prvDiaSources", "ssSource", "mpc_orbits", "MPCORB", "diaObject")
    return {top: rubin.row(version, top) for top in tops if top in records}


def test_an_id_that_is_absent_is_missing() -> None:
    both = rubin.alert("9.0", diaObjectId=0, ssObjectId=0)
    none = rubin.alert("11.0", diaObjectId=None, ssObjectId=None)
    moving = rubin.alert("9.0", diaObjectId=0, ssObjectId=5)
    fixed = rubin.alert("9.0", diaObjectId=5, ssObjectId=0)
    raws = [rubin.ocf(both, "9.0"), rubin.ocf(none), rubin.ocf(moving, "9.0"), rubin.ocf(fixed, "9.0")]
    frame = seen(raws, "diaObjectId", "ssObjectId")
    assert frame["ssObjectId"].isna().tolist() == [True, True, False, True]
    assert frame["diaObjectId"].isna().tolist() == [True, True, True, False]
    assert [None if pd.isna(name) else name for name in frame["objectId"]] == [None, None, "ss5", "5"]


@given(st.floats(51_600, 63_000))
def test_tai_and_utc_agree_with_astropy(mjd: float) -> None:
    time = Time(mjd, format="mjd", scale="tai")
    # A day that ends in a leap second has 86,401 s, over which astropy's JD is stretched.
    allowed = 1.01 if int(time.utc.mjd + 1e-9) in (53735, 54831, 56108, 57203, 57753) else 1e-3
    assert abs(jd_of_tai(mjd) - time.utc.jd) * 86400 < allowed
    assert abs(tai_of_jd(jd_of_tai(mjd)) - mjd) * 86400 < allowed


def test_a_night_of_chile_crosses_midnight_of_ut_and_of_tai() -> None:
    """Visits of one night before and after 0 h UT, and two nights on both sides of noon."""
    utc = ["2025-09-05T23:30:00", "2025-09-06T00:00:10", "2025-09-06T09:30:00", "2025-09-06T11:59:59"]
    other = ["2025-09-05T11:59:58", "2025-09-06T12:00:01"]
    times = [Time(t, scale="utc").tai.mjd for t in [*utc, *other]]
    raws = [rubin.ocf(rubin.alert(midpointMjdTai=mjd)) for mjd in times]
    nights = seen(raws, "night")["night"].tolist()
    assert len(set(nights[:4])) == 1
    assert nights[4:] == [nights[0] - 1, nights[0] + 1]


def test_night_is_the_first_part_of_the_visit(real_alerts: Path) -> None:
    raws = [path.read_bytes() for path in sorted(real_alerts.glob("lsst_[o9]*/*.avro"))]
    frame = seen(raws, "night", "visit")
    of_lsstcam = frame[frame["visit"] > 10**12]
    dates = pd.Timestamp("2017-01-01") + pd.to_timedelta(of_lsstcam["night"], unit="D")
    assert len(of_lsstcam) >= 15
    assert dates.dt.strftime("%Y%m%d").astype(int).tolist() == (of_lsstcam["visit"] // 100_000).tolist()


def test_every_value_of_every_real_packet(real_alerts: Path) -> None:
    """The 65 files and the two Confluent packets, by way of each column, as fastavro has them."""
    paths = sorted(real_alerts.glob("lsst_*/*.avro"))
    raws = [path.read_bytes() for path in paths]
    names = [*LSST.stored_names(), "cutoutScience", "cutoutDifference", "cutoutTemplate"]
    batch = PacketReader(names, "lsst", schema_source("lsst")).read(raws)
    assert not batch.refused
    assert batch.table.num_rows == len(raws) >= 67
    records = [rubin.read(raw) for raw in raws]
    for name in names:
        values = batch.table[name].to_pylist()
        expected = [_at(record, LSST.places(name)) for record in records]
        assert all(map(_same, values, expected)), name


def _at(record: dict, places: tuple[str, ...]) -> object:
    for place in places:
        head, _, leaf = place.partition(".")
        value = record.get(head)
        if leaf and isinstance(value, list):
            return [row.get(leaf) for row in value]
        value = value.get(leaf) if leaf and isinstance(value, dict) else value if not leaf else None
        if value is not None:
            return value
    return None


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, list) or isinstance(theirs, list):
        one, other = ours or [], theirs or []
        return len(one) == len(other) and all(map(_same, one, other))  # type: ignore[arg-type]
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or np.float32(ours) == np.float32(theirs) or (ours != ours and theirs != theirs)
    return ours == theirs


def test_the_history_excludes_the_source_and_the_object_counts_it(real_alerts: Path) -> None:
    raws = [path.read_bytes() for path in sorted(real_alerts.glob("lsst_[o9]*/*.avro"))]
    frame = seen(raws, "diaObject.nDiaSources", "prvDiaSources.candid", "prvDiaSources.jd", "jd")
    for row in frame.itertuples():
        past = row._2
        assert row.candid not in past
        assert row._1 == len(past) + 1 or pd.isna(row._1)


def test_versions_are_told_by_name_and_by_structure(real_alerts: Path) -> None:
    for version in rubin.VERSIONS:
        assert major_of(schema_of(version)) == int(version.partition(".")[0])
        nameless = {**json.loads(json.dumps(schema_of(version))), "name": "topLevelRecord", "namespace": None}
        # 7.1 to 7.4, and 10.0 and 11.0, have the same fields at the top: then it is the newest.
        assert major_of(nameless) in (int(version.partition(".")[0]), int(REFERENCE.partition(".")[0]))
    raw = sorted(real_alerts.glob("lsst_9.0/*.avro"))[0].read_bytes()
    assert major_of(fastavro.reader(io.BytesIO(raw)).writer_schema) == 9


# The schema registry


def test_ids_are_asked_once_each(registry: rubin.Registry) -> None:
    source = RegistrySource(registry.url)
    raws = [rubin.confluent(rubin.alert(v, candid=n), v) for n, v in enumerate(rubin.VERSIONS * 3, 1)]
    batch = PacketReader(["candid"], "lsst", source).read(raws)
    assert batch.table["candid"].to_pylist() == list(range(1, len(raws) + 1))
    assert sorted(registry.asked) == [701, 703, 704, 900, 1000, 1100]


@pytest.mark.parametrize("trouble", ["slow", "broken"])
def test_a_registry_in_trouble_refuses_no_packet(registry: rubin.Registry, trouble: str) -> None:
    registry.seconds, registry.status = (1.0, 200) if trouble == "slow" else (0.0, 503)
    source = RegistrySource(registry.url, seconds=0.2, attempts=2)
    reader = PacketReader(["candid"], "lsst", source)
    raw = rubin.confluent(rubin.alert(candid=5))
    with pytest.raises(NoSchemaSource, match=registry.url):
        reader.read([raw])
    assert len(registry.asked) == 2
    registry.seconds, registry.status = 0.0, 200
    assert reader.read([raw]).table["candid"].to_pylist() == [5]


def test_an_id_that_is_missing_is_waited_for_and_then_refused(registry: rubin.Registry) -> None:
    registry.missing.add(1100)
    raw = rubin.confluent(rubin.alert(candid=5))
    patient = PacketReader(["candid"], "lsst", RegistrySource(registry.url, patience=60))
    with pytest.raises(NoSchemaSource, match="no schema 1100; waiting for it"):
        patient.read([raw])
    registry.missing.clear()
    assert patient.read([raw]).table["candid"].to_pylist() == [5]
    registry.missing.add(1100)
    (refused,) = PacketReader(["candid"], "lsst", RegistrySource(registry.url)).read([raw]).refused
    assert isinstance(refused.error, UnknownSchema)
