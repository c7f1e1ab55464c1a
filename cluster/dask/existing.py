"""An existing Dask cluster: its workers are given our code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.dask.encryption import shown
from cluster.dask.kinds import Wanted
from cluster.dask.ship import ship_code


@contextmanager
def open_cluster(wanted: Wanted) -> Iterator[str]:
    """The address that was named, while Dask shows it our certificate.

    Raises ClusterError for a certificate that cannot be used, ClusterUnusable when the workers cannot run our
    code.
    """
    with shown(wanted.ours, wanted.scheduler):
        ship_code(wanted.scheduler)
        yield wanted.scheduler
