"""Requests of several users are done side by side, those of one user in order; their topics are renewed."""

from __future__ import annotations

import threading
import uuid

from confluent_kafka.admin import AdminClient, ConfigResource

from cluster.kafka.broker import Broker
from commands.serve.queues import ByUser
from pipeline.access.limits import Night, Use, UserLimits, use_of
from pipeline.access.requests import ANSWER_BYTES, REQUEST_BYTES, Answer, ensure_request_topics
from pipeline.broker.listen import Alert
from pipeline.broker.topics import configure_topics, ensure_topics
from pipeline.channels.counts import ByChannel, ChannelCounts
from pipeline.channels.definition import Definition
from pipeline.channels.ledger import Entry, Page
from pipeline.clients.delivered import Delivered


def test_a_slow_request_holds_up_its_user_alone() -> None:
    """ann's first waits for ben's: one after the other they would never end."""
    done: list[str] = []
    bens, over = threading.Event(), threading.Event()
    queues = ByUser(100, lambda user: None, lambda user: None)
    queues.put("ann", lambda: done.append(f"ann 1 {bens.wait(20)}"))
    queues.put("ann", lambda: done.append("ann 2"))
    queues.put("ann", over.set)
    queues.put("ben", lambda: (done.append("ben"), bens.set()))
    assert over.wait(20)
    assert done == ["ben", "ann 1 True", "ann 2"]


def test_who_asks_for_much_is_held_until_it_is_done() -> None:
    """And what fails keeps nothing back."""
    told: list[str] = []
    begun, begin, over = threading.Event(), threading.Event(), threading.Event()

    def go_on(user: str) -> None:
        told.append(f"go on {user}")
        over.set()

    queues = ByUser(3, lambda user: told.append(f"hold {user}"), go_on)
    queues.put("ann", lambda: (begun.set(), begin.wait(20)))
    assert begun.wait(20)
    for number in range(5):
        queues.put("ann", lambda: told.append(f"{1 / 0}"))
        assert told == ["hold ann"] * (number >= 2)
    begin.set()
    assert over.wait(20)
    assert told == ["hold ann", "go on ann"]


def test_a_request_topic_of_before_takes_longer_requests_now(broker: Broker) -> None:
    """Those that have the limit already are left alone."""
    name, servers = f"old-{uuid.uuid4().hex[:6]}", broker.bootstrap_servers
    topic = f"zads.requests.{name}"
    ensure_topics(
        servers, [topic], partitions=1, config={"max.message.bytes": "20000", "retention.ms": "77000"}
    )
    ensure_request_topics([name], servers)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": servers})
    now = admin.describe_configs([resource])[resource].result()
    assert now["max.message.bytes"].value == str(REQUEST_BYTES)
    assert configure_topics(servers, [topic], {"max.message.bytes": str(REQUEST_BYTES)}) == []


def test_an_answer_that_no_topic_takes_is_told_to_be_too_long() -> None:
    long = Answer(id="7", done=True, text="x" * 950_000)
    assert long.within(ANSWER_BYTES).text == "done, and the answer is too long to be sent"
    assert long.within(1_000_000) is long


def test_the_newest_night_of_the_ledger_is_counted_and_a_broken_date_is_none() -> None:
    """Two partitions, one of which has delivered in the night before too."""
    counted = Delivered()
    counts = {
        "2026-01-01": {"a.b": (3, 300)},
        "2026-01-02": {"a.b": (5, 500), "c": (1, 10)},
        "9999-01-01": {"c": (9, 9)},
    }
    counted.add(entry("p0", counts))
    assert counted.newest() == Night("2026-01-02", {"a.b": (5, 500), "c": (1, 10)})
    counted.add(
        [*entry("p1", {"2026-01-02": {"a.b": (1, 100)}}), *entry("p1", {"2026-01-02": {"a.b": (2, 200)}})]
    )
    counted.add(entry("p2", {"2026-01-01": {"a.b": (8, 800)}}))
    assert counted.newest() == Night("2026-01-02", {"a.b": (7, 700), "c": (1, 10)})


def entry(partition: str, counts: dict[str, dict[str, tuple[int, int]]]) -> list[Alert]:
    """A record of the ledger: night -> channel -> alerts and bytes."""
    one = Entry("g", partition, 0, "id", 0, 9, name=partition)
    for night, channels in counts.items():
        one.pages[night] = Page(
            channels=ByChannel({n: ChannelCounts(9, delivered=d, bytes=b) for n, (d, b) in channels.items()})
        )
    record = one.record()
    return [Alert(record["topic"], 0, 0, {}, None, record["value"], record["key"])]


def channel(
    name: str, state: str = "enabled", granted: str = "", micros: float = 0, alerts: int = 0
) -> Definition:
    """A channel with a backtest of two nights."""
    nights = [
        {"night": "a", "alerts": alerts, "objects": 1, "of": 9},
        {"night": "b", "alerts": 1, "objects": 1, "of": 9},
    ]
    report = {"nights": nights, "microseconds": micros, "measured": micros > 5, "bytes_an_alert": 1000}
    return Definition(name=name, filter="real_bogus", state=state, granted=granted, report=report)  # type: ignore[arg-type]


def test_use_is_of_all_channels_but_those_that_an_operator_answers_for() -> None:
    every = [
        channel("ann.a", micros=40, alerts=30),
        channel("ann.b", micros=70, alerts=20),
        channel("ann.quick", micros=3, alerts=2),
        channel("ann.off", "paused", micros=900, alerts=900),
        channel("ann.gone", "retired"),
        channel("ann.granted", granted="root", micros=900, alerts=900),
        channel("anna.other", micros=900, alerts=900),
        channel("bright", micros=900, alerts=900),
    ]
    last = Night(
        "2026-01-02", {"ann.off": (7, 70), "ann.a": (1, 10), "ann.granted": (500, 5000), "anna.other": (1, 1)}
    )
    use = use_of("ann", every, last)
    assert use == Use(
        channels=4,
        night="2026-01-02",
        alerts=8,
        bytes=80,
        usual_alerts=52,
        usual_bytes=52_000,
        microseconds=110,
    )
    assert not use.too_much(UserLimits()) + use.overrun(UserLimits())
    tight = UserLimits(alerts_a_night=51, bytes_a_day=51_000, microseconds=109)
    assert [words.split(",")[0] for words in use.too_much(tight)] == [
        "52 alerts a night",
        "0.1 MB a night",
        "110 µs an alert",
    ]
    assert use.overrun(UserLimits(alerts_a_night=7, bytes_a_day=79)) == [
        "8 alerts in the night 2026-01-02, 7 may be",
        "0.0 MB in the night 2026-01-02, 0.0 may be",
    ]
