"""A local Dask cluster over TLS: nobody without its certificates talks to it."""

from __future__ import annotations

import socket
import ssl

import pytest
from distributed import Client

from cluster.dask.kinds import Wanted, open_cluster


def test_only_who_has_the_certificate_of_the_run_gets_in() -> None:
    with open_cluster("local", Wanted(1, "1GiB", (), "", encrypted=True)) as address:
        assert address.startswith("tls://")
        with Client(address, set_as_default=False) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        host, _, port = address.removeprefix("tls://").rpartition(":")
        stranger = ssl.create_default_context()
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        refused = pytest.raises(ssl.SSLError, match="certificate")
        with (
            socket.create_connection((host, int(port)), 20) as plain,
            stranger.wrap_socket(plain) as by_tls,
            refused,
        ):
            by_tls.recv(1)
    with pytest.raises((OSError, TypeError, RuntimeError)):
        Client(address, timeout=2, set_as_default=False)
