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


@contextmanager
def cluster_at(port: int, folder: Path, through: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler at a port, with a worker; gives the scheduler's process.

    through: the port at which the worker finds the scheduler, when that is another.
    """
    dask = [sys.executable, "-m", "dask"]
    address = f"tcp://127.0.0.1:{through or port}"
    commands = (
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        [*dask, "worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard"],
    )
    environment = {**os.environ, "PYTHONPATH": str(nights.REPOSITORY)}
    with (folder / "dask.log").open("ab") as log:
        processes = [
            subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
            for command in commands
        ]
    try:
        yield processes[0]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


@pytest.mark.soak
@pytest.mark.parametrize("away", [0.0, 90.0])
def test_a_scheduler_that_is_started_again_is_gone_on_with(own_broker, tmp_path, away):
    """Dask's own client waits for half a minute, and then never again."""
    bootstrap, alerts, port = own_broker.bootstrap_servers, nights.night(), free_port()
    publish_night(bootstrap, alerts[:200])
    flags = ("--channels", "real_bogus", "--scheduler", f"tcp://127.0.0.1:{port}")
    with ExitStack() as stack:
        with cluster_at(port, tmp_path) as scheduler:
            with Client(f"tcp://127.0.0.1:{port}", timeout=30, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
            run = stack.enter_context(running(bootstrap, tmp_path, *flags))
            run.until_in_its_middle()
            publish_night(bootstrap, alerts[200:400])
            scheduler.kill()
            run.until(lambda: "scheduler does not answer" in run.text(), "it is missed")
        time.sleep(away)
        publish_night(bootstrap, alerts[400:600])
        stack.enter_context(cluster_at(port, tmp_path))
        wanted = nights.expected("real_bogus", alerts[:600])
        run.until(lambda: nights.delivered(bootstrap, "channel.real_bogus") == wanted, "everything", 120)
        run.process.terminate()
        assert run.wait(60) == 0, run.text()
    assert "scheduler is there again" in " ".join(run.text().split())


def test_no_scheduler_there(tmp_path):
    with pytest.raises(ClusterUnusable, match="no Dask scheduler answers"):
        ship_code(f"tcp://127.0.0.1:{free_port()}")


def test_two_replicas_share_a_night_and_one_dies(own_broker, tmp_path):
    bootstrap, alerts = own_broker.bootstrap_servers, nights.night()
    (tmp_path / "zads.toml").write_text("[dispatch]\nmessages = 6\n")
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
