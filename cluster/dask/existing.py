"""An existing Dask cluster: its workers are given our code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.dask.kinds import Wanted
from cluster.dask.ship import ship_code


@contextmanager
def open_cluster(wanted: Wanted) -> Iterator[str]:
    """The address that was named. Raises ClusterUnusable when its workers cannot run our code."""
    ship_code(wanted.scheduler)
    yield wanted.scheduler
