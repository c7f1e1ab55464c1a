"""How much a user may read, write and ask for: Kafka's quotas, through Kafka's own tool.

librdkafka has no calls for them. A quota holds for all clients of a user together, on each broker; Kafka
keeps it by answering later. It counts over the last 11 seconds, so after a pause a user gets some seconds'
worth at once. Source: https://kafka.apache.org/41/operations/multi-tenancy/
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import ClusterError
from cluster.kafka.certificates import write_private
from cluster.kafka.node import Node
from cluster.kafka.settings import log_properties
from cluster.kafka.state import Folder

READ, WRITE, REQUESTS = "consumer_byte_rate", "producer_byte_rate", "request_percentage"
"""Kafka's names: bytes a second read and written, per cent of one thread of the broker."""
_TOOL = "kafka.admin.ConfigCommand"
_MECHANISM = "org.apache.kafka.common.security.scram.ScramLoginModule"


def set_quotas(user: str, quotas: Mapping[str, float | None], client: Mapping[str, str]) -> None:
    """Set or lift quotas of a user; those that are not named stay.

    Parameters
    ----------
    user
        The user's name.
    quotas
        READ, WRITE or REQUESTS -> the most, None to lift it.
    client
        An operator's settings (librdkafka's keys).

    Raises
    ------
    ClusterError
        When the broker refuses.
    """
    given = ",".join(f"{name}={most}" for name, most in quotas.items() if most is not None)
    lifted = ",".join(name for name, most in quotas.items() if most is None)
    changes = [*(["--add-config", given] if given else []), *(["--delete-config", lifted] if lifted else [])]
    _run(["--alter", *changes, *_of(user)], client)


def quotas_of(user: str, client: Mapping[str, str]) -> dict[str, float]:
    """READ, WRITE and REQUESTS of a user, those that are set. Raises ClusterError."""
    said = _run(["--describe", *_of(user)], client)
    found = dict(re.findall(r"(\w+)=([\d.E]+)", said))
    return {name: float(found[name]) for name in (READ, WRITE, REQUESTS) if name in found}


def _of(user: str) -> list[str]:
    return ["--entity-type", "users", "--entity-name", user]


def _run(arguments: list[str], client: Mapping[str, str]) -> str:
    """Run the tool; what is secret goes through a file that only we may read."""
    with tempfile.TemporaryDirectory(prefix="zads-quotas-") as place:
        folder = Folder(Path(place))
        folder.scratch.mkdir()
        folder.log_settings.write_text(log_properties(folder.log))
        write_private(folder.properties, java_properties(client).encode())
        where = [
            "--bootstrap-server",
            client["bootstrap.servers"],
            "--command-config",
            str(folder.properties),
        ]
        return Node(folder).tool(_TOOL, [*where, *arguments])


def java_properties(client: Mapping[str, str]) -> str:
    """librdkafka's settings as those of a Java client. Raises ClusterError for what has no counterpart."""
    protocol = client.get("security.protocol", "PLAINTEXT")
    lines = {"security.protocol": protocol}
    if "SASL" in protocol:
        name, password = (client[f"sasl.{key}"].replace('"', '\\"') for key in ("username", "password"))
        lines["sasl.mechanism"] = client["sasl.mechanism"]
        lines["sasl.jaas.config"] = f'{_MECHANISM} required username="{name}" password="{password}";'
    trusted = client.get("ssl.ca.pem") or _text(client.get("ssl.ca.location"))
    if trusted:
        lines |= {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": trusted}
    if "ssl.key.location" in client:
        key, certificate = _text(client["ssl.key.location"]), _text(client["ssl.certificate.location"])
        lines |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.key": key,
            "ssl.keystore.certificate.chain": certificate,
        }
    return "".join(f"{name}={_escaped(value)}\n" for name, value in lines.items())


def _text(file: str | None) -> str:
    if file is None:
        return ""
    try:
        return Path(file).read_text()
    except OSError as error:
        raise ClusterError(f"The file {file} of the profile cannot be read: {error.strerror}.") from None


def _escaped(value: str) -> str:
    """On one line of a properties file."""
    return value.replace("\\", "\\\\").strip().replace("\n", "\\n")
