"""Each filter equals its second reading in plain Python, on generated alerts and on real packets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, event, given, settings

from filters import registered
from filters.external.externals import to_frame
from tests.filters.oracle import ORACLE, two_detections_30min
from tests.filters.packets import PHASES, packets
from tests.frames import table_of_packets

ZTF = ("ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_4.02_spark", "ztf_snappy")


def verdicts(batch: list[dict[str, Any]], name: str, **parameters: Any) -> list[bool]:
    f = registered("ztf")[name].using(**parameters)
    return f.passes(to_frame(table_of_packets(batch, f.require_reads()), f.require_reads())).tolist()


def test_every_registered_filter_has_an_oracle() -> None:
    assert set(registered("ztf")) == set(ORACLE)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(packets)
def test_generated_alerts(batch: list[dict[str, Any]]) -> None:
    for name, oracle in ORACLE.items():
        expected = [oracle(packet) for packet in batch]
        event(f"{name}: some pass" if any(expected) else f"{name}: none")
        assert verdicts(batch, name) == expected, name


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(packets)
def test_none_before_in_the_whole_survey(batch: list[dict[str, Any]]) -> None:
    expected = [two_detections_30min(packet, whole_survey=True) for packet in batch]
    assert verdicts(batch, "two_detections_30min", whole_survey=True) == expected


def real_packets(folder: Path) -> Iterator[dict[str, Any]]:
    for name in ZTF:
        for path in sorted((folder / name).glob("*.avro")):
            with path.open("rb") as file:
                for record in fastavro.reader(file):
                    assert isinstance(record, dict)
                    yield record


@pytest.mark.parametrize("name", sorted(ORACLE))
def test_real_packets(real_alerts: Path, name: str) -> None:
    """The batch decoder, the frame and the filter against fastavro and plain Python, on every real packet."""
    from filters.external.externals import stored_columns
    from schemas.packets.reader import PacketReader

    f = registered("ztf")[name]
    raw = [p.read_bytes() for folder in ZTF for p in sorted((real_alerts / folder).glob("*.avro"))]
    batch = PacketReader(stored_columns(f.require_reads())).read(raw)
    assert not batch.refused
    frame = to_frame(batch.table, f.require_reads())
    every = list(real_packets(real_alerts))
    expected = [ORACLE[name](packet) for packet in every]
    assert f.passes(frame).tolist() == expected
    assert [bool(f.one(packet)) for packet in every[::10]] == expected[::10]
    # in no kind of packet is every verdict trivial, but for the rarest cases
    assert any(expected) or name == "young_supernova"
