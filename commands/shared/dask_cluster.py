"""The Dask cluster that a command works on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_WORK = ("pipeline.worker.process",)  # the workers run filters; most jobs of the archive need this too


@contextmanager
def dask_cluster(scheduler: str | None, workers: int, memory: str = "4GiB", kind: str = "") -> Iterator[str]:
    """The address of a Dask scheduler, while the context lasts.

    Parameters
    ----------
    scheduler
        The address of a cluster that is there already; its workers are given our code.
    workers, memory
        Of a cluster that is started: how many processes, and the memory of each ("4GiB").
    kind
        One of `cluster.dask.kinds`; "existing" with a scheduler and "local" without one where left out.

    Raises
    ------
    ClusterUnusable
        When the cluster cannot run our code.
    ClusterError
        For a kind that is not known.
    """
    from cluster.dask.kinds import Wanted, open_cluster
    from pipeline.broker.profile import profile

    # Errors of the cluster are raised, and errors of a task reach the process that submitted it.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    chosen = kind or ("existing" if scheduler else "local")
    with open_cluster(
        chosen, Wanted(workers, memory, _WORK, scheduler or "", encrypted=bool(profile()))
    ) as address:
        yield address
