"""One Kafka node: everything that is the same for an owned and for a detached broker."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from cluster.errors import ClusterError
from cluster.kafka import ports, preflight
from cluster.kafka.jars import kafka_jars
from cluster.kafka.jvm import ClassArchive, environment, find_java, java_command
from cluster.kafka.pins import KAFKA_VERSION, Say, to_stderr
from cluster.kafka.settings import log_properties, open_listeners, secured_listeners, server_properties
from cluster.kafka.state import Folder, State

if TYPE_CHECKING:
    from cluster.kafka.security import Security

READY_WITHIN_S = 120.0
STOPPED_WITHIN_S = 45.0  # the first broker of a machine writes the class archive as it ends
LOOK_EVERY_S = 0.02
# The quick compiler only: half the CPU of a start (1.5 s, not 2.8 s), and the first 10,000 packets of 76 kB
# cost the broker two thirds of what they cost while the optimising compiler works beside it (2 cores).
SHORT_LIVED = ["-XX:TieredStopAtLevel=1"]

# A line of a log that names an exception or an error, and the cause that explains the others.
TELLING = re.compile(r"(\w+(Exception|Error): .+)|(ERROR|FATAL) .+")
CAUSE = re.compile(r"Caused by: .+|Address already in use.*|.*No space left on device.*")


@dataclass(frozen=True)
class Launch:
    """A JVM's command, ready to be started."""

    command: list[str]
    environment: dict[str, str]
    state: State


@dataclass(frozen=True)
class Secured:
    """A broker that is to be secured.

    certificates: a folder of them, None for one of zads' own in the home; host: the name or address under
    which users on other machines know this one, "" for the last one, or this machine only.
    """

    certificates: Path | None = None
    host: str = ""


@dataclass
class Node:
    """The broker of a home: which Java, which settings, which folder.

    A broker that was secured once stays so, whether `secured` is given again or not.
    """

    folder: Folder
    port: int | None = None
    default_port: int | None = None
    java: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    say: Say = to_stderr
    short_lived: bool = False
    secured: Secured | None = None

    def refuse_if_running(self) -> None:
        """Raise ClusterError when this home's broker is alive."""
        state = self.folder.read()
        if state and state.process():
            raise ClusterError(
                f"The broker of {self.folder.root} runs already (process {state.pid}, port {state.port}): "
                "use it, stop it, or choose another home."
            )

    def prepare(self) -> Launch:
        """Fetch what is missing, choose ports, write the settings and format the data folder if it is new.

        Raises ClusterError when the machine is not fit for it (port, disk, Java, network).
        """
        preflight.check_python()
        preflight.check_disk(self.folder.root)
        java = find_java(self.java)
        last = self.folder.read()
        port = preflight.choose_port(self.port, last.port if last else None, self.default_port)
        controller = preflight.choose_port(None, last.controller_port if last else None, None)
        state = State(port, controller, KAFKA_VERSION)
        if self.is_secured:
            internal = preflight.choose_port(None, last.internal_port if last else None, None)
            host = (self.secured.host if self.secured else "") or (last.host if last else "")
            state = replace(state, internal_port=internal, host=host)
        jars = kafka_jars(self.say)
        self._write_settings(state)
        flags = [*ClassArchive(java).flags(self.folder.archive), *self._properties()]
        flags += SHORT_LIVED if self.short_lived else []
        if not (self.folder.data / "meta.properties").exists():
            self._format(java, jars)
        command = java_command(java, jars, flags, "kafka.Kafka", [str(self.folder.properties)])
        return Launch(command, environment(), state)

    @property
    def is_secured(self) -> bool:
        """Whether it is to be secured, or is and stays so."""
        return self.secured is not None or self.folder.certificates.exists()

    def security(self, host: str = "") -> Security:
        """Its certificates, made where there are none. Raises ClusterError."""
        from cluster.kafka.security import Security  # cryptography: an open broker does without

        given = self.folder.certificates
        if self.secured is not None and self.secured.certificates is not None:
            _link(given, self.secured.certificates)
        return Security.of(given, [host] if host else [])

    def _properties(self) -> list[str]:
        return [
            f"-Dlog4j2.configurationFile={self.folder.log_settings}",
            "-Dlog4j2.disableJmx=true",
            f"-Djava.io.tmpdir={self.folder.scratch}",
        ]

    def _listeners(self, state: State) -> dict[str, str]:
        if not self.is_secured:
            return open_listeners(state.ports)
        return {**secured_listeners(state.ports, state.host), **self.security(state.host).settings()}

    def operator(self, state: State) -> dict[str, str]:
        """A Kafka client's settings (librdkafka's keys) with which everything is allowed."""
        if state.internal_port is None:
            return {"bootstrap.servers": f"127.0.0.1:{state.port}"}
        return self.security(state.host).operator(state.internal_port)

    def _write_settings(self, state: State) -> None:
        # Native libraries that a killed JVM left unpacked.
        shutil.rmtree(self.folder.scratch, ignore_errors=True)
        self.folder.scratch.mkdir(parents=True)
        self.folder.properties.write_text(
            server_properties(self.folder.data, state.ports, self._listeners(state), self.settings)
        )
        self.folder.log_settings.write_text(log_properties(self.folder.log))
        self.folder.output.write_bytes(b"")

    def _format(self, java: Path, jars: list[Path]) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # Kafka takes an id that begins with a dash for an option.
        arguments = ["format", f"--cluster-id={cluster_id}", "-c", str(self.folder.properties)]
        self.tool("kafka.tools.StorageTool", arguments, java=java, jars=jars)

    def tool(
        self,
        main_class: str,
        arguments: Sequence[str],
        java: Path | None = None,
        jars: list[Path] | None = None,
    ) -> str:
        """Run one of Kafka's own command-line tools and return its output.

        Parameters
        ----------
        main_class
            Class of the tool.
        arguments
            Its arguments.
        java
            The `java` program; found where left out.
        jars
            Kafka's jars; found where left out.

        Raises
        ------
        ClusterError
            When the tool fails, with the line of its output that says why.
        """
        java, jars = java or find_java(self.java), jars or kafka_jars(self.say)
        flags = [*ClassArchive(java).flags(), *self._properties(), *SHORT_LIVED]
        command = java_command(java, jars, flags, main_class, list(arguments))
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        if done.returncode:
            said = done.stderr + done.stdout
            raise ClusterError(f"Kafka's {main_class.split('.')[-1]} failed: {telling_line(said)}")
        return done.stdout

    def wait_until_ready(self, state: State, alive: Callable[[], bool]) -> None:
        """Return when the broker has answered a request for its metadata.

        Raises ClusterError with the log's telling line when it ends before, or does not answer in time.
        """
        deadline, operator = time.monotonic() + READY_WITHIN_S, self.operator(state)
        while alive() and time.monotonic() < deadline:
            if ports.answers(state.port) and _serves(operator):
                return
            time.sleep(LOOK_EVERY_S)
        ended = "did not answer" if alive() else "ended"
        raise ClusterError(
            f"The broker {ended} while starting: {telling_line(self.said())} (log: {self.folder.log})"
        )

    def said(self) -> str:
        """Output of the JVM and the broker since the last start."""
        texts = [self.folder.output, self.folder.log]
        return "\n".join(text.read_text(errors="replace") for text in texts if text.exists())

    def adopt_archive(self) -> None:
        """Keep the class archive that a broker may have written as it ended."""
        ClassArchive(find_java(self.java)).adopt(self.folder.archive)


def _link(place: Path, to: Path) -> None:
    """Have the certificates that somebody gave stand in the home."""
    if place.is_symlink() or not place.exists():
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(to.absolute(), target_is_directory=True)
    elif not place.samefile(to):
        raise ClusterError(
            f"The broker has certificates of its own in {place}: take them away before you give others."
        )


def _serves(client_settings: Mapping[str, str]) -> bool:
    client = AdminClient({**client_settings, "log_level": 0, "error_cb": lambda _: None})
    try:
        return bool(client.list_topics(timeout=5).brokers)
    except KafkaException:
        return False


def telling_line(text: str) -> str:
    """The line that says why: the last cause named, else the last error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (CAUSE, TELLING):
        found = [match.group(0) for line in lines if (match := pattern.search(line))]
        if found:
            return found[-1]
    return lines[-1] if lines else "it said nothing"
