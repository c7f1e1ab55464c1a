"""The simulated sky: valid packets, exact counts, the same bytes for the same seed."""

import io
import json
from pathlib import Path

import fastavro
import pytest

from simulator import simulate, truth_table

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas" / "surveys" / "ztf"


def decoded(packet: bytes) -> dict:
    """A packet through fastavro's container reader: one record, and nothing else."""
    records = list(fastavro.reader(io.BytesIO(packet)))
    assert len(records) == 1
    return records[0]


@pytest.mark.parametrize("version", ["4.01", "3.3"])
def test_packets_are_valid_in_their_schema(version: str) -> None:
    schema = fastavro.parse_schema(json.loads((SCHEMAS / f"{version}.avsc").read_text()))
    for alert in simulate(60, seed=5, schema=version):
        reader = fastavro.reader(io.BytesIO(alert.packet))
        assert reader.codec == "null"
        record = next(reader)
        assert fastavro.validate(record, schema, raise_errors=True)
        assert record["schemavsn"] == version
        assert ("fp_hists" in record) == (version == "4.01")


@pytest.mark.parametrize("alerts", [1, 2, 7, 40, 333])
def test_exactly_as_many_as_asked_in_time_order(alerts: int) -> None:
    found = list(simulate(alerts, seed=alerts, stamps=False))
    assert len(found) == alerts
    assert [a.jd for a in found] == sorted(a.jd for a in found)
    assert len({a.candid for a in found}) == alerts


def test_the_same_seed_gives_the_same_bytes() -> None:
    first = [a.packet for a in simulate(40, seed=11)]
    assert first == [a.packet for a in simulate(40, seed=11)]
    assert first != [a.packet for a in simulate(40, seed=12)]


def test_truth_is_complete_and_agrees_with_the_packets() -> None:
    alerts = list(simulate(120, seed=3, stamps=False))
    table = truth_table(alerts)
    assert table.column("class").null_count == 0
    for row, alert in zip(table.to_pylist(), alerts, strict=True):
        record = decoded(alert.packet)
        candidate = record["candidate"]
        assert row["candid"] == record["candid"] == candidate["candid"]
        assert row["objectId"] == record["objectId"]
        assert (row["jd"], row["night"]) == (candidate["jd"], candidate["nid"])
        assert (row["programid"], row["pid"]) == (candidate["programid"], candidate["pid"])


@pytest.mark.parametrize(("alerts", "nights"), [(0, 1), (-3, 1), (10, 0), (10, 1000)])
def test_what_cannot_be_simulated_is_said(alerts: int, nights: int) -> None:
    with pytest.raises(ValueError, match="cannot"):
        simulate(alerts, seed=1, nights=nights)


def test_an_unknown_schema_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"4\.01"):
        simulate(1, seed=1, schema="9.9")
