"""A broker that is away is said once, not once for each attempt of each client."""

import logging
import time

from confluent_kafka import Producer

from cluster.kafka.ports import free_port
from pipeline.broker.client import AwayOnce, client_settings, log


def test_a_broker_that_is_away_is_said_once(caplog):
    quiet = AwayOnce()
    heard = logging.getLogger("zads.kafka.test")
    heard.addFilter(quiet)
    settings = client_settings(f"127.0.0.1:{free_port()}", logger=heard)
    clients = [Producer(settings), Producer(settings)]
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        for client in clients:
            client.poll(0.05)
    assert len([r for r in caplog.records if r.name == heard.name]) == 1
    assert "Connection refused" in caplog.text


def test_what_is_not_about_connections_is_always_said(caplog):
    for _ in range(3):
        log.warning("CONFWARN [x] something else")
    assert len(caplog.records) == 3
