"""One consumer reads ranges of many partitions: the records of a plain consumer, and one victim a fault."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.broker.client import client_settings
from pipeline.broker.listen import listen
from pipeline.broker.partition import Partition
from pipeline.broker.reading import shared_ranges
from pipeline.broker.reading.ranges import Range, Stalled
from pipeline.broker.reading.shared_ranges import Cut, SharedReader, Wanted
from tests.pipeline.topics import cut_log, new_topic, recreate

PARTITIONS, TRANSACTIONS, RECORDS = 4, 8, 3
END = TRANSACTIONS * (RECORDS + 1)  # with the marker of each


class Logs:
    """Partitions of small transactions, some aborted; what a plain read_committed consumer sees of them."""

    def __init__(self, broker: Broker) -> None:
        self.kafka = client_settings(broker.bootstrap_servers)
        self.topic = new_topic(broker.bootstrap_servers, PARTITIONS)
        producer = Producer({**self.kafka, "transactional.id": self.topic})
        producer.init_transactions(30)
        for number in range(TRANSACTIONS):
            producer.begin_transaction()
            for partition in range(PARTITIONS):
                for record in range(RECORDS):
                    value = f"{partition}.{number}.{record}".encode()
                    producer.produce(self.topic, value, partition=partition)
            producer.flush()
            kept = number % 3 != 1
            (producer.commit_transaction if kept else producer.abort_transaction)()
        self.seen: dict[Partition, dict[int, bytes]] = {}
        for one in listen(self.topic, broker.bootstrap_servers, until_drained=True):
            self.seen.setdefault(Partition(one.topic, one.partition), {})[one.offset] = one.raw

    def of(self, partition: Partition, low: int, high: int) -> dict[int, bytes]:
        return {offset: raw for offset, raw in self.seen[partition].items() if low <= offset < high}


@pytest.fixture(scope="module")
def logs(broker: Broker) -> Logs:
    return Logs(broker)


@pytest.fixture(scope="module")
def reader(logs: Logs) -> SharedReader:
    return SharedReader(logs.kafka, "shared-ranges")


def values(found: object) -> dict[int | None, bytes | None]:
    assert isinstance(found, list), found
    return {record.offset(): record.value() for record in found}


ranges = st.tuples(st.integers(0, END), st.integers(0, END), st.sampled_from([-1, 0])).map(
    lambda drawn: Wanted(min(drawn[:2]), max(drawn[:2]), drawn[2])
)
bundles = st.lists(
    st.dictionaries(st.integers(0, PARTITIONS - 1), ranges, min_size=1), min_size=1, max_size=4
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bundles)
def test_any_ranges_in_any_order_are_those_of_a_plain_consumer(
    logs: Logs, reader: SharedReader, bundles: list[dict[int, Wanted]]
) -> None:
    for bundle in bundles:
        wanted = {Partition(logs.topic, number): one for number, one in bundle.items()}
        found = reader.read(wanted)
        assert found.keys() == wanted.keys()
        for partition, one in wanted.items():
            assert values(found[partition]) == logs.of(partition, one.low, one.high)


def test_a_partition_that_cannot_be_read_takes_no_other_with_it(
    broker: Broker, logs: Logs, reader: SharedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_ranges, "_STRAGGLER_SECONDS", 1.0)
    beyond, missing = Partition(logs.topic, 1), Partition("nobody-made-this", 0)
    good = [Partition(logs.topic, 0), Partition(logs.topic, 3)]
    wanted = dict.fromkeys([*good, missing], Wanted(0, END)) | {beyond: Wanted(END + 5, END + 9)}
    found = reader.read(wanted)
    for partition in good:
        assert values(found[partition]) == logs.seen[partition]
    assert isinstance(found[beyond], KafkaException)
    assert isinstance(found[missing], Stalled | KafkaException)
    again = reader.read(dict.fromkeys(logs.seen, Wanted(0, END)))
    assert {partition: values(records) for partition, records in again.items()} == logs.seen


def test_it_goes_on_when_a_topic_was_made_again(broker: Broker, reader: SharedReader) -> None:
    topic = new_topic(broker.bootstrap_servers)
    for value in (b"of the first", b"of the second"):
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        producer.produce(topic, value, partition=0)
        assert producer.flush(20) == 0
        deadline, got = time.monotonic() + 60, None
        while got != {0: value}:  # a leader that is not known yet may be told as an error
            assert time.monotonic() < deadline, got
            found = reader.read({Partition(topic, 0): Wanted(0, 1)})[Partition(topic, 0)]
            got = values(found) if isinstance(found, list) else None
        recreate(broker.bootstrap_servers, topic)


def test_where_the_group_stands_is_told_of_all_together_as_of_each_alone(logs: Logs) -> None:
    group = f"g-{logs.topic}"
    consumer = Consumer({**logs.kafka, "group.id": group})
    consumer.commit(offsets=[TopicPartition(logs.topic, 1, 5, "of one")], asynchronous=False)
    consumer.close()
    reader = SharedReader(logs.kafka, group)
    together = reader.told_together(list(logs.seen))
    assert together.keys() == logs.seen.keys()
    for partition, one in together.items():
        alone = reader.told(partition)
        assert (one.committed.offset, one.committed.metadata, one.beginning) == (
            alone.committed.offset,
            alone.committed.metadata,
            alone.beginning,
        )
        assert alone.end == END
    assert together[Partition(logs.topic, 1)].committed.offset == 5
    missing = Partition("nobody-made-this", 0)
    assert missing not in reader.told_together([*logs.seen, missing])
    reader.close()


class Written:
    """A record of a log without a broker."""

    def __init__(self, offset: int, epoch: int) -> None:
        self.offset, self.leader_epoch, self.error = (lambda: offset), (lambda: epoch), (lambda: None)


class OfAList(SharedReader):
    """Looks into a list, offset -> epoch, instead of asking a broker."""

    def __init__(self, log: dict[int, int]) -> None:
        self.log = log

    def _first_in(self, _: Partition, low: int, high: int) -> Any:
        return next((Written(o, e) for o, e in sorted(self.log.items()) if low <= o < high), None)


holes_and_epochs = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 1)), max_size=30)


@given(holes_and_epochs, st.integers(0, 130), st.integers(0, 20), st.integers(0, 20))
def test_the_first_record_of_a_later_leader_is_found(
    steps: list[tuple[int, int]], low: int, epoch: int, beginning: int
) -> None:
    """In any log: offsets have holes, and epochs never fall."""
    offsets = itertools.accumulate((hole for hole, _ in steps), initial=beginning)
    epochs = itertools.accumulate((more for _, more in steps), initial=0)
    log = dict(zip(offsets, epochs, strict=True))
    found = OfAList(log)._first_of_later(Partition("t", 0), beginning, Wanted(low, low + 1, epoch))
    assert found == min((o for o, e in log.items() if o < low and e > epoch), default=None)


class ReadAcross(OfAList):
    """What it reads first is of a log before it was cut and after; what it looks at then is the later."""

    def __init__(self, read: list[Written], log: dict[int, int]) -> None:
        super().__init__(log)
        self.read_first: list[Written] | None = read

    def _beginnings(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return dict.fromkeys(partitions, 0)

    def _round(self, ranges: Mapping[Partition, Range]) -> dict[Partition, Any]:
        read, self.read_first = self.read_first, None
        there = sorted(self.log.items())
        return {
            partition: read or [Written(o, e) for o, e in there if one.low <= o < one.high]
            for partition, one in ranges.items()
        }


@given(
    st.lists(st.integers(0, 1), min_size=2, max_size=40),
    st.lists(st.integers(0, 1), min_size=1, max_size=40),
    st.data(),
)
def test_a_log_that_is_cut_while_a_range_is_read_gives_no_range_with_a_hole(
    before: list[int], after: list[int], data: st.DataObject
) -> None:
    """Read of the log as it was up to some offset, and from there on of the log as it is."""
    was = list(itertools.accumulate(before))
    cut = data.draw(st.integers(0, len(was)), "cut at")
    newer = itertools.accumulate(after, initial=was[-1] + 1)
    now = [*was[:cut], *newer]
    low = data.draw(st.integers(0, len(was) - 1), "low")
    up_to = data.draw(st.integers(low, len(was)), "up to")
    records = [Written(o, was[o]) for o in range(low, up_to)]
    records += [Written(o, now[o]) for o in range(up_to, len(now))]
    reader, place = ReadAcross(records, dict(enumerate(now))), Partition("t", 0)
    epoch = was[low - 1] if low else -1
    found = reader.read({place: Wanted(low, len(now), epoch)})[place]
    assume(records and up_to < len(now))  # else nothing came after the cut that could tell of it
    if cut >= up_to:
        assert found == records, "nothing is missing"
    elif cut < low:
        assert isinstance(found, Cut)
        assert found.offset == cut
    else:
        assert isinstance(found, Stalled)


class OfFates(SharedReader):
    """Partitions that have another leader: what each of them answers is made up."""

    def __init__(self, fates: list[str]) -> None:
        self.fates = {Partition("t", number): fate for number, fate in enumerate(fates)}

    def _beginnings(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        return {partition: 0 for partition in partitions if self.fates[partition] != "no beginning"}

    def _round(self, ranges: Mapping[Partition, Range]) -> dict[Partition, Any]:
        return {partition: self._answer(self.fates[partition], one) for partition, one in ranges.items()}

    def _answer(self, fate: str, asked: Range) -> Any:
        if fate == "no tail" or (fate == "no search" and asked.high - asked.low > 16):
            return Stalled(fate)
        later = 1 if fate == "same" else 2
        return [Written(o, 1 if o < 4 else later) for o in range(asked.low, asked.high)]


FATES = {"same": None, "cut": Cut, "no beginning": Stalled, "no tail": Stalled, "no search": Stalled}


@given(st.lists(st.sampled_from(sorted(FATES)), max_size=8))
def test_a_log_that_cannot_be_searched_is_nobody_elses_fault(fates: list[str]) -> None:
    reader = OfFates(fates)
    found = reader.cut({place: [Wanted(40, 50, 1)] for place in reader.fates})
    assert {p: type(why) for p, why in found.items()} == {
        p: FATES[fate] for p, fate in reader.fates.items() if FATES[fate]
    }
    assert all(why.offset == 4 for why in found.values() if isinstance(why, Cut))


def test_a_log_that_was_truncated_and_written_again_is_not_taken_for_the_former(own_broker: Broker) -> None:
    """The broker is killed, the end of its log is cut off, and other records come under the same offsets."""
    servers = own_broker.bootstrap_servers
    place, other = Partition(new_topic(servers), 0), Partition(new_topic(servers), 0)

    def write(word: str, count: int) -> None:
        producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
        for number in range(count):
            producer.produce(place.topic, f"{word} {number}".encode(), partition=0)
            assert producer.flush(20) == 0

    write("first", 6)
    reader = SharedReader(client_settings(servers), "truncated")
    first = reader.read({place: Wanted(0, 6)})[place]
    assert len(values(first)) == 6
    epoch = shared_ranges.epoch_of(first[-1])  # type: ignore[index]
    cut_log(own_broker, place.topic, 4)
    write("second", 6)
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(other.topic, b"beside it", partition=0)
    assert producer.flush(20) == 0
    got = values(reader.read({place: Wanted(0, 10)})[place])
    assert got == {n: f"first {n}".encode() if n < 4 else f"second {n - 4}".encode() for n in range(10)}
    behind_what_was_kept = reader.read({place: Wanted(4, 10, epoch)})[place]
    assert values(behind_what_was_kept)[4] == b"second 0"
    for low in (5, 6):
        found = reader.read({other: Wanted(0, 1, epoch), place: Wanted(low, 10, epoch)})
        assert isinstance(why := found[place], Cut), low
        assert why.offset == 4
        assert values(found[other]) == {0: b"beside it"}
    reader.close()
