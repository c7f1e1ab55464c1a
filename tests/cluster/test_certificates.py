"""Certificates of a secured broker: made, renewed, given; and that a secured broker stays one."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from cryptography import x509

from cluster.errors import ClusterError
from cluster.kafka import certificates as made_here
from cluster.kafka.broker import Broker
from cluster.kafka.certificates import certificates, principal
from cluster.kafka.node import Secured


def names_in(file: Path) -> set[str]:
    found = x509.load_pem_x509_certificate(file.read_bytes())
    named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in named}


def test_what_is_made_is_for_its_owner_and_names_the_hosts(tmp_path: Path) -> None:
    folder = certificates(tmp_path / "made", ["kafka.example.org"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert names_in(folder / "broker.pem") == {"localhost", "127.0.0.1", "kafka.example.org"}
    assert principal(folder / "operator.pem") == "User:CN=zads-operator"


def test_what_serves_stays_and_what_does_not_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"

    def contents(*hosts: str) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in certificates(folder, hosts).iterdir()}

    first = contents()
    assert contents() == first
    second = contents("other.example.org")
    assert {name for name in first if first[name] != second[name]} == {"broker.pem"}
    later = datetime.now(UTC) + timedelta(days=350)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return later

    monkeypatch.setattr(made_here, "datetime", Later)
    third = contents("other.example.org")
    assert {name for name in third if third[name] != second[name]} == {"broker.pem", "operator.pem"}


def test_given_certificates_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = certificates(tmp_path / "given")
    (folder / "ca.key").unlink()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    certificates(folder, ["another.example.org"])
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    (folder / "broker.pem").chmod(0o640)
    with pytest.raises(ClusterError, match="chmod 600"):
        certificates(folder)
    (folder / "broker.pem").unlink()
    with pytest.raises(ClusterError, match=r"no broker\.pem"):
        certificates(folder)
    (folder / "broker.pem").write_text("nothing")
    with pytest.raises(ClusterError, match="no certificate that can be read"):
        certificates(folder)


def test_a_secured_broker_stays_secured(tmp_path: Path) -> None:
    """Also when it is started as an open one is."""
    given = certificates(tmp_path / "given")
    with Broker(tmp_path / "home", secured=Secured(given)) as broker:
        assert AdminClient(broker.operator).list_topics(timeout=20).brokers
    with Broker(tmp_path / "home") as broker:
        assert AdminClient(broker.operator).list_topics(timeout=20).brokers
        with pytest.raises(KafkaException):
            AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=1)
    own = tmp_path / "home" / "kafka" / "certificates"
    own.unlink()
    certificates(own)
    with pytest.raises(ClusterError, match="take them away"):
        Broker(tmp_path / "home", secured=Secured(given)).start()
