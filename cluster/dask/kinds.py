"""The kinds of Dask cluster that zads can work on: one file and one line each."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cluster.errors import ClusterError

KINDS = {
    "local": "cluster.dask.local",
    "existing": "cluster.dask.existing",
}
"""Kind -> module with `open_cluster(wanted)`, a context manager that gives the address of a scheduler."""


@dataclass(frozen=True)
class Certificate:
    """PEM files: the CA of a cluster, our own certificate and its key; "" for none."""

    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a cluster is to be like.

    workers: how many processes. memory: of each, such as "4GiB". preload: modules that each worker has from
    its beginning. scheduler: the address of a cluster that is there already, "" for none. encrypted: whether
    a cluster that is started talks TLS, with certificates of its own. ours: who we are to one that is there.
    """

    workers: int = 2
    memory: str = "4GiB"
    preload: tuple[str, ...] = ()
    scheduler: str = ""
    encrypted: bool = False
    ours: Certificate = Certificate()


def open_cluster(kind: str, wanted: Wanted) -> AbstractContextManager[str]:
    """The address of a scheduler, while the context lasts. Raises ClusterError for an unknown kind."""
    if kind not in KINDS:
        raise ClusterError(f"no kind of cluster {kind!r}; there are {', '.join(KINDS)}")
    made: AbstractContextManager[str] = importlib.import_module(KINDS[kind]).open_cluster(wanted)
    return made
