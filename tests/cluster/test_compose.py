"""cluster/compose.yaml cannot be run everywhere: what it says is held against the rest of the project."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from cluster.dask.local import SETTINGS
from cluster.kafka.pins import KAFKA_VERSION
from cluster.kafka.settings import Ports, open_listeners, server_properties

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((REPOSITORY / "cluster" / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PROGRAMS = {"zads": ["-m", "zads"], "dask": ["-m", "dask"]}


def test_kafka_is_the_version_and_the_settings_of_the_embedded_one() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    ports = Ports(1, 2)
    text = server_properties(Path("/d"), ports, open_listeners(ports), {})
    embedded = dict(line.split("=", 1) for line in text.splitlines())
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    same = set(given) & set(embedded) - {
        "listeners",
        "advertised.listeners",
        "controller.quorum.voters",
        "log.dirs",
    }
    assert len(same) >= 10
    assert {name: given[name] for name in same} == {name: embedded[name] for name in same}


@pytest.mark.parametrize("service", ["scheduler", "worker", "run"])
def test_dask_is_set_as_on_one_machine(service: str) -> None:
    names = {name.upper().replace(".", "__").replace("-", "_"): value for name, value in SETTINGS.items()}
    given = SERVICES[service]["environment"]
    assert given == {f"DASK_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize("service", ["scheduler", "worker", "run"])
def test_commands_have_their_options(service: str) -> None:
    program, command, *rest = shlex.split(SERVICES[service]["command"])
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    shown = subprocess.run(
        [sys.executable, *PROGRAMS[program], command, "--help"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=REPOSITORY,
        check=True,
    ).stdout
    for option in (word for word in rest if word.startswith("--")):
        assert re.search(rf"{option}\b", shown), f"{program} {command} has no {option}"


def test_the_image_holds_every_package() -> None:
    text = COMPOSE["x-zads"]["build"]["dockerfile_inline"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = [name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    assert {f"COPY {name} {name}" for name in packages} <= set(text.splitlines())
    copied = re.search(r"COPY (pyproject.*) \./", text)
    assert copied is not None
    assert all((REPOSITORY / name).exists() for name in copied.group(1).split())
