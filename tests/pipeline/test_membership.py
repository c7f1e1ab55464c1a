"""The coordinator's place in the consumer group, on a real broker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.broker import Broker
from pipeline.kafka import ensure_topics
from pipeline.membership import Membership, ReplacedError

SECONDS = 25.0


@contextmanager
def member(servers: str, name: str) -> Iterator[Membership]:
    """One that reads the topics whose names begin with `name`; a member of the group of that name."""
    one = Membership({"bootstrap.servers": servers}, name, "0", f"^{name}_")
    try:
        yield one
    finally:
        one.close()


def topics_of(one: Membership, wanted: set[str]) -> set[str]:
    """The topics of its partitions, as soon as they are those wanted, or after a while."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = {partition.topic for partition in one.poll()}
        if found == wanted:
            break
        time.sleep(0.05)
    return found


def test_a_quick_restart_notices_a_topic_that_came_just_before(broker: Broker) -> None:
    """Kafka gives a static member its old partitions back without asking which topics there are now."""
    servers, name = broker.bootstrap_servers, f"m{uuid.uuid4().hex[:8]}"
    early, late = f"{name}_1", f"{name}_2"
    ensure_topics(servers, [early], partitions=2)
    with member(servers, name) as first:
        assert topics_of(first, {early}) == {early}
        ensure_topics(servers, [late], partitions=2)
        with member(servers, name) as second:  # the first, not polled any more, is as good as killed
            assert topics_of(second, {early, late}) == {early, late}
            with pytest.raises(ReplacedError):
                topics_of(first, {late})
