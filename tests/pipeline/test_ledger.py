"""The ledger's law: every record stands in it once, as what it has come to, however the records are cut."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import load
from pipeline.broker.partition import Partition
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set
from pipeline.channels.counts import ByChannel, ChannelCounts, SourceCounts
from pipeline.channels.ledger import Entry, Page, entries_of, night_of_topic
from pipeline.worker.deliver import Outgoing
from pipeline.worker.judging.evaluate import Evaluator
from pipeline.worker.tally import tally
from tests.pipeline import packets as small
from tests.pipeline.night import night
from tests.pipeline.test_together import NoGuard

TOPIC = "mixed"
BAD = Path(__file__).with_name("bad_filters.py")
CHANNELS = {
    "real_bogus": ChannelConfig(topics=TOPIC),
    "team": ChannelConfig(filter="real_bogus", access="collaboration", topics=TOPIC),
    "raises": ChannelConfig(filter=f"{BAD}:raises_on_some", topics=TOPIC),
    "off": ChannelConfig(filter="real_bogus", topics=TOPIC),
    "elsewhere": ChannelConfig(filter="real_bogus", topics="another"),
}
ANOTHER_NIGHT = 2460230.9  # JD


@dataclass
class Record:
    """As much of a Kafka message as a batch looks at."""

    raw: bytes
    place: int

    def value(self) -> bytes:
        return self.raw

    def key(self) -> bytes:
        return b""

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.place

    def leader_epoch(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_697_100_000_000  # 2023-10-12 08:40 UTC: by UTC - 12 h of the night before


class Sink:
    """Takes what is produced. bytes: topic -> of all that it took."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()

    def produce(self, **record: Any) -> None:
        self.bytes[record["topic"]] += len(record["value"])


@cache
def channels() -> ChannelSet:
    return channel_set(RunConfig(channels=CHANNELS, topics=TOPIC))


@cache
def evaluator() -> Evaluator:
    return Evaluator(channels())


@cache
def packets() -> tuple[bytes, ...]:
    """Alerts of two nights, some of which a filter raises on, and packets that nobody can read or knows."""
    special = [alert.packet for alert in night() if alert.programid == 1 and alert.candid % 97 == 0]
    later = [small.packet(n, jd=ANOTHER_NIGHT, programid=1 + n % 3, rb=0.5 + n % 2 / 4) for n in range(1, 20)]
    good = [alert.packet for alert in night()[:60]]
    return (*good[:30], b"hello", *special, stranger(), *later, good[0][:500], *good[30:], b"")


def stranger() -> bytes:
    """A packet of no survey that is known."""
    schema = {
        "type": "record",
        "name": "alert",
        "namespace": "nobody",
        "fields": [{"name": "a", "type": "int"}],
    }
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), [{"a": 1}])
    return file.getvalue()


def page_of(raw: bytes) -> tuple[str, Page]:
    """Night and counts of one record, by fastavro and one alert at a time."""
    try:
        (packet,) = fastavro.reader(io.BytesIO(raw))
        what = "judged" if "candidate" in packet else "unknown"
    except Exception:
        packet, what = None, "unreadable"
    alert = packet if what == "judged" else None
    page = Page(SourceCounts(received=1, **{what: 1}))
    for name in CHANNELS.keys() - {"elsewhere"}:
        as_what = _became(name, alert)
        page.channels[name] = ChannelCounts(1, **{as_what: 1}, delivered=int(as_what == "passed"))
    return _night(alert), page


def _became(name: str, packet: dict[str, Any] | None) -> str:
    if name == "off":
        return "gaps"
    if packet is None or (name != "team" and packet["candidate"]["programid"] != 1):
        return "not_for_it"
    if name == "raises" and packet["candid"] % 97 == 0:
        return "failed"
    passes = packet["candidate"]["magpsf"] < 19 if name == "raises" else load("real_bogus").one(packet)
    return "passed" if passes else "rejected"


def _night(packet: dict[str, Any] | None) -> str:
    if packet is None:
        return "2023-10-11"  # when it arrived
    day = int(packet["candidate"]["jd"] - 2440587.5)
    return f"{date.fromordinal(day + 719163)}"


def worked(some: Sequence[bytes], start: int, sink: Sink) -> dict[str, Page]:
    """The counts of a batch, as a worker has them."""
    records = [Record(raw, start + place) for place, raw in enumerate(some)]
    (verdicts,) = evaluator().evaluate(
        [list(some)], TOPIC, NoGuard(), suspended={"off": "for a test"}, filter_seconds=60, failing_alerts=999
    )
    outgoing = Outgoing(channels(), TOPIC, verdicts, records)
    outgoing.produce(sink, (Partition(TOPIC, 0), start, start + len(some)))
    return tally(TOPIC, verdicts, records, outgoing)


@cache
def expected() -> dict[str, Page]:
    pages: dict[str, Page] = {}
    for raw in packets():
        night_, page = page_of(raw)
        pages.setdefault(night_, Page()).add(page)
    return pages


@settings(max_examples=15)
@given(st.lists(st.integers(0, len(packets())), max_size=4))
def test_every_record_stands_in_the_ledger_once_as_what_it_has_come_to(cuts: list[int]) -> None:
    entry, sink = Entry("g", TOPIC, 0, "id", 0, 0), Sink()
    for start, stop in pairwise([0, *sorted(cuts), len(packets())]):
        entry = entry.and_then(stop, worked(packets()[start:stop], start, sink))
    told = Counter[str]()
    for night_, page in entry.pages.items():
        told.update({name: counts.bytes for name, counts in page.channels.items()})
        bare = {name: counts._replace(bytes=0) for name, counts in page.channels.items()}
        assert Page(page.source, ByChannel(bare)) == expected()[night_]
    assert entry.pages.keys() == expected().keys()
    assert +told == {one.name: sink.bytes[one.topic] for one in channels().channels if sink.bytes[one.topic]}
    sums = [page.source for page in entry.pages.values()]
    sums += [counts for page in entry.pages.values() for counts in page.channels.values()]
    assert not [words for one in sums for words in one.imbalances]
    assert len(entry.pages) >= 3
    record = entry.record()
    older = Entry("g", TOPIC, 0, "id", 0, 5, name=entry.name).record()
    both = [(r["key"], r["value"]) for r in (older, record)]
    assert entries_of(both) == [entry], "the newest record of an entry holds all of it"


def test_a_topic_says_its_night_or_none() -> None:
    assert night_of_topic("ztf_20231012_programid1") == "2023-10-12"
    assert night_of_topic("lsst-alerts-v11") == ""
    assert night_of_topic("channel.x_2023") == ""
