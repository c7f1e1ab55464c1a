"""`zads scan`: what is not public is named, in packets, topics and archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands import application
from schemas.avro.rewrite import rewrite
from schemas.packets.leaks import not_public
from schemas.packets.packet import read_packet
from tests.archive.helpers import write_packets
from tests.pipeline import topics
from tests.pipeline.night import night

CLEAN: dict[str, Any] = {
    "candid": 1,
    "objectId": "ZTF1",
    "candidate": {"candid": 1, "programid": 1, "rb": 0.9},
    "prv_candidates": [{"jd": 1.0, "programid": 1}],
    "fp_hists": None,
    "cutoutScience": {"fileName": "a", "stampData": b"x"},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"candidate": {"programid": 2}}, ["candidate.programid is 2"]),
        ({"candidate": {"programid": None}}, ["candidate.programid is None"]),
        ({"candidate": {}}, ["candidate.programid is None"]),
        ({"prv_candidates": [{"programid": 1}, {"programid": 3}]}, ["prv_candidates[1].programid is 3"]),
        ({"fp_hists": [{"jd": 1.0}]}, ["fp_hists[0].programid is None"]),
        (
            {"prv_candidates": [{"programid": 1, "extra": [1]}]},
            ["prv_candidates.extra is not listed as public"],
        ),
        ({"prv_candidates": [7]}, ["prv_candidates[0] is no row"]),
        ({"prv_candidates": {"programid": 1}}, ["prv_candidates is no list of rows"]),
        ({"forced": []}, ["forced is not listed as public"]),
        ({"candidate": {"programid": 1, "raw": b"x"}}, ["candidate.raw is not listed as public"]),
        (
            {"cutoutScience": {"stampData": b"x", "more": {"a": 1}}},
            ["cutoutScience.more is not listed as public"],
        ),
    ],
)
def test_what_is_not_public_is_named(change: dict[str, Any], said: list[str]) -> None:
    assert not_public({**CLEAN, **change}) == said


def test_a_survey_that_is_not_known_is_not_public() -> None:
    assert not_public({"alert": {}}) == ["its survey is not known"]


def test_topics_and_archives(broker: Broker, tmp_path: Path) -> None:
    """What is made public is clean; the survey's own packets are not, and each of them is counted."""
    servers = broker.bootstrap_servers
    packets = [alert.packet for alert in night()[:300]]
    wrong = sum(bool(not_public(read_packet(raw)[0])) for raw in packets)
    public = [rewrite(a.packet, drop=(), public_only=True) for a in night()[:300] if a.programid == 1]
    assert 0 < wrong < len(packets)
    topic, clean = topics.new_topic(servers), topics.new_topic(servers)
    topics.write(servers, topic, *packets, b"unreadable")
    topics.write(servers, clean, *public)

    def scan(*arguments: str) -> Any:
        return CliRunner().invoke(application(), ["scan", *arguments, "--bootstrap", servers])

    found = scan(topic)
    assert found.exit_code == 6
    assert f"{wrong + 1:,} of {len(packets) + 1:,} packets are not public" in found.stderr
    assert scan(clean).exit_code == 0
    address = str(tmp_path / "archive")
    ingest([write_packets(tmp_path / "packets", packets)], address)
    assert f"{wrong:,} of {len(packets):,} packets" in scan(address).stderr
    assert scan(address, "--public").exit_code == 0
