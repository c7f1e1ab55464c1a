"""A past night once more, on a real broker: order, keys and pace."""

from __future__ import annotations

import time
from pathlib import Path

from archive.read.archive import Archive
from archive.read.stream import in_time_order
from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from pipeline.broker.listen import listen
from pipeline.clients.rehearse import rehearse
from tests.pipeline.night import night


def test_packets_go_out_in_order_of_time(broker: Broker, tmp_path: Path) -> None:
    alerts = night()[:200]
    (tmp_path / "in").mkdir()
    for alert in alerts:
        (tmp_path / "in" / f"{alert.candid}.avro").write_bytes(alert.packet)
    ingest(tmp_path / "in", tmp_path / "archive")
    told: list[int] = []
    packets = in_time_order(Archive(tmp_path / "archive"), public=False)
    sent = rehearse(packets, broker.bootstrap_servers, "rehearsed", None, 1, told.append)
    assert sent == told[-1] == len(alerts)
    heard = list(listen("rehearsed", broker.bootstrap_servers, until_drained=True))
    times = [alert.packet()["candidate"]["jd"] for alert in heard]
    assert times == sorted(times)
    assert sorted(alert.candid for alert in heard) == sorted(alert.candid for alert in alerts)
    assert all(alert.key == str(alert.packet()["candidate"]["pid"]).encode() for alert in heard)


def test_the_pace_is_that_of_the_night_times_the_speed(broker: Broker) -> None:
    """Packets 0, 30 and 60 s after the first, at 60 times that pace: half a second between them."""
    raw = [alert.packet for alert in night()[:3]]
    went: list[float] = []
    timed = [(one, 1_000.0 + 30 * number) for number, one in enumerate(raw)]
    began = time.monotonic()
    rehearse(
        timed, broker.bootstrap_servers, "rehearsed_pace", 60.0, 1, lambda _: went.append(time.monotonic())
    )
    heard = list(listen("rehearsed_pace", broker.bootstrap_servers, until_drained=True))
    assert [alert.raw for alert in heard] == raw
    assert went[1] - began >= 0.5  # never early; late by what the machine has to do
    assert went[2] - began >= 1.0
