"""Listening; the oracles are what was written and fastavro."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cluster.kafka.broker import Broker
from commands.listen import command
from pipeline.broker import listen as module
from pipeline.broker.client import BrokerError, NoSuchTopic
from pipeline.broker.listen import Listener, listen
from pipeline.broker.reading.begin import BadTime, moment_of
from schemas.errors import PacketError
from tests.pipeline import packets, topics

RAW = [packets.packet(1_000 + n, magpsf=17.5, programid=n % 3) for n in range(8)]


def drained(broker: Broker, topic: str, **options: Any) -> list[bytes]:
    return [alert.raw for alert in listen(topic, broker.bootstrap_servers, until_drained=True, **options)]


def run(broker: Broker, *arguments: str, expect: int = 0) -> Any:
    """`zads listen` in this process."""
    result = CliRunner().invoke(_app(), [*arguments, "--bootstrap", broker.bootstrap_servers])
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def _app() -> typer.Typer:
    app = typer.Typer()
    command.register(app)
    return app


def test_values_stand_in_the_table(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    told = [("values", b'{"watch.sep": 1.23456789, "watch.name": "AT 1", "rate": null}')]
    topics.write(broker.bootstrap_servers, topic, RAW[0], headers=told)
    shown = run(broker, topic, "--until-drained")
    assert shown.stdout.rstrip().endswith("watch.sep=1.2346  watch.name=AT 1  rate=missing")
    assert "values" in shown.stderr
    assert shown.stderr.rstrip().endswith("1 alert")


def test_alerts_come_as_they_were_written(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers, partitions=3)
    topics.write(broker.bootstrap_servers, topic, *RAW, headers=[("candid", b"5"), ("filter", b"faint")])
    found = list(listen(topic, broker.bootstrap_servers, until_drained=True))
    assert [alert.raw for alert in found] == RAW
    assert [(alert.partition, alert.offset) for alert in found] == [(0, n) for n in range(8)]
    first = found[0]
    assert (first.topic, first.headers["filter"], first.candid) == (topic, "faint", 5)
    assert [first.packet()] == packets.read(RAW[0])
    assert first.objectId == packets.read(RAW[0])[0]["objectId"]
    assert first.timestamp == topics.records(broker.bootstrap_servers, topic)[0].timestamp()[1]


def test_without_headers_the_packet_says_who_it_is(broker: Broker, real_alerts: Path) -> None:
    """The snappy packets have no candid at the top."""
    files = sorted((real_alerts / "ztf_snappy").glob("*.avro"))
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *(file.read_bytes() for file in files))
    found = list(listen(topic, broker.bootstrap_servers, until_drained=True))
    oracle = [packets.read(file.read_bytes())[0] for file in files]
    assert [alert.candid for alert in found] == [packet["candidate"]["candid"] for packet in oracle]
    assert [alert.objectId for alert in found] == [packet["objectId"] for packet in oracle]


def test_what_cannot_be_read_is_still_handed_over(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, b"no packet")
    (alert,) = listen(topic, broker.bootstrap_servers, until_drained=True)
    assert alert.raw == b"no packet"
    with pytest.raises(PacketError):
        _ = alert.candid


# What was written to a partition: transactions, committed or not, of so many records, and plain records.
WRITES = st.lists(st.tuples(st.sampled_from(["commit", "abort", "plain"]), st.integers(0, 3)), max_size=6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES, left_open=st.booleans())
def test_drained_ends_whatever_a_partition_ends_in(
    broker: Broker, writes: list[tuple[str, int]], left_open: bool
) -> None:
    """Transaction markers and aborted records are gaps in the offsets; nothing there ever arrives."""
    topic = topics.new_topic(broker.bootstrap_servers)
    transactions = topics.Transactions(broker.bootstrap_servers, topic)
    number, wanted = itertools.count(), []
    for kind, count in writes:
        messages = [f"{kind}-{next(number)}".encode() for _ in range(count)]
        if kind == "plain":
            topics.write(broker.bootstrap_servers, topic, *messages)
        else:
            transactions.write(messages, commit=kind == "commit")
        wanted += messages if kind != "abort" else []
    topics.until_settled(broker.bootstrap_servers, topic)
    if left_open:
        transactions.leave_open([b"not yet decided"])
    try:
        assert drained(broker, topic) == wanted
    finally:
        if left_open:
            transactions.abort()


def test_drained_means_what_was_there_at_the_start(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, b"before")
    alerts = listen(topic, broker.bootstrap_servers, until_drained=True)
    topics.write(broker.bootstrap_servers, topic, b"after")
    assert [alert.raw for alert in alerts] == [b"before"]


def test_drained_reads_every_partition_of_every_topic_of_a_pattern(broker: Broker) -> None:
    one = topics.new_topic(broker.bootstrap_servers, partitions=4)
    two = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, one, b"1")
    topics.write(broker.bootstrap_servers, two, b"2")
    assert sorted(drained(broker, f"^({one}|{two})$")) == [b"1", b"2"]


def test_new_alerts_only(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, b"old")
    alerts = listen(topic, broker.bootstrap_servers, from_beginning=False)
    topics.write(broker.bootstrap_servers, topic, b"new")
    assert next(alerts).raw == b"new"


def test_a_group_goes_on_where_it_ended(broker: Broker) -> None:
    """An alert counts as read when the next is asked for: the third was not."""
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *RAW)
    alerts = listen(topic, broker.bootstrap_servers, group=topic)
    assert [next(alerts).raw for _ in range(3)] == RAW[:3]
    alerts.close()  # type: ignore[attr-defined]
    assert drained(broker, topic, group=topic) == RAW[2:]
    assert drained(broker, topic, group=topic) == []
    assert drained(broker, topic) == RAW


def test_members_of_a_group_share_the_partitions_and_all_end(broker: Broker) -> None:
    """One of three members has no partition of two: it has drained its share, which is nothing."""
    topic = topics.new_topic(broker.bootstrap_servers, partitions=2)
    topics.write(broker.bootstrap_servers, topic, *RAW)
    topics.write(broker.bootstrap_servers, topic, *RAW, partition=1)
    with ThreadPoolExecutor(3) as members:
        shares = list(members.map(lambda _: drained(broker, topic, group=topic), range(3)))
    read = Counter(raw for share in shares for raw in share)
    # At least once: a partition that changes hands may be read again from where its group was.
    assert all(read[raw] >= 2 for raw in RAW)


def test_a_listener_notices_tonights_topic(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.5)
    yesterday = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, yesterday, b"yesterday")
    alerts = listen("^test-", broker.bootstrap_servers, from_beginning=False)
    tonight = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, tonight, b"tonight")
    assert next(alert for alert in alerts if alert.topic == tonight).raw == b"tonight"


def test_a_broker_that_restarts_does_not_end_listening(own_broker: Broker) -> None:
    topic = topics.new_topic(own_broker.bootstrap_servers)
    topics.write(own_broker.bootstrap_servers, topic, b"before")
    alerts = listen(topic, own_broker.bootstrap_servers)
    assert next(alerts).raw == b"before"
    own_broker.kill()
    own_broker.start()
    topics.write(own_broker.bootstrap_servers, topic, b"after")
    assert next(alerts).raw == b"after"


class _NotUpYet:
    """A consumer whose own connection is not back yet; the broker answers other clients."""

    def __init__(self, consumer: Any) -> None:
        self._consumer, self.asked = consumer, 0

    def list_topics(self, **_: Any) -> Any:
        self.asked += 1
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def test_a_consumer_that_is_not_back_yet_does_not_end_listening(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So ended `zads run` when its broker restarted: it listens to the registry."""
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    topic = topics.new_topic(broker.bootstrap_servers)
    with Listener(topic, broker.bootstrap_servers) as listener:
        listener._consumer = _NotUpYet(listener._consumer)  # type: ignore[assignment]
        batches = listener.batches()
        for _ in range(3):
            assert next(batches) == []
        assert listener._consumer.asked  # type: ignore[attr-defined]
        topics.write(broker.bootstrap_servers, topic, packets.packet(7))
        assert [a.candid for a in itertools.chain.from_iterable(itertools.islice(batches, 20))] == [7]


def test_a_topic_that_is_deleted_ends_listening_with_a_sentence(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, b"last")
    alerts = listen(topic, broker.bootstrap_servers)
    assert next(alerts).raw == b"last"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics([topic])[topic].result()
    with pytest.raises(NoSuchTopic, match=topic):
        next(alerts)


def test_a_topic_that_is_not_there_has_near_names(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    for until_drained in (True, False):
        with pytest.raises(NoSuchTopic, match=f"did you mean {topic}"):
            listen(topic[:-1] + "x", broker.bootstrap_servers, until_drained)
    with pytest.raises(NoSuchTopic, match="matches"):
        listen("^nothing-like-it", broker.bootstrap_servers, until_drained=True)


def test_no_broker_is_one_sentence() -> None:
    with pytest.raises(BrokerError, match="zads broker start"):
        listen("anything", "127.0.0.1:9")


def test_json_lines(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    told = [("candid", b"42"), ("objectId", b"ZTF1"), ("filter", b"faint"), ("version", b"a1")]
    told += [("programid", b"2"), ("parameters", b'{"gap": 30}')]
    topics.write(broker.bootstrap_servers, topic, *RAW)
    topics.write(broker.bootstrap_servers, topic, b"no packet")
    topics.write(broker.bootstrap_servers, topic, b"x", headers=told)
    result = run(broker, topic, "--json", "--until-drained")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for offset, (line, raw) in enumerate(zip(lines, RAW, strict=False)):
        (packet,) = packets.read(raw)
        names = ("programid", "jd", "magpsf", "fid", "ra", "rb")
        wanted = {name: packet["candidate"][name] for name in names}
        wanted |= {"candid": packet["candid"], "objectId": packet["objectId"]}
        wanted |= {"topic": topic, "partition": 0, "offset": offset, "filter": None, "parameters": None}
        assert {name: line[name] for name in wanted} == wanted
        assert "error" not in line
    unreadable, foreign = lines[8:]
    assert unreadable["candid"] is None is unreadable["objectId"]
    assert unreadable["error"].startswith("not-avro")
    assert (foreign["candid"], foreign["objectId"], foreign["programid"]) == (42, "ZTF1", 2)
    assert (foreign["filter"], foreign["version"], foreign["parameters"]) == ("faint", "a1", {"gap": 30})


def test_json_knows_other_surveys(broker: Broker, real_alerts: Path) -> None:
    folders = ("other_surveys", "lsst_ocf")
    files = sorted(file for folder in folders for file in (real_alerts / folder).glob("*.avro"))
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *(file.read_bytes() for file in files))
    result = run(broker, topic, "--json", "--until-drained")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == len(files)
    # TURBO's test packet has the candid 0.
    assert all(None not in (line["candid"], line["objectId"], line["jd"]) for line in lines)
    assert {int(file.stem.split("_")[0]) for file in files if file.parent.name == "lsst_ocf"} <= {
        line["candid"] for line in lines
    }


def test_the_table_is_for_people(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *RAW)
    result = run(broker, topic, "--until-drained", "--limit", "3")
    rows = result.stdout.splitlines()
    assert len(rows) == 3
    assert "2023-10-12 10:24:45" in rows[0]
    assert rows[0].split()[0] == packets.read(RAW[0])[0]["objectId"]
    assert "3 alerts" in result.stderr


def test_a_limit_of_a_group_leaves_the_rest_for_the_next_time(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *RAW)
    arguments = (topic, "--json", "--group", topic)
    first = run(broker, *arguments, "--limit", "3").stdout.splitlines()
    rest = run(broker, *arguments, "--until-drained").stdout.splitlines()
    assert [json.loads(line)["offset"] for line in first + rest] == list(range(8))


def test_saved_packets_are_the_packets(broker: Broker, real_alerts: Path, tmp_path: Path) -> None:
    """The folder has repeated candids: none is lost."""
    raw = [file.read_bytes() for file in sorted((real_alerts / "ztf_4.02_spark").glob("*.avro"))]
    raw += [raw[0], b"no packet"]
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *raw)
    for _ in range(2):  # the second time over, nothing is added
        run(broker, topic, "--save", str(tmp_path / "kept"), "--until-drained")
        kept = list((tmp_path / "kept").iterdir())
        assert Counter(file.read_bytes() for file in kept) == Counter(raw)
    for packet in raw[:-1]:
        candid = packets.read(packet)[0]["candid"]
        assert packet in [file.read_bytes() for file in (tmp_path / "kept").glob(f"{candid}_*.avro")]


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(RAW[:3]), min_size=1, max_size=12), st.lists(st.integers(1, 5), max_size=3))
def test_as_many_files_as_messages_whenever_a_reader_begins_again(
    broker: Broker, tmp_path: Path, written: list[bytes], stops: list[int]
) -> None:
    """Repeated packets are messages of their own; a group goes on where it ended."""
    topic = topics.new_topic(broker.bootstrap_servers, partitions=2)
    for number, raw in enumerate(written):
        topics.write(broker.bootstrap_servers, topic, raw, partition=number % 2)
    folder = tmp_path / topic
    arguments = (topic, "--group", topic, "--save", str(folder), "--until-drained")
    for stop in stops:
        run(broker, *arguments, "--limit", str(stop))
    run(broker, *arguments)
    assert Counter(file.read_bytes() for file in folder.iterdir()) == Counter(written)


def test_since_a_time_and_the_last_ones(broker: Broker) -> None:
    """In two partitions, between markers of transactions, and what was aborted."""
    servers = broker.bootstrap_servers
    topic = topics.new_topic(servers, partitions=2, config={"retention.ms": "-1"})  # of years ago
    transactions = topics.Transactions(servers, topic)
    for number, raw in enumerate(RAW):
        if number % 2:
            topics.write(servers, topic, raw, partition=1, timestamp=1_700_000_000_000 + 1000 * number)
        else:
            transactions.write([raw], commit=False)
            transactions.leave_open([raw], timestamp=1_700_000_000_000 + 1000 * number)
            transactions.commit()
    topics.until_settled(servers, topic)
    for last in (1, 3, 20):
        assert Counter(drained(broker, topic, last=last)) == Counter(RAW[-last:])
    for number in (0, 3, 6, 8):
        moment = datetime.fromtimestamp(1_700_000_000 + number, UTC)
        said = run(broker, topic, "--since", moment.isoformat(), "--until-drained", "--json").stdout
        found = [json.loads(line)["candid"] for line in said.splitlines()]
        assert sorted(map(int, found)) == list(range(1_000 + number, 1_008))
    both = CliRunner().invoke(_app(), [topic, "--since", "2 d", "--last", "3", "--bootstrap", servers])
    assert both.exit_code == 2
    assert "both say where to begin" in both.output
    with pytest.raises(BadTime, match="yesterday"):
        moment_of("yesterday")


PROGRAM = (
    "import typer; from commands.listen import command as listen;"
    " app = typer.Typer(); listen.register(app); app()"
)


def start(broker: Broker, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """`zads listen` in a process of its own."""
    command_line = [sys.executable, "-c", PROGRAM, *arguments, "--bootstrap", broker.bootstrap_servers]
    where = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        command_line, cwd=where, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_each_line_is_there_at_once_and_ctrl_c_ends_well(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, RAW[0])
    process = start(broker, topic, "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["candid"] == 1_000
    topics.write(broker.bootstrap_servers, topic, RAW[1])
    assert json.loads(process.stdout.readline())["candid"] == 1_001
    process.send_signal(signal.SIGINT)
    code, errors = ended(process)
    assert code == 0
    assert "2 alerts" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("more", [RAW * 200, []], ids=["while alerts come", "while none comes"])
def test_a_pipe_that_closes_ends_it_quietly(broker: Broker, more: list[bytes]) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, RAW[0], *more)
    process = start(broker, topic, "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    code, errors = ended(process)
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert "BrokenPipe" not in errors
    assert code == 0
