"""A secured broker for each module of tests of who may do what: they publish the same night."""

from collections.abc import Iterator

import pytest

from cluster.kafka.broker import Broker
from cluster.kafka.node import Secured
from tests.access.world import World


@pytest.fixture(scope="module")
def secured() -> Iterator[Broker]:
    """A real secured broker, shared by the tests of a module."""
    with Broker(secured=Secured()) as broker:
        yield broker


@pytest.fixture(scope="module")
def world(secured: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(secured, tmp_path_factory.mktemp("world"))
    with made.serving():
        yield made
