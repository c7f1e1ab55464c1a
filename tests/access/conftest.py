"""A secured broker for each module of tests of who may do what: they publish the same night."""

from collections.abc import Iterator

import pytest

from cluster.kafka.broker import Broker
from cluster.kafka.node import Secured


@pytest.fixture(scope="module")
def secured() -> Iterator[Broker]:
    """A real secured broker, shared by the tests of a module."""
    with Broker(secured=Secured()) as broker:
        yield broker


def client(broker: Broker, name: str, password: str) -> dict[str, str]:
    """A Kafka client's settings for a user."""
    return {
        "bootstrap.servers": broker.bootstrap_servers,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": name,
        "sasl.password": password,
        "ssl.ca.pem": broker.ca,
    }
