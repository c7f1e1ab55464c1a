"""Requests of several users are done side by side, those of one user in order; their topics are renewed."""

from __future__ import annotations

import threading
import uuid

from confluent_kafka.admin import AdminClient, ConfigResource

from cluster.kafka.broker import Broker
from commands.serve.queues import ByUser
from pipeline.access.requests import REQUEST_BYTES, ensure_request_topics
from pipeline.broker.topics import configure_topics, ensure_topics


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
