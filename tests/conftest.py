"""Fixtures shared by all rooms' tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from cluster.kafka.broker import Broker
from filters.sandbox.ladder import lacking

# How long an example takes says more of the machine than of the law.
settings.register_profile("zads", deadline=None, max_examples=50)
settings.load_profile("zads")

# pytest-xdist's workers ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


APART = {
    "test_exactly_once.py",
    "test_failing_filters.py",
    "test_changing_channels.py",
    "test_many_machines.py",
    "test_follow.py",
    "test_detached.py",
    "test_broker.py",
}
"""Modules whose tests share nothing: each has a broker of its own."""
LONG = {"test_parity.py", "test_docs.py", "test_notebooks.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: "own_broker" not in item.fixturenames and item.path.name not in LONG)


class ByModule(LoadScopeScheduling):
    """What the tests of a module share is made in one process, unless each test has a broker of its own."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, _ = nodeid.partition("::")
        return nodeid if Path(module).name in APART else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModule:
    """Called by pytest-xdist (whose `--dist loadgroup` groups nothing under pytest 9)."""
    return ByModule(config, log)


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


@pytest.fixture(scope="session", autouse=True)
def tests_keep_their_priority() -> Iterator[None]:
    """A command that steps back for others does not slow down all the tests that come after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "nice", lambda increment: 0)
        yield


@pytest.fixture(scope="module", autouse=True)
def dask_goes_by_itself() -> Iterator[None]:
    """No module leaves Dask with a cluster that has ended.

    Of two clients the one that is closed last puts back what the other had set.
    """
    yield
    if dask.config.get("scheduler", None) == "dask.distributed":
        dask.config.set(scheduler=None)


@pytest.fixture(scope="session")
def walls() -> None:
    """Skips where this machine cannot confine strangers' code."""
    if why := lacking():
        pytest.skip(f"this machine has no sandbox: {why}")


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
