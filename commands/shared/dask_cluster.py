"""The Dask cluster that a command works on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.channels.config import DaskConfig

_WORK = ("pipeline.ahead",)  # the workers run filters; most jobs of the archive need this too


@contextmanager
def dask_cluster(wanted: DaskConfig) -> Iterator[str]:
    """The address of a Dask scheduler, while the context lasts.

    Parameters
    ----------
    wanted
        With a scheduler the cluster that is there already, whose workers are given our code; without, how
        many workers to start, with how much memory each.

    Raises
    ------
    ClusterUnusable
        When the cluster cannot run our code.
    ClusterError
        For a kind that is not known, or a certificate that cannot be used.
    """
    from cluster.dask.kinds import Certificate, Wanted, open_cluster
    from pipeline.broker.profile import profile

    # Errors of the cluster are raised, and errors of a task reach the process that submitted it.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    chosen = wanted.kind or ("existing" if wanted.scheduler else "local")
    ours = Certificate(wanted.ca, wanted.certificate, wanted.key)
    all_of_it = Wanted(wanted.workers, wanted.memory, _WORK, wanted.scheduler, bool(profile()), ours)
    with open_cluster(chosen, all_of_it) as address:
        yield address


def asked_for(config: Path | None, scheduler: str | None, workers: int) -> DaskConfig:
    """[dask] of the configuration, for a command that uses a cluster only when its options ask for one.

    Parameters
    ----------
    config
        The configuration file.
    scheduler
        Of an existing cluster; None: one is started.
    workers
        How many to start.
    """
    from pipeline.channels.config import read_config

    own = {"scheduler": scheduler or "", "workers": workers, "kind": ""}
    return read_config(config).dask.model_copy(update=own)
