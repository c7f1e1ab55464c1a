"""What makes a broker a secured one: TLS on every listener, SCRAM for users, and nothing allowed by default.

| listener   | who                           | how one is known                        |
|------------|-------------------------------|-----------------------------------------|
| CLIENTS    | users and service accounts    | SCRAM-SHA-512 over TLS                  |
| INTERNAL   | the operator, other brokers   | a certificate of the broker's CA        |
| CONTROLLER | brokers and controllers       | the same                                |

The operator's certificate is what everything else begins with: no password is ever in a file of settings or
on a command line. Source: https://kafka.apache.org/41/security/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.kafka.certificates import (
    BROKER,
    CA,
    OPERATOR,
    certificates,
    principal,
    write_private,
)

REAUTHENTICATE_MS = 9_000
"""An open connection proves again who it is after so long: a removed user is out within 10 s."""


@dataclass(frozen=True)
class Security:
    """The certificates of a secured broker, ready for use."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, hosts: Sequence[str] = ()) -> Security:
        """With certificates made or renewed where they are ours to make. Raises ClusterError."""
        return cls(certificates(folder.absolute(), hosts))

    @property
    def ca(self) -> str:
        """The CA's certificate, PEM: what clients trust."""
        return (self.folder / CA).read_text()

    def settings(self) -> dict[str, str]:
        """Lines of server.properties, beside the listeners' addresses."""
        superusers = sorted({principal(self.folder / name) for name in (BROKER, OPERATOR)})
        return {
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,INTERNAL:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "INTERNAL",
            "listener.name.clients.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.internal.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "connections.max.reauth.ms": str(REAUTHENTICATE_MS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.folder / BROKER),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.folder / CA),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": ";".join(superusers),
            "allow.everyone.if.no.acl.found": "false",
        }

    def operator(self, port: int) -> dict[str, str]:
        """A Kafka client's settings (librdkafka's keys) for the operator on this machine."""
        return {
            "bootstrap.servers": f"localhost:{port}",
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.folder / CA),
            "ssl.certificate.location": str(self.folder / OPERATOR),
            "ssl.key.location": str(self.folder / OPERATOR),
        }


def write_profile(file: Path, settings: Mapping[str, str]) -> None:
    """Keep a client's settings in a file that only its owner may read (see `profile_text`)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, profile_text(settings).encode())


def profile_text(settings: Mapping[str, str]) -> str:
    """Settings as an ini file with one section, [kafka]; a value of several lines is indented."""
    lines = [f"{key} = {value.strip().replace(chr(10), chr(10) + '    ')}" for key, value in settings.items()]
    return "[kafka]\n" + "\n".join(lines) + "\n"
