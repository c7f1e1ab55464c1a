"""Dask on this machine: worker processes under nannies, set for tasks that must not be run twice."""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import LocalCluster, Worker, WorkerPlugin
from distributed.security import Security
from distributed.utils import get_mp_context

from cluster.dask.encryption import encrypted
from cluster.dask.kinds import Wanted

# A batch is retried by the stream, after looking at what was committed, never by Dask: exactly once needs
# it. And nothing is worth spilling: a worker that fills up is ended and begins anew.
SETTINGS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,  # looks at every thread 100 times a second
    # What wakes every process up for nothing: work is pinned, and has one copy.
    "distributed.admin.tick.interval": "500ms",  # by which an event loop is said to stand still; 20 ms
    "distributed.worker.memory.monitor-interval": "250ms",  # 100 ms
    "distributed.admin.system-monitor.interval": "5s",  # numbers for Dask's own page; 500 ms
    "distributed.admin.system-monitor.disk": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
}
# Read whenever a worker begins or ends, long after the cluster has been made.
LATER: dict[str, Any] = {
    # A worker that ends comes back by its nanny. After this time the cluster would look once and end the
    # nanny of a worker that is just then away again: two deaths 15 s apart, and it was gone for good.
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # Workers are forked from one process that has imported everything: the second one, and each that comes
    # after a death, is there at once and costs no CPU seconds.
    "distributed.worker.multiprocessing-method": "forkserver",
}
CEILING = 4
"""Data memory (address space, thread stacks included) of a worker, in units of its memory."""
OOM_SCORE = 500
"""A machine without memory ends workers first, which come back, and not its broker (whose score stays 0)."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # that glibc takes


@dataclass
class DataLimit(WorkerPlugin):
    """Limits the data memory (bytes, RLIMIT_DATA) of a worker: beyond it an allocation raises MemoryError.

    A ceiling: what is resident is limited by the nanny, and filters by the stream. Only Linux counts all
    private memory there.
    """

    limit: int
    name: str = "zads-data-limit"

    def setup(self, worker: Worker) -> None:
        """Set the limit in the worker's process."""
        if not sys.platform.startswith("linux"):
            return
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = self.limit if hard == resource.RLIM_INFINITY else min(self.limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@dataclass
class FirstToGo(WorkerPlugin):
    """Offers the worker to the kernel when the machine has no memory left."""

    name: str = "zads-first-to-go"

    def setup(self, worker: Worker) -> None:
        """Raise the score of the worker's process; nothing where there is no such thing."""
        score = Path("/proc/self/oom_score_adj")
        if score.exists() and int(score.read_text()) < OOM_SCORE:
            score.write_text(str(OOM_SCORE))


@dataclass
class SmallStacks(WorkerPlugin):
    """Gives the threads that begin from now on stacks of `size` bytes instead of 8 MB.

    Each Kafka client starts a handful of threads, whose stacks count as data memory though hardly any of it
    is used. The thread that runs tasks, and so users' code, begins before with a stack of the usual size.
    """

    size: int = 1 << 20
    name: str = "zads-small-stacks"

    def setup(self, worker: Worker) -> None:
        """Set the default of the C library; nothing where it has none."""
        worker.executors["default"].submit(int).result()
        default = getattr(ctypes.CDLL(None), "pthread_setattr_default_np", None)
        if default is None:
            return
        library, attributes = ctypes.CDLL(None), ctypes.create_string_buffer(128)
        library.pthread_attr_init(attributes)
        library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(self.size))
        default(attributes)


@dataclass
class KeptMemory(WorkerPlugin):
    """Has the C library keep what was freed, up to `size` bytes, instead of giving it back at once.

    A fetch of alert packets is megabytes that come and go many times a second. glibc gives such blocks back
    to the kernel (Dask asks it to do so for anything above 64 kB), which then clears each page again at its
    next use: a tenth of all CPU time in a burst of Rubin alerts.
    """

    size: int = 256 << 20
    name: str = "zads-kept-memory"

    def setup(self, worker: Worker) -> None:
        """Set it in the worker's process; nothing where the C library has no such setting."""
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            mallopt(_M_TRIM_THRESHOLD, self.size)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C is delayed until the end of the block; threads and processes that start in it ignore Ctrl-C.

    Ctrl-C reaches every process of a terminal, but only the process that owns the cluster must handle it.
    """
    resource_tracker.ensure_running()  # when it starts it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def local_cluster(
    workers: int = 2,
    memory: str = "4GiB",
    *,
    dashboard: bool = False,
    preload: Sequence[str] = (),
    protocol: str = "tcp://",
) -> LocalCluster:
    """A cluster of worker processes on this machine, one task thread each; they end with this process.

    Scripts must call this below `if __name__ == "__main__":`, because the workers import them again.

    Parameters
    ----------
    workers
        Number of processes.
    memory
        Memory of each, such as "4GiB".
    dashboard
        Serve Dask's web page on a free port of 127.0.0.1 (`cluster.dashboard_link`).
    preload
        Modules that every worker imports before it starts.
    protocol
        "tls://" within `cluster.dask.encryption.encrypted`.
    """
    limit = parse_bytes(memory)
    dask.config.set(LATER)
    get_mp_context().set_forkserver_preload(["distributed", *preload])
    with _ctrl_c_waits(), dask.config.set(SETTINGS):  # read by the scheduler and the nannies as they are made
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=limit,
            host="127.0.0.1",
            protocol=protocol,
            security=Security(),  # as Dask's settings say
            dashboard_address="127.0.0.1:0",  # without a page too, for Dask serves its health there
            scheduler_kwargs={"dashboard": dashboard},
            silence_logs=logging.CRITICAL,  # a failed task is reported by who submitted it
            config=SETTINGS,  # also for workers that are added later
            plugins=(SmallStacks(), KeptMemory(), DataLimit(CEILING * limit), FirstToGo()),
        )


@contextmanager
def open_cluster(wanted: Wanted) -> Iterator[str]:
    """A cluster of this process: the address of its scheduler."""
    protocol = "tls://" if wanted.encrypted else "tcp://"
    with ExitStack() as stack:
        if wanted.encrypted:
            stack.enter_context(encrypted())
        made = local_cluster(wanted.workers, wanted.memory, preload=wanted.preload, protocol=protocol)
        yield stack.enter_context(made).scheduler_address
