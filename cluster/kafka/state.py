"""The state of a broker, written in its home, and whether it is still true."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cluster.errors import ClusterError
from cluster.kafka.settings import Ports


@dataclass(frozen=True)
class State:
    """The last broker of a home: ports are kept for the next start; pid and created tell its process.

    `created` is the process's start time (s since 1970): a reused number is not it. internal_port, host: of a
    secured broker.
    """

    port: int
    controller_port: int
    version: str
    pid: int | None = None
    created: float | None = None
    owned: bool = False
    internal_port: int | None = None
    host: str = ""

    @property
    def ports(self) -> Ports:
        """Where it listens."""
        return Ports(self.port, self.controller_port, self.internal_port)

    def process(self) -> psutil.Process | None:
        """The living process, or None."""
        if self.pid is None:
            return None
        try:
            process = psutil.Process(self.pid)
            same = process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None


@dataclass(frozen=True)
class Folder:
    """The files of a broker below a home."""

    root: Path

    @classmethod
    def below(cls, home: Path) -> Folder:
        """The broker's folder of a zads home."""
        return cls(home.absolute() / "kafka")

    @property
    def data(self) -> Path:
        """Kafka's log directory."""
        return self.root / "data"

    @property
    def properties(self) -> Path:
        """server.properties, written at each start."""
        return self.root / "server.properties"

    @property
    def certificates(self) -> Path:
        """A secured broker's certificates; a broker that has them is secured."""
        return self.root / "certificates"

    @property
    def log_settings(self) -> Path:
        """log4j's settings, written at each start."""
        return self.root / "log4j2.properties"

    @property
    def log(self) -> Path:
        """The broker's log."""
        return self.root / "broker.log"

    @property
    def output(self) -> Path:
        """Output of the JVM since the last start."""
        return self.root / "jvm.log"

    @property
    def scratch(self) -> Path:
        """The JVM's temporary files."""
        return self.root / "tmp"

    @property
    def archive(self) -> Path:
        """The class archive that a first broker writes as it ends."""
        return self.root / "classes.jsa"

    def read(self) -> State | None:
        """The state written last; None when there is none, or it cannot be read."""
        try:
            return State(**json.loads((self.root / "broker.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, state: State) -> None:
        """Write the state; a reader sees the old or the new one."""
        part = self.root / f".broker-{os.getpid()}.json"
        part.write_text(json.dumps(asdict(state), indent=1) + "\n")
        os.replace(part, self.root / "broker.json")

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Only one process at a time starts or stops the broker of this home; others wait here.

        Raises ClusterError when the home cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / "start.lock").open("w")
        except OSError as error:
            raise ClusterError(
                f"Cannot write into {self.root}: {error.strerror}; set ZADS_HOME to another folder."
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
