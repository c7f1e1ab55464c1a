"""A night that nobody has read yet, in many partitions: a worker reads ahead in all of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from cluster.kafka.broker import Broker
from pipeline.broker.client import producer_settings
from pipeline.broker.topics import ensure_topics
from pipeline.channels.config import RunConfig
from pipeline.clients.ledger import entries, ledger, nights_of
from simulator import simulate
from tests.pipeline.night import running

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

TOPIC = "ztf_20231012_programid1"
PARTITIONS, ROUNDS = 64, 24
LIMIT = "1GiB"
"""A worker's memory. With 64 MB read ahead for each partition it would not be enough by far."""


def test_a_backlog_in_many_partitions_does_not_end_a_worker(tmp_path: Path) -> None:
    packets = [alert.packet for alert in simulate(2000, 3) if alert.programid == 1]
    with Broker() as broker:
        servers = broker.bootstrap_servers
        ensure_topics(servers, [TOPIC], PARTITIONS)
        producer = Producer(producer_settings(servers))
        for number in range(ROUNDS * len(packets)):
            while len(producer) > 1000:
                producer.poll(0.01)
            producer.produce(TOPIC, packets[number % len(packets)], partition=number % PARTITIONS)
        assert producer.flush(60) == 0
        waiting = ROUNDS * sum(map(len, packets))
        assert waiting > 2_000_000_000, "less than a worker may hold: the test would prove nothing"
        (tmp_path / "zads.toml").write_text(f"[dask]\nmemory = '{LIMIT}'\n[channels.real_bogus]\n")
        with running(servers, tmp_path, "--workers", "1", "--until-drained") as run:
            assert run.wait(400) == 0, run.text()[-4000:]
            assert "its worker ended" not in run.text(), run.text()[-4000:]
            assert "attempt" not in run.text(), run.text()[-4000:]
        assert sum(count_of(servers).values()) == ROUNDS * len(packets)


def count_of(servers: str) -> Counter[str]:
    """Records by night, as the ledger has them."""
    config = RunConfig(bootstrap_servers=servers)
    found = entries(config)
    told = {night: ledger(config, night, found) for night in nights_of(found)}
    assert not any(one.problems for one in told.values())
    return Counter({night: one.sources[TOPIC].source.judged for night, one in told.items()})
