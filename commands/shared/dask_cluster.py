"""The Dask cluster that a command works on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_WORK = ("pipeline.worker.process",)  # what the workers are for; the archive's jobs need most of it too


@contextmanager
def dask_cluster(scheduler: str | None, workers: int, memory: str = "4GiB") -> Iterator[str]:
    """The address of the scheduler that was named, or of a cluster on this machine while it lasts.

    Workers of a named one are given our code. Raises ClusterUnusable when that cannot be.
    """
    # What makes a cluster useless is raised, and who submitted a task hears of its failure.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler:
        from cluster.dask.ship import ship_code

        ship_code(scheduler)
        yield scheduler
        return
    from cluster.dask.local import local_cluster

    with local_cluster(workers=workers, memory=memory, preload=_WORK) as cluster:
        yield cluster.scheduler_address
