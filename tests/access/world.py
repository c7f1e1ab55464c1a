"""A secured broker with its service, an archive, and users with profiles: where owners are tried."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from cluster.kafka.security import write_profile
from pipeline.access.requests import Answer, Request, ask
from pipeline.access.users import add_user
from pipeline.broker.listen import listen
from tests.archive.helpers import write_packets
from tests.pipeline.night import REPOSITORY, night


def client(broker: Broker, name: str, password: str) -> dict[str, str]:
    """A Kafka client's settings for a user."""
    return {
        "bootstrap.servers": broker.bootstrap_servers,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": name,
        "sasl.password": password,
        "ssl.ca.pem": broker.ca,
    }


class World:
    """A secured broker with its service, an archive, and users with profiles."""

    def __init__(self, secured: Broker, folder: Path) -> None:
        self.broker, self.folder, self.names = secured, folder, uuid.uuid4().hex[:6]
        self.archive = str(folder / "archive")
        ingest([write_packets(folder / "packets", [alert.packet for alert in night()])], self.archive)
        self.settings: dict[str, dict[str, str]] = {"operator": secured.operator}
        write_profile(folder / "operator.ini", secured.operator)
        for who, role in [
            ("ann", "public"),
            ("ben", "public"),
            ("cora", "collaboration"),
            ("pipe", "pipeline"),
        ]:
            self.add(who, role)

    def add(self, who: str, role: str) -> None:
        """A user with a profile."""
        name = self.user(who)
        password = add_user(name, role, by="test", **self.operator())  # type: ignore[arg-type]
        self.settings[who] = client(self.broker, name, password)
        write_profile(self.folder / f"{who}.ini", self.settings[who])

    def user(self, who: str) -> str:
        return f"{who}-{self.names}"

    def operator(self) -> dict[str, str]:
        kafka = self.broker.operator
        return {"bootstrap": kafka["bootstrap.servers"], **kafka}

    def zads(self, who: str, *arguments: str, refused: bool = False, code: int = 0, out: bool = False) -> str:
        """A command, as somebody types it; what it tells people, or with `out` what it prints."""
        command = [sys.executable, "-m", "zads", *arguments, "--as", str(self.folder / f"{who}.ini")]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=environment, check=False
        )
        assert done.returncode == (code or int(refused)), done.stderr
        return done.stdout if out else done.stderr

    def ask(self, who: str, **wish: object) -> Answer:
        user = self.user(who)
        return ask(Request(**wish), user, self.broker.bootstrap_servers, **self.settings[who])  # type: ignore[arg-type]

    def heard(self, who: str, topic: str) -> Counter[int | None]:
        heard = listen(topic, self.broker.bootstrap_servers, until_drained=True, **self.settings[who])
        return Counter(alert.candid for alert in heard)

    @contextmanager
    def serving(self) -> Iterator[None]:
        command = [sys.executable, "-m", "zads", "serve", "--archive", self.archive]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with (self.folder / "serve.log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--as", str(self.folder / "operator.ini")],
                stderr=log,
                stdout=log,
                cwd=self.folder,
                env=environment,
            )
            try:
                yield
            finally:
                process.terminate()
                process.wait()
