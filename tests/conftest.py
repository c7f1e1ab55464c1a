"""Fixtures shared by all rooms' tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cluster.broker import Broker

# How long an example takes says more of the machine than of the law.
settings.register_profile("zads", deadline=None)
settings.load_profile("zads")

# pytest-xdist's workers ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, and what the tests of a module share is made in one process.

    Tests that bring a broker of their own are long and share nothing: each goes where there is room.
    """

    def is_long(item: pytest.Item) -> bool:
        return "own_broker" in item.fixturenames or item.get_closest_marker("xdist_group") is not None

    items.sort(key=is_long, reverse=True)
    for item in items:
        if not is_long(item):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_alerts() -> Path:
    """The folder of real survey packets; the test skips where a machine does not have it."""
    folder = Path(os.environ.get("ZADS_ALERTS", REPOSITORY.parent / "shared" / "alerts"))
    if not folder.is_dir():
        pytest.skip(
            f"no real packets at {folder}: set ZADS_ALERTS to a folder of survey packets to run this test"
        )
    return folder


@pytest.fixture(scope="session", autouse=True)
def zads_home_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests leave the user's ZADS_HOME alone; fetched jars are shared through the user's cache."""
    home = tmp_path_factory.mktemp("zads-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZADS_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One real Kafka broker for the whole session: use names of your own, do not stop it."""
    with Broker() as shared:
        yield shared


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A real Kafka broker for one test, to stop(), kill() and start() again on the same port."""
    with Broker() as own:
        yield own
