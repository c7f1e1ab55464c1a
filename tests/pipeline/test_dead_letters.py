"""Dead letters: as records, listed, shown, and what can be read of the packets in them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
import typer
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cluster.kafka.broker import Broker
from commands import dead_letters as command
from pipeline.broker.client import SIZED
from pipeline.broker.dead_letters import (
    TOPIC,
    DeadLetter,
    NoSuchDeadLetter,
    dead_letter_record,
    dead_letters,
    find,
    original,
)
from pipeline.broker.topics import ensure_topics
from schemas.avro.framing import FolderSource
from schemas.packets.anatomy import dissect
from tests.pipeline import packets, topics

PACKET = packets.packet(31, magpsf=17.25)


def write(broker: Broker, *records: dict[str, Any]) -> None:
    ensure_topics(broker.bootstrap_servers, [TOPIC], partitions=1, config=SIZED)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 10_000_000})
    for record in records:
        producer.produce(**record)
    assert producer.flush(20) == 0


def run(broker: Broker, *arguments: str, expect: int = 0) -> Any:
    """`zads dead-letters` in this process."""
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)
    arguments = ("dead-letters", *arguments, "--bootstrap", broker.bootstrap_servers)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def listed(broker: Broker, topic: str) -> list[dict[str, Any]]:
    """The dead letters of one topic, by `zads dead-letters list --json`; other tests have theirs as well."""
    lines = [json.loads(line) for line in run(broker, "list", "--json").stdout.splitlines()]
    return [line for line in lines if line["topic"] == topic]


@given(
    value=st.none() | st.binary(max_size=3_000),
    detail=st.text(max_size=4_000),
    largest=st.integers(3_000, 20_000),
    candid=st.none() | st.integers(-(2**63), 2**63 - 1),
)
def test_a_record_is_the_original_or_a_reference_to_it(
    value: bytes | None, detail: str, largest: int, candid: int | None
) -> None:
    record = dead_letter_record(
        stage="decode",
        reason="truncated",
        detail=detail,
        topic="night",
        partition=3,
        offset=4711,
        value=value,
        candid=candid,
        largest=largest,
    )
    headers = dict(record["headers"])
    assert (record["topic"], record["key"]) == (TOPIC, b"night/3/4711")
    if "oversize" in headers:
        assert record["value"] == b""
        assert int(headers["oversize"]) == len(value or b"")
    else:
        assert record["value"] == value
        size = len(value or b"") + len(record["key"]) + sum(len(n) + len(v) for n, v in record["headers"])
        assert size < largest
    assert headers.get("candid") == (None if candid is None else str(candid).encode())
    assert "channel" not in headers
    age = datetime.now(UTC) - datetime.fromisoformat(headers["at"].decode())
    assert 0 <= age.total_seconds() < 600


def test_dead_letters_come_back_as_they_went(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    place: dict[str, Any] = {"topic": topic, "partition": 0}
    write(
        broker,
        dead_letter_record(stage="decode", reason="not-avro", detail="no", **place, offset=0, value=b"junk"),
        dead_letter_record(
            stage="filter",
            reason="filter-failed",
            detail="ZeroDivisionError",
            **place,
            offset=1,
            value=PACKET,
            channel="faint",
            candid=31,
            objectId="ZTF000000003",
        ),
    )
    first, second = [letter for letter in dead_letters(broker.bootstrap_servers) if letter.topic == topic]
    assert (first.stage, first.reason, first.source) == ("decode", "not-avro", f"{topic}/0/0")
    assert (first.value, first.size, first.channel, first.candid) == (b"junk", 4, None, None)
    assert (second.channel, second.candid, second.objectId) == ("faint", 31, "ZTF000000003")
    assert original(second, broker.bootstrap_servers) == second.value == PACKET
    assert [line["reason"] for line in listed(broker, topic)] == ["not-avro", "filter-failed"]
    table = run(broker, "list")
    assert f"{topic}/0/1" in table.stdout
    assert "ZeroDivisionError" in table.stdout
    assert "filter-failed" in table.stderr


def test_one_that_is_too_large_is_found_where_it_came_from(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, b"before", PACKET)
    where: dict[str, Any] = {
        "stage": "decode",
        "reason": "too-large",
        "detail": "",
        "topic": topic,
        "partition": 0,
    }
    write(broker, *(dead_letter_record(**where, offset=n, value=PACKET, largest=0) for n in (1, 99)))
    there, gone = [letter for letter in dead_letters(broker.bootstrap_servers) if letter.topic == topic]
    assert (there.value, there.oversize, there.size) == (b"", len(PACKET), len(PACKET))
    assert original(there, broker.bootstrap_servers) == PACKET
    with pytest.raises(NoSuchDeadLetter, match=f"{topic}/0/99 is no longer there"):
        original(gone, broker.bootstrap_servers)


def test_there_are_none_before_the_first(own_broker: Broker) -> None:
    assert list(dead_letters(own_broker.bootstrap_servers)) == []
    assert "no dead letters" in run(own_broker, "list").stderr
    assert run(own_broker, "list", "--json").stdout == ""


def test_letters_are_found_by_number_or_place() -> None:
    def letter(number: int, offset: int) -> DeadLetter:
        return DeadLetter(number, "filter", "failed", "", "night", 0, offset, b"")

    letters = [letter(1, 5), letter(2, 5), letter(3, 6)]
    assert find(letters, "3") == letters[2:]
    assert find(iter(letters), "night/0/5") == letters[:2]
    with pytest.raises(NoSuchDeadLetter, match="there are 3"):
        find(letters, "night/0/7")


def test_show_tells_what_can_be_read_and_saves_it(broker: Broker, real_alerts: Path, tmp_path: Path) -> None:
    raw = (real_alerts / "malformed" / "516401801315010009.avro").read_bytes()
    topic = topics.new_topic(broker.bootstrap_servers)
    place: dict[str, Any] = {"topic": topic, "partition": 2, "offset": 8}
    write(broker, dead_letter_record(stage="decode", reason="truncated", detail="cut", **place, value=raw))
    shown = run(broker, "show", f"{topic}/2/8", "--save", str(tmp_path / "bad.avro")).stdout
    for word in ("truncated", "ztf.alert", "ZTF18aaxloth", "516401801315010009", "2458270.9018056"):
        assert word in shown
    assert (tmp_path / "bad.avro").read_bytes() == raw


def flat(record: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted name -> value, in the packet's order; histories and stamps' records as dissect() has them."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


@pytest.mark.parametrize("folder", ["ztf_3.3", "ztf_4.01", "ztf_4.02_spark", "ztf_snappy", "lsst_ocf"])
def test_all_of_a_good_packet_can_be_read(real_alerts: Path, folder: str) -> None:
    raw = min((real_alerts / folder).glob("*.avro")).read_bytes()
    found = dissect(raw)
    assert found.stopped is None
    assert repr(found.leading) == repr(flat(packets.read(raw)[0]))


@settings(deadline=None, max_examples=150)
@given(data=st.data(), codec=st.sampled_from(["null", "deflate"]))
def test_of_a_truncated_packet_the_leading_fields_are_right(data: st.DataObject, codec: str) -> None:
    whole = packets.container([packets.alert(7, magpsf=18.25)], codec)
    wanted = list(flat(packets.read(whole)[0]).items())
    cut = data.draw(st.integers(0, len(whole) - 1))
    found = dissect(whole[:cut])
    assert found.stopped
    assert list(found.leading.items()) == wanted[: len(found.leading)]


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_whatever_the_bytes_it_says_where_it_stopped(data: st.DataObject) -> None:
    damaged = bytearray(PACKET)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    dissect(bytes(damaged))
    assert dissect(data.draw(st.binary(max_size=60))).stopped


def test_a_confluent_packet_needs_its_schema(tmp_path: Path) -> None:
    header_free = packets.container([packets.alert(9)])
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, packets.schema(), packets.alert(9))
    raw = b"\0\0\0\0\5" + stream.getvalue()
    assert "5" in str(dissect(raw).stopped)
    (tmp_path / "5.avsc").write_text(packets.SCHEMA_FILE.read_text())
    found = dissect(raw, FolderSource(tmp_path))
    assert found.stopped is None
    assert found.leading == dissect(header_free).leading
