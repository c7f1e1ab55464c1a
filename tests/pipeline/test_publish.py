"""Publishing; the oracles are the files themselves, fastavro, astropy and a plain Kafka consumer."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from astropy.time import Time
from confluent_kafka import Message

from cluster.kafka.broker import Broker
from pipeline.broker.client import BrokerError
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.clients.publish import NotDelivered, publish, publish_packets
from schemas.packets.files import NoSuchPackets
from tests.pipeline import packets, topics


def headers(message: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers() or ()}


def refused(broker: Broker, folder: Path) -> list[Message]:
    """The dead letters of the files in `folder`; other tests have theirs in the same topic."""
    every = topics.records(broker.bootstrap_servers, DEAD_LETTERS)
    return [message for message in every if headers(message).get("file", "").startswith(str(folder))]


def nightly(raw: bytes) -> str:
    """The topic of a ZTF packet, by fastavro and astropy."""
    candidate = packets.read(raw)[0]["candidate"]
    night = Time(candidate["jd"], format="jd", scale="utc").strftime("%Y%m%d")
    return f"ztf_{night}_programid{candidate['programid']}"


def test_real_alerts_arrive_as_they_are_in_their_nights_topic(own_broker: Broker, real_alerts: Path) -> None:
    folders = sorted(real_alerts.glob("ztf_*"))
    raw = [file.read_bytes() for folder in folders for file in folder.glob("*.avro")]
    summary = publish(folders, own_broker.bootstrap_servers)
    wanted = Counter((nightly(packet), packet) for packet in raw)
    found = [
        message
        for topic in {topic for topic, _ in wanted}
        for message in topics.records(own_broker.bootstrap_servers, topic)
    ]
    assert Counter((message.topic(), message.value()) for message in found) == wanted
    for message in found:
        assert message.key() == str(packets.read(message.value())[0]["candidate"]["pid"]).encode()
    assert summary.sent == len(raw)
    assert summary.objects == len({packets.read(packet)[0]["objectId"] for packet in raw})
    assert summary.topics == Counter(nightly(packet) for packet in raw)
    assert not summary.refused


def test_other_surveys_have_topics_of_their_own(own_broker: Broker, real_alerts: Path) -> None:
    summary = publish([real_alerts / "other_surveys", real_alerts / "lsst_ocf"], own_broker.bootstrap_servers)
    assert summary.sent == 8
    kept = [value for topic in summary.topics for value in topics.values(own_broker.bootstrap_servers, topic)]
    files = [*(real_alerts / "other_surveys").glob("*"), *(real_alerts / "lsst_ocf").glob("*")]
    assert Counter(kept) == Counter(file.read_bytes() for file in files)
    assert {topic.partition("_")[0] for topic in summary.topics} == {
        "pgir",
        "winter",
        "turbo",
        "lsst-alerts-v9",
    }
    # Taken in the Chilean night that began on 2025-09-05: 07:56 UTC, less twelve hours.
    assert summary.topics["lsst-alerts-v9"] == len(list((real_alerts / "lsst_ocf").glob("*")))


def test_a_night_streams_from_a_tarball(broker: Broker, tmp_path: Path) -> None:
    raw = [packets.packet(2475_000_000_000 + n, pid=7000 + n // 10) for n in range(60)]
    topic = topics.new_topic(broker.bootstrap_servers, partitions=3)
    with tarfile.open(tmp_path / "night.tar.gz", "w:gz") as tar:
        for number, packet in enumerate(raw):
            member = tarfile.TarInfo(f"{number}.avro")
            member.size = len(packet)
            tar.addfile(member, io.BytesIO(packet))
    shown: list[float] = []
    summary = publish(
        tmp_path / "night.tar.gz",
        broker.bootstrap_servers,
        topic,
        progress=lambda summary: shown.append(summary.done),
    )
    found = topics.records(broker.bootstrap_servers, topic)
    assert Counter(message.value() for message in found) == Counter(raw)
    assert (summary.sent, summary.objects, shown[-1]) == (60, 7, 1.0)
    # Each exposure is in one partition, in the order it was taken.
    for exposure in range(7000, 7006):
        of_it = [message for message in found if message.key() == str(exposure).encode()]
        assert len({message.partition() for message in of_it}) == 1
        assert [message.value() for message in of_it] == [
            raw[n] for n in range(60) if 7000 + n // 10 == exposure
        ]


def test_a_truncated_tarball_gives_what_it_has(broker: Broker, tmp_path: Path) -> None:
    raw = [packets.packet(100 + n) for n in range(20)]
    topic = topics.new_topic(broker.bootstrap_servers)
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for number, packet in enumerate(raw):
            member = tarfile.TarInfo(f"{number}.avro")
            member.size = len(packet)
            tar.addfile(member, io.BytesIO(packet))
    whole = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    summary = publish(tmp_path / "cut.tar", broker.bootstrap_servers, topic)
    assert topics.values(broker.bootstrap_servers, topic) == raw[: summary.sent]
    assert 5 < summary.sent < 15
    assert "cut.tar is truncated" in summary.damaged[0]


BAD = {
    "no-programid": packets.without_programid(1),
    "no-night": packets.packet(2, jd=float("nan")),
    "not-avro": b"<html>503 Service Unavailable</html>",
    "truncated": packets.packet(3)[:-40],
    "unknown-schema": b"\0\0\0\0\7" + bytes(50),
    "corrupt-value": packets.packet(4)[:-1] + b"x",
}


def test_a_packet_without_a_topic_is_kept_with_its_reason(broker: Broker, tmp_path: Path) -> None:
    """Nothing is lost, and neighbours go their way."""
    for reason, raw in BAD.items():
        (tmp_path / f"{reason}.avro").write_bytes(raw)
    good = [packets.packet(50 + n, jd=2451545.25 + n) for n in range(5)]
    for number, raw in enumerate(good):
        (tmp_path / f"n{number}.avro").write_bytes(raw)
    summary = publish([tmp_path], broker.bootstrap_servers)
    assert summary.refused == Counter(BAD.keys())
    assert summary.sent == len(good)
    for number, raw in enumerate(good):
        assert raw in topics.values(broker.bootstrap_servers, f"ztf_2000010{1 + number}_programid1")
    kept = {headers(message)["reason"]: message for message in refused(broker, tmp_path)}
    assert {reason: message.value() for reason, message in kept.items()} == BAD
    for reason, message in kept.items():
        told = headers(message)
        assert told["stage"] == "publish"
        assert told["file"] == str(tmp_path / f"{reason}.avro") == message.key().decode()
        assert told["detail"]
        assert "topic" not in told
    assert headers(kept["no-night"])["candid"] == "2"


def test_real_malformed_packets_are_kept(broker: Broker, real_alerts: Path, tmp_path: Path) -> None:
    for file in (real_alerts / "malformed").glob("*.avro"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    summary = publish(tmp_path, broker.bootstrap_servers)
    assert (summary.sent, summary.refused.total()) == (0, 2)
    kept = refused(broker, tmp_path)
    assert {Path(headers(message)["file"]).name: message.value() for message in kept} == {
        file.name: file.read_bytes() for file in (real_alerts / "malformed").glob("*.avro")
    }


def test_with_a_topic_everything_goes_as_it_is(broker: Broker, tmp_path: Path) -> None:
    """The live stream then decides: it has the dead letters for it."""
    for reason, raw in BAD.items():
        (tmp_path / f"{reason}.avro").write_bytes(raw)
    topic = topics.new_topic(broker.bootstrap_servers, partitions=2)
    summary = publish(tmp_path, broker.bootstrap_servers, topic)
    assert Counter(topics.values(broker.bootstrap_servers, topic)) == Counter(BAD.values())
    assert (summary.sent, summary.refused.total()) == (len(BAD), 0)
    assert refused(broker, tmp_path) == []


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_a_file_of_several_alerts_becomes_a_packet_for_each(broker: Broker, codec: str) -> None:
    alerts = [packets.alert(900 + n, magpsf=17.0 + n, pid=n) for n in range(7)]
    several = packets.container(alerts, codec, sync_interval=2_000)
    assert len(packets.read(several)) == 7
    topic = topics.new_topic(broker.bootstrap_servers)
    summary = publish_packets([several, single := packets.packet(1)], broker.bootstrap_servers, topic)
    found = topics.records(broker.bootstrap_servers, topic)
    assert summary.sent == 8
    assert [packets.read(message.value()) for message in found[:7]] == [[a] for a in packets.read(several)]
    assert found[7].value() == single
    assert [message.key() for message in found[:7]] == [str(n).encode() for n in range(7)]


def test_what_a_topic_cannot_take_is_dead_lettered_by_reference(broker: Broker, tmp_path: Path) -> None:
    small = topics.new_topic(broker.bootstrap_servers, config={"max.message.bytes": "60000"})
    raw = packets.container(
        [packets.alert(77) | {"cutoutScience": {"fileName": "", "stampData": bytes(90_000)}}]
    )
    (tmp_path / "large.avro").write_bytes(raw)
    (tmp_path / "usual.avro").write_bytes(packets.packet(78))
    summary = publish(tmp_path, broker.bootstrap_servers, small)
    assert topics.values(broker.bootstrap_servers, small) == [(tmp_path / "usual.avro").read_bytes()]
    assert (summary.sent, summary.refused) == (1, Counter(oversize=1))
    (kept,) = refused(broker, tmp_path)
    assert kept.value() == b""
    assert headers(kept)["oversize"] == str(len(raw))
    assert headers(kept)["candid"] == "77"


def test_what_no_record_can_hold_is_dead_lettered_by_reference(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "huge.avro").write_bytes(packets.packet(78).ljust(11_000_000, b"\0"))
    (tmp_path / "usual.avro").write_bytes(packets.packet(79))
    topic = topics.new_topic(broker.bootstrap_servers)
    summary = publish([tmp_path / "huge.avro", tmp_path / "usual.avro"], broker.bootstrap_servers, topic)
    assert (summary.sent, summary.refused) == (1, Counter(oversize=1))
    (kept,) = refused(broker, tmp_path)
    assert (kept.value(), headers(kept)["oversize"]) == (b"", "11000000")


def test_a_rate_spaces_alerts_evenly(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    publish_packets([packets.packet(n) for n in range(11)], broker.bootstrap_servers, topic, rate=40)
    written = [message.timestamp()[1] for message in topics.records(broker.bootstrap_servers, topic)]
    # Ten steps of 25 ms; the first alert may have been held up between its time and Kafka's clock.
    assert len(written) == 11
    assert written[-1] - written[0] >= 200


def test_a_broker_that_restarts_gets_each_alert_once_and_in_order(own_broker: Broker) -> None:
    raw = [packets.packet(n, pid=n % 5) for n in range(600)]
    topic = topics.new_topic(own_broker.bootstrap_servers, partitions=2)

    def interrupted() -> Iterator[bytes]:
        for number, packet in enumerate(raw):
            if number == 300:
                own_broker.kill()
                own_broker.start()
            yield packet

    summary = publish_packets(interrupted(), own_broker.bootstrap_servers, topic)
    found = topics.records(own_broker.bootstrap_servers, topic)
    assert summary.sent == 600
    for exposure in range(5):
        of_it = [message.value() for message in found if message.key() == str(exposure).encode()]
        assert of_it == [raw[n] for n in range(600) if n % 5 == exposure]


def test_a_broker_that_goes_away_is_an_error_that_says_how_far_it_came(own_broker: Broker) -> None:
    topic = topics.new_topic(own_broker.bootstrap_servers)

    def interrupted() -> Iterator[bytes]:
        for number in range(600):
            if number == 300:
                own_broker.stop()
            yield packets.packet(number)

    impatient: dict[str, Any] = {"message.timeout.ms": 2_000}
    with pytest.raises(NotDelivered, match="did not take an alert") as raised:
        publish_packets(interrupted(), own_broker.bootstrap_servers, topic, **impatient)
    own_broker.start()
    assert len(topics.values(own_broker.bootstrap_servers, topic)) >= raised.value.sent
    assert raised.value.sent < 600


def test_no_broker_is_one_sentence() -> None:
    with pytest.raises(
        BrokerError, match=r"no Kafka broker answers at 127\.0\.0\.1:9; start one with `zads broker"
    ):
        publish_packets([packets.packet(1)], "127.0.0.1:9")
    with pytest.raises(BrokerError, match=r"no host nowhere\.invalid is known here"):
        publish_packets([packets.packet(1)], "nowhere.invalid:9092")


def test_a_missing_path_sends_nothing(broker: Broker, tmp_path: Path) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    (tmp_path / "1.avro").write_bytes(packets.packet(1))
    with pytest.raises(NoSuchPackets):
        publish([tmp_path / "1.avro", tmp_path / "2.avro"], broker.bootstrap_servers, topic)
    assert topics.values(broker.bootstrap_servers, topic) == []
