"""Dask over TLS: nobody without its certificates talks to a cluster, be it ours or one that was there."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client

from cluster.dask.encryption import shown
from cluster.dask.kinds import Certificate, Wanted, open_cluster
from cluster.dask.ship import ClusterUnusable, ship_code
from cluster.errors import ClusterError
from cluster.kafka.broker import Broker
from cluster.kafka.certificates import BROKER, CA, OPERATOR, certificates
from cluster.kafka.ports import free_port
from pipeline.broker.listen import listen
from pipeline.clients.publish import publish_packets
from tests.pipeline.night import night, running


def refuses_a_stranger(address: str) -> None:
    """A client that shows no certificate is sent away by the scheduler."""
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


def test_only_who_has_the_certificate_of_the_run_gets_in() -> None:
    with open_cluster("local", Wanted(1, "1GiB", (), "", encrypted=True)) as address:
        assert address.startswith("tls://")
        with Client(address, set_as_default=False) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        refuses_a_stranger(address)
    with pytest.raises((OSError, TypeError, RuntimeError)):
        Client(address, timeout=2, set_as_default=False)


@contextmanager
def dask_program(folder: Path, name: str, *arguments: str) -> Iterator[None]:
    """`dask scheduler` or `dask worker`, as somebody else starts it."""
    tls = ("--protocol", "tls", "--tls-ca-file", f"{folder / CA}")
    own = ("--tls-cert", f"{folder / BROKER}", "--tls-key", f"{folder / BROKER}", "--no-dashboard")
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", name, *arguments, *tls, *own], stdout=log, stderr=log, cwd=folder
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a scheduler with a worker that both want certificates, and the folder of these."""
    folder = certificates(tmp_path_factory.mktemp("existing") / "tls")
    address = f"tls://127.0.0.1:{(port := free_port())}"
    with ExitStack() as stack:
        stack.enter_context(dask_program(folder, "scheduler", "--host", "127.0.0.1", "--port", str(port)))
        stack.enter_context(dask_program(folder, "worker", address, "--nworkers", "1", "--nthreads", "1"))
        with shown(ours(folder), address), Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield address, folder


def ours(folder: Path) -> Certificate:
    return Certificate(f"{folder / CA}", f"{folder / OPERATOR}", f"{folder / OPERATOR}")


def test_a_run_on_an_existing_cluster_that_talks_tls(
    existing: tuple[str, Path], broker: Broker, tmp_path: Path
) -> None:
    address, folder = existing
    mine = ours(folder)
    (tmp_path / "zads.toml").write_text(
        f'[dask]\nca = "{mine.ca}"\ncertificate = "{mine.certificate}"\nkey = "{mine.key}"\n'
        '[channels.by_tls]\nwhere = "rb >= 0"\n'
    )
    public = [alert for alert in night()[:60] if alert.programid == 1]
    publish_packets([alert.packet for alert in public], broker.bootstrap_servers, topic="of-tls")
    flags = ("--topics", "of-tls", "--group", "of-tls", "--scheduler", address, "--until-drained")
    with running(broker.bootstrap_servers, tmp_path, *flags) as run:
        assert run.wait() == 0, run.text()
    heard = listen("channel.by_tls", broker.bootstrap_servers, until_drained=True)
    assert sorted(alert.candid for alert in heard) == sorted(alert.candid for alert in public)
    refuses_a_stranger(address)


def test_another_certificate_does_not_get_in(existing: tuple[str, Path], tmp_path: Path) -> None:
    """One that another authority has signed."""
    address, folder = existing
    theirs = certificates(tmp_path / "theirs")
    half = Certificate(f"{folder / CA}", f"{theirs / OPERATOR}", f"{theirs / OPERATOR}")
    with shown(half, address), pytest.raises(ClusterUnusable, match="no Dask scheduler answers"):
        ship_code(address)


def test_what_is_wrong_with_a_certificate_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    folder = certificates(tmp_path / "tls")
    good = ours(folder)
    shutil.copy(good.key, readable := folder / "readable.pem")
    readable.chmod(0o644)
    for words, wrong, address in (
        ("does not talk TLS", good, "tcp://h:1"),
        ("without `ca`", Certificate("", good.certificate, good.key), "tls://h:1"),
        ("`key` of .dask.: no file", Certificate(good.ca, good.certificate, "nowhere.pem"), "tls://h:1"),
        ("chmod 600", Certificate(good.ca, good.certificate, f"{readable}"), "tls://h:1"),
        ("no certificate is named", Certificate(), "tls://h:1"),
    ):
        with pytest.raises(ClusterError, match=words), shown(wrong, address):
            raise AssertionError("it was used")
