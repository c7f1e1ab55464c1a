"""One secured broker for all tests of who may do what."""

from collections.abc import Iterator

import pytest

from cluster.kafka.broker import Broker
from cluster.kafka.node import Secured


@pytest.fixture(scope="session")
def secured() -> Iterator[Broker]:
    """A real secured broker: use users and topics of your own."""
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
