"""Dask over TLS: who has no certificate of this run's own CA cannot talk to its scheduler or workers.

A scheduler's open port runs what anybody sends it, with the rights, and the profile, of who started it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask


@contextmanager
def encrypted() -> Iterator[None]:
    """Dask, as this process uses it within the block, talks TLS, with certificates that go with the block."""
    from cluster.kafka.certificates import certificates  # cryptography: a cluster without TLS does without

    with tempfile.TemporaryDirectory(prefix="zads-dask-") as place:
        folder = certificates(Path(place) / "tls")
        with dask.config.set(tls_settings(folder)):
            yield


def tls_settings(folder: Path) -> dict[str, Any]:
    """Dask's settings for a folder of certificates (`cluster.kafka.certificates`)."""
    from cluster.kafka.certificates import BROKER, CA, OPERATOR

    server, client = ({"cert": str(folder / f), "key": str(folder / f)} for f in (BROKER, OPERATOR))
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": str(folder / CA),
        "distributed.comm.tls.scheduler": server,
        "distributed.comm.tls.worker": server,
        "distributed.comm.tls.client": client,
    }
