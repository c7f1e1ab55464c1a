"""Dask on this machine: its settings in the workers, its memory limit, and that no worker is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
from distributed import Client, KilledWorker

from cluster.dask.local import OOM_SCORE, SETTINGS, local_cluster
from tests.cluster.helpers import eventually, is_alive

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of a cluster of two small workers."""
    with local_cluster(workers=2, memory="1GiB") as cluster, Client(cluster) as client:
        yield client


def test_workers_are_processes_with_one_thread(client: Client) -> None:
    pids = client.run(os.getpid)
    assert len({*pids.values(), os.getpid()}) == 3
    assert set(client.nthreads().values()) == {1}


def test_settings_hold_in_every_worker(client: Client) -> None:
    def seen() -> dict:
        return {name: dask.config.get(name) for name in SETTINGS}

    assert list(client.run(seen).values()) == [SETTINGS] * 2
    assert client.cluster.scheduler.allowed_failures == 0
    assert dask.config.get("distributed.scheduler.allowed-failures") != 0, "only this cluster is set so"


def data_of_many_consumers() -> tuple[int, int]:
    """Threads and bytes of data memory that ten idle Kafka consumers take."""
    from confluent_kafka import Consumer

    def now() -> tuple[int, int]:
        words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(words["Threads"]), int(words["VmData"].split()[0]) * 1024

    threads, size = now()
    consumers = [Consumer({"bootstrap.servers": "127.0.0.1:9", "group.id": "g"}) for _ in range(10)]
    more_threads, more = now()
    for consumer in consumers:
        consumer.close()
    return more_threads - threads, more - size


def test_many_kafka_clients_fit_into_the_memory_limit(client: Client) -> None:
    """With stacks of 8 MB thirty partitions filled a worker's limit without a byte in use."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux counts a process's data memory")
    threads, size = client.submit(data_of_many_consumers, pure=False).result()
    assert threads >= 30
    assert size < 10 * 8_000_000


def eat_at_once() -> float:
    return float(np.ones(10**10).sum())


def test_a_task_that_wants_more_memory_than_there_can_be_gets_a_memory_error(client: Client) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux counts a process's data memory")
    before = set(client.run(os.getpid).values())
    with pytest.raises(MemoryError):
        client.submit(eat_at_once, pure=False).result()
    assert set(client.run(os.getpid).values()) == before, "no worker had to be ended"
    assert client.submit(sum, [1, 2], pure=False).result() == 3


def test_the_kernel_ends_workers_before_a_broker(client: Client) -> None:
    score = Path("/proc/self/oom_score_adj")
    if not score.exists():
        pytest.skip("only Linux has such a score")
    assert set(client.run(lambda: int(score.read_text())).values()) == {OOM_SCORE}
    assert int(score.read_text()) < OOM_SCORE


def test_a_worker_that_dies_fails_its_task_once_and_comes_back(client: Client) -> None:
    with pytest.raises(KilledWorker):
        client.submit(os._exit, 1, pure=False).result()
    client.wait_for_workers(2, timeout=60)
    assert client.submit(sum, [1, 2], pure=False).result() == 3


def test_ctrl_c_leaves_the_workers_to_the_owner_of_the_cluster(client: Client) -> None:
    before = set(client.run(os.getpid).values())
    for pid in before:
        os.kill(pid, signal.SIGINT)
    assert client.submit(sum, [1, 2], pure=False).result() == 3
    assert set(client.run(os.getpid).values()) == before


PARENT = """
import time
from distributed import Client
from cluster.dask.local import local_cluster

def spin():
    while True: pass

if __name__ == "__main__":
    with local_cluster(workers=2) as cluster, Client(cluster) as client:
        busy = client.submit(spin)
        print(*[nanny.pid for nanny in cluster.workers.values()], flush=True)
        time.sleep(600)
"""


def test_no_worker_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        family = [each.pid for each in psutil.Process(parent.pid).children(recursive=True)]
        assert len(workers) == 2
        assert set(workers) <= set(family)
        parent.kill()
    assert eventually(lambda: not any(is_alive(pid) for pid in family))


def test_the_dashboard_is_served_on_a_free_port() -> None:
    import urllib.request

    with local_cluster(workers=1, dashboard=True) as cluster:
        assert "127.0.0.1" in cluster.dashboard_link
        with urllib.request.urlopen(cluster.dashboard_link) as page:
            assert page.status == 200
