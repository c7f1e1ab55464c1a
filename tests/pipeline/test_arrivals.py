"""What an archiver hands on: each record of a log once, also when the log is cut and written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.broker.partition import Partition
from pipeline.broker.reading.shared_ranges import Wanted
from pipeline.clients.following.arrivals import Arrivals
from pipeline.clients.following.keeper import Received

PLACE = Partition("t", 0)


class Event:
    """A record, or the end of the partition, as a consumer gives it."""

    def __init__(self, offset: int, epoch: int | None, word: bytes = b"") -> None:
        self.offset, self.leader_epoch, self.value = (lambda: offset), (lambda: epoch), (lambda: word)
        self.error = lambda: "end" if epoch is None else None
        self.topic, self.partition = (lambda: PLACE.topic), (lambda: PLACE.number)
        self.key = self.headers = lambda: None
        self.timestamp = lambda: (TIMESTAMP_NOT_AVAILABLE, 0)


class Log:
    """A partition: offset -> epoch and word. Takes the place of the sources, and of the keeper."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.epoch, self.written, self.at = 0, 0, 0
        self.names, self.epochs = {PLACE: "source"}, {PLACE: -1}
        self.kept: list[bytes] = []
        self.positions: list[int] = []

    def write(self, count: int) -> None:
        for _ in range(count):
            self.records.append((self.epoch, b"%d" % self.written))
            self.written += 1

    def read(self, most: int) -> list[Event]:
        """From where the consumer stands; the end of the partition is told when it is reached."""
        some = range(self.at, min(self.at + most, len(self.records)))
        events = [Event(offset, *self.records[offset]) for offset in some]
        self.at += len(events)
        return events + ([Event(self.at, None)] if self.at == len(self.records) else [])

    def made_again(self, _: Iterable[str]) -> set[str]:
        return set()

    def cut(self, doubts: Mapping[Partition, Sequence[Wanted]]) -> dict[Partition, int]:
        """By looking at every record."""
        return {
            partition: min(later)
            for partition, some in doubts.items()
            if (later := [n for one in some for n in range(one.low) if self.records[n][0] > one.epoch])
        }

    def append(self, _: str, records: Sequence[Received], next_position: int) -> None:
        self.kept += [record.raw for record in records]
        self.positions.append(next_position)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 5)),
        st.tuples(st.just("read"), st.integers(1, 8)),
        st.tuples(st.just("leader"), st.just(0)),
        st.tuples(st.just("cut"), st.integers(1, 6)),
        st.tuples(st.just("prove"), st.just(0)),
    ),
    max_size=30,
)


def done(log: Any, arrivals: Arrivals, steps: Iterable[tuple[str, int]]) -> int:
    """How often it was read on from where the log was cut."""
    went_back = 0
    for what, number in steps:
        if what == "write":
            log.write(number)
        elif what == "leader":
            log.epoch += 1
        elif what == "cut":
            log.epoch += 1
            del log.records[max(0, len(log.records) - number) :]
            log.write(number + 1)
        elif what == "read":
            arrivals.add(log.read(number))
        elif what == "prove" and arrivals.waiting:
            for at in arrivals.prove().cut.values():
                log.at, went_back = at, went_back + 1
                arrivals.reached.clear()
    return went_back


@given(steps)
def test_each_record_is_handed_on_once_whoever_leads_the_partition(steps: list[tuple[str, int]]) -> None:
    log = Log()
    arrivals: Any = Arrivals(log, log)  # type: ignore[arg-type]
    same = [step for step in steps if step[0] != "cut"]
    assert done(log, arrivals, [*same, ("read", 1000), ("prove", 0)]) == 0
    assert log.kept == [word for _, word in log.records]
    assert log.positions == sorted(log.positions)


@example([("write", 1), ("write", 1), ("cut", 1), ("read", 2), ("cut", 2)])
@given(steps)
def test_nothing_that_is_in_a_log_is_missed_though_it_was_cut(steps: list[tuple[str, int]]) -> None:
    log = Log()
    arrivals: Any = Arrivals(log, log)  # type: ignore[arg-type]
    done(log, arrivals, [*steps, *[("read", 1000), ("prove", 0)] * 3])
    assert set(log.kept) >= {word for _, word in log.records}
    assert len(log.kept) == len(set(log.kept)), "twice"
