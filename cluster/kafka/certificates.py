"""Certificates of a secured broker: a certificate authority (CA) of its own, or files that somebody gives.

A folder of certificates holds PEM files: ca.pem; broker.pem and operator.pem, each a private key (PKCS 8, no
passphrase) followed by its certificate and what leads to the CA. With ca.key beside them they are ours to
make and to renew; without it they are taken as they are.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.errors import ClusterError

CA, CA_KEY, BROKER, OPERATOR = "ca.pem", "ca.key", "broker.pem", "operator.pem"
THIS_MACHINE = ("localhost", "127.0.0.1")
_CA_DAYS, _DAYS, _RENEW_DAYS = 3650, 397, 60
# Clocks of two machines differ.
_BEFORE = timedelta(hours=1)


def certificates(folder: Path, hosts: Sequence[str] = ()) -> Path:
    """See to it that the folder has valid certificates; returns the folder.

    hosts: names and addresses, beside those of this machine, under which clients know the broker. An empty
    folder gets a CA; with the CA's key there, a certificate that is missing, lacks a host or ends within 60
    days is made anew. Raises ClusterError naming a file that is missing, ended or cannot be read.
    """
    _make_private(folder)
    if not any((folder / name).exists() for name in (CA, CA_KEY, BROKER, OPERATOR)):
        _make_ca(folder)
    if (folder / CA_KEY).exists():
        names = (*THIS_MACHINE, *hosts)
        if not _serves(folder / BROKER, names):
            _issue(folder, BROKER, "zads-broker", names)
        if not _serves(folder / OPERATOR, ()):
            _issue(folder, OPERATOR, "zads-operator", ())
    for name in (BROKER, OPERATOR):
        _refuse_unfit(folder / name)
    _read(folder / CA)
    return folder


def principal(file: Path) -> str:
    """Who the owner of a certificate is to Kafka: its subject, as in "User:CN=zads-operator"."""
    return f"User:{_read(file).subject.rfc4514_string()}"


def _make_private(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
    except OSError as error:
        raise ClusterError(f"The certificates' folder {folder} cannot be used: {error.strerror}.") from error


def _make_ca(folder: Path) -> None:
    key = _new_key()
    name = _named("zads-ca")
    made = (
        _builder(name, name, key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(folder / CA_KEY, _pem_of(key))
    write_private(folder / CA, made.public_bytes(serialization.Encoding.PEM))


def _issue(folder: Path, file: str, name: str, hosts: Sequence[str]) -> None:
    """A new key and its certificate, signed by the folder's CA."""
    ca = _read(folder / CA)
    ca_key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), password=None)
    key = _new_key()
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    builder = (
        _builder(_named(name), ca.subject, key.public_key(), _DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternative(hosts)), critical=False)
    made = builder.sign(ca_key, hashes.SHA256())
    write_private(folder / file, _pem_of(key) + made.public_bytes(serialization.Encoding.PEM))


def _builder(subject: x509.Name, issuer: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _read(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except FileNotFoundError:
        raise ClusterError(
            f"There is no {file.name} in {file.parent}: a secured broker needs {CA}, {BROKER} and {OPERATOR},"
            " or an empty folder, where zads makes them."
        ) from None
    except ValueError as error:
        raise ClusterError(f"{file} holds no certificate that can be read: {error}.") from None


def _serves(file: Path, hosts: Sequence[str]) -> bool:
    """Whether a certificate is there, will be valid for a while, and names these hosts."""
    if not file.exists():
        return False
    found = _read(file)
    if found.not_valid_after_utc < datetime.now(UTC) + timedelta(days=_RENEW_DAYS):
        return False
    try:
        named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return not hosts
    return set(_alternative(hosts)) <= set(named)


def _refuse_unfit(file: Path) -> None:
    ends = _read(file).not_valid_after_utc
    if ends < datetime.now(UTC):
        raise ClusterError(f"The certificate {file} ended on {ends:%Y-%m-%d}: put a new one in its place.")
    if b"PRIVATE KEY" not in file.read_bytes():
        raise ClusterError(f"{file} holds no private key: it is to be followed by its certificate.")
    if file.stat().st_mode & 0o077:
        raise ClusterError(f"Others may read the private key in {file}: `chmod 600 {file}` first.")


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read; a reader sees the old or the new one."""
    part = file.with_name(f".{file.name}-{os.getpid()}")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    os.replace(part, file)
