"""A Dask cluster that somebody else started, without our code; and two replicas that share a group."""

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client

from cluster.dask.ship import ClusterUnusable, code_version, ship_code
from cluster.kafka.ports import free_port
from tests.pipeline import night as nights
from tests.pipeline.night import assert_exactly_once, publish_night, running

ON_FOUR = ("--channels", ",".join(nights.CHANNELS))
# Without site's .pth files the packages are there, and this checkout is not.
FOREIGN = "import sys; sys.path.append({packages!r}); from distributed.cli.{program} import main; main()"


@contextmanager
def foreign_process(program: str, folder: Path, *arguments: str) -> Iterator[None]:
    """A Dask program as on a machine that has the packages but not our code."""
    code = FOREIGN.format(packages=sysconfig.get_path("purelib"), program=program)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / f"{program}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", code, *arguments],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def foreign_cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler with a worker that lacks our code (and will compile all of it)."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    with ExitStack() as stack:
        scheduler = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        stack.enter_context(foreign_process("dask_scheduler", folder, *scheduler))
        workers = (address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard")
        stack.enter_context(foreign_process("dask_worker", folder, *workers))
        with Client(address, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            assert set(client.run(lacks_our_code).values()) == {True}
        yield address


def lacks_our_code() -> bool:
    """Whether a worker cannot import us."""
    import importlib.util

    return importlib.util.find_spec("schemas") is None


lacks_our_code.__module__ = "__main__"  # travels by value


def test_a_cluster_without_our_code_is_given_it(foreign_cluster, own_broker, tmp_path):
    publish_night(own_broker.bootstrap_servers)
    arguments = (*ON_FOUR, "--scheduler", foreign_cluster, "--until-drained")
    with running(own_broker.bootstrap_servers, tmp_path, *arguments) as run:
        assert run.wait() == 0, run.text()
    assert_exactly_once(own_broker.bootstrap_servers)
    with Client(foreign_cluster, set_as_default=False) as client:
        assert set(client.run(code_version).values()) == {code_version()}


def test_no_scheduler_there(tmp_path):
    with pytest.raises(ClusterUnusable, match="no Dask scheduler answers"):
        ship_code(f"tcp://127.0.0.1:{free_port()}")


def test_two_replicas_share_a_night_and_one_dies(own_broker, tmp_path):
    bootstrap, alerts = own_broker.bootstrap_servers, nights.night()
    (tmp_path / "zads.toml").write_text("[dispatch]\nmessages = 25\n")
    publish_night(bootstrap, alerts[:100])  # so that there are topics to share
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(
                running(bootstrap, folder_of(tmp_path, name), *ON_FOUR, "--workers", "1", "--replica", name)
            )
            for name in ("one", "two")
        )
        for run in (one, two):
            run.until(lambda run=run: "partitions assigned" in run.text(), "a share of the partitions")
        one.until_in_its_middle()
        publish_night(bootstrap, alerts[100:])
        time.sleep(1.0)
        one.kill()
        # What the dead one left is the other's once its session has ended.
        wanted = nights.expected("real_bogus")
        two.until(lambda: nights.delivered(bootstrap, "channel.real_bogus") == wanted, "all delivered", 120)
        two.process.terminate()
        assert two.wait(60) == 0, two.text()
    assert_exactly_once(bootstrap)


def folder_of(parent: Path, replica: str) -> Path:
    """A working folder with the settings of all."""
    folder = parent / replica
    folder.mkdir()
    (folder / "zads.toml").write_text((parent / "zads.toml").read_text())
    return folder
