"""Set-up: what the lock, the Makefile and the set-up script promise to somebody with a fresh clone."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
LOCK = (REPOSITORY / "requirements.lock").read_text()
FIND_PYTHON = REPOSITORY / ".ci" / "find_python"


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """Each package of the lock with all its lines."""
    blocks = re.split(r"\n(?=[a-zA-Z])", LOCK.replace("\\\n", ""))
    return {canonical(re.split(r"==", block)[0]): block for block in blocks if not block.startswith("#")}


@pytest.fixture(scope="module")
def set_up() -> ModuleType:
    """The set-up script as a module."""
    specification = importlib.util.spec_from_file_location("set_up", REPOSITORY / ".ci" / "set_up.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_lock_has_hashes_and_no_addresses() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*-", LOCK.replace("    --hash", ""), re.MULTILINE), (
        "no options such as an index"
    )
    for name, block in locked().items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name


def test_the_lab_has_a_lock_of_its_own_with_the_same_versions() -> None:
    """`make notebook` adds JupyterLab; it changes nothing of what is there."""
    text = (REPOSITORY / "requirements-lab.lock").read_text()
    assert "://" not in text
    of_lab = dict(re.findall(r"^([\w.-]+)==([^ ;]+)", text, re.MULTILINE))
    assert "jupyterlab" in of_lab
    own = dict(re.findall(r"^([\w.-]+)==([^ ;]+)", LOCK, re.MULTILINE))
    assert {name: v for name, v in of_lab.items() if name in own} == {
        name: v for name, v in own.items() if name in of_lab
    }
    assert len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) <= len(re.findall(r"sha256:", text))


def test_the_lock_holds_what_the_project_asks_for() -> None:
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    asked += PROJECT["build-system"]["requires"]  # the editable install is built without the network
    names = {canonical(re.match(r"[\w.-]+", each).group()) for each in asked}  # type: ignore[union-attr]
    assert names - set(locked()) == set()


def test_make_alone_lists_every_target() -> None:
    shown = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    makefile = (REPOSITORY / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"^  make (\w+)", shown, re.MULTILINE)) == set(phony.group(1).split())


def test_long_proofs_run_only_when_asked_for() -> None:
    assert "not soak" in PROJECT["tool"]["pytest"]["ini_options"]["addopts"]


def find_python(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script with only `path` to look for a Python in."""
    shell = shutil.which("sh") or "sh"
    environment = {"PATH": path}
    return subprocess.run(
        [shell, str(FIND_PYTHON), *arguments], env=environment, capture_output=True, text=True, check=False
    )


def pretend(folder: Path, name: str, works: bool) -> None:
    """Put a Python, or a version manager's shim with nothing behind it, into a folder."""
    target = f'exec {sys.executable} "$@"' if works else "exit 127"
    (folder / name).write_text(f"#!/bin/sh\n{target}\n")
    (folder / name).chmod(0o755)


def test_the_newest_python_that_runs_is_found(tmp_path: Path) -> None:
    pretend(tmp_path, "python3.14", works=False)
    pretend(tmp_path, "python3.12", works=True)
    pretend(tmp_path, "python3", works=True)
    assert find_python(str(tmp_path)).stdout == "python3.12\n"
    assert find_python(str(tmp_path), "python3").stdout == "python3\n"


@pytest.mark.parametrize("arguments", [[], ["python3.14"]], ids=["none", "named"])
def test_without_python_one_sentence(tmp_path: Path, arguments: list[str]) -> None:
    pretend(tmp_path, "python3.14", works=False)
    found = find_python(str(tmp_path), *arguments)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.count("\n") == 1
    assert "make setup PYTHON=" in found.stderr


def test_pips_settings_reach_uv(set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nindex-url = https://mirror.example/simple\ntimeout = 77\ncert = /other.pem\n"
    )
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "SSL_CERT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_CERT", "/certificates.pem")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "5")
    monkeypatch.setenv("PIP_FIND_LINKS", f"/no/such/wheels {tmp_path} https://wheels.example/")
    given = set_up.uv_environment(set_up.find_pip())
    assert given["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert given["SSL_CERT_FILE"] == "/certificates.pem"
    assert given["UV_FIND_LINKS"] == f"{tmp_path},https://wheels.example/"
    assert given["UV_HTTP_TIMEOUT"] == "5", "the user's own uv settings win"


def test_the_set_up_script_takes_uv_from_the_lock(set_up: ModuleType) -> None:
    lines = set_up.pinned("uv")
    assert re.match(r"uv==\d+\.\d+\.\d+ ", lines)
    assert lines in LOCK


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_fresh_clone_sets_itself_up(tmp_path: Path) -> None:
    """Clone, `make setup`, run the command; a second `make setup` does nothing."""
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
    environment = {**os.environ, "HOME": str(home)}
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "ZADS_HOME", "ZADS_CACHE"):
        environment.pop(name, None)

    def run(*command: str) -> str:
        options = {"cwd": clone, "env": environment, "capture_output": True, "text": True, "check": True}
        return subprocess.run(command, **options).stdout

    run("make", "setup")
    assert "Nothing to be done" in run("make", "setup")
    assert "broker" in run(".venv/bin/zads", "--help")
    assert re.fullmatch(r"localhost:\d+\n", run(".venv/bin/zads", "broker", "start"))
    run(".venv/bin/zads", "broker", "stop")
    assert run("git", "status", "--short") == ""
