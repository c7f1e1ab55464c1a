"""Dask over TLS: who has no certificate of its CA cannot talk to a scheduler or its workers.

A cluster that zads starts has a CA of its own for as long as it runs; for one that is there already, the
configuration names the files.

A scheduler's open port runs what anybody sends it, with the rights, and the profile, of who started it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask

from cluster.dask.kinds import Certificate
from cluster.errors import ClusterError

_TLS = "distributed.comm.tls"


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
        f"{_TLS}.ca-file": str(folder / CA),
        f"{_TLS}.scheduler": server,
        f"{_TLS}.worker": server,
        f"{_TLS}.client": client,
    }


@contextmanager
def shown(ours: Certificate, scheduler: str) -> Iterator[None]:
    """Dask, as this process uses it within the block, shows an existing cluster our certificate.

    Parameters
    ----------
    ours
        The files; without any, what Dask's own settings say.
    scheduler
        The cluster's address.

    Raises
    ------
    ClusterError
        When a file is missing or may be read by others, or the address is not of a cluster that talks TLS.
    """
    if ours == Certificate():
        if scheduler.startswith("tls://") and not dask.config.get(f"{_TLS}.client.cert", None):
            raise ClusterError(
                f"{scheduler} talks TLS, and no certificate is named: `ca`, `certificate` and `key` of [dask]"
            )
        yield
        return
    with dask.config.set(_client_settings(ours, scheduler)):
        yield


def _client_settings(ours: Certificate, scheduler: str) -> dict[str, Any]:
    if not scheduler.startswith("tls://"):
        raise ClusterError(f"[dask] names a certificate, but {scheduler} does not talk TLS: write tls://")
    for name, file in vars(ours).items():
        if not file:
            raise ClusterError(f"[dask] names a certificate without `{name}`: ca, certificate and key")
        if not Path(file).is_file():
            raise ClusterError(f"`{name}` of [dask]: no file at {file}")
    if Path(ours.key).stat().st_mode & 0o077:
        raise ClusterError(f"Others may read the private key in {ours.key}: `chmod 600 {ours.key}` first.")
    return {
        "distributed.comm.require-encryption": True,
        f"{_TLS}.ca-file": ours.ca,
        f"{_TLS}.client": {"cert": ours.certificate, "key": ours.key},
    }
