"""CONTRIBUTING.md's recipes, followed literally in a copy; docs/architecture.md names files that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
SOURCES = [
    "schemas",
    "simulator",
    "filters",
    "archive",
    "pipeline",
    "cluster",
    "commands",
    "tests",
    "zads.py",
]
RECIPES = ["Add a filter", "Add a catalogue", "Add a survey", "Add a kind of cluster", "Add a command"]


def section(title: str) -> str:
    return GUIDE[GUIDE.index(f"## {title}\n") :].split("\n## ", 1)[0]


def code(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a section: language and content."""
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.S)


def apply(block: str, copy: Path) -> None:
    """Write the file that a block's first line names, or add the block to the table that it names."""
    head, _, body = block.partition("\n")
    added = re.fullmatch(r"# add to (\S+): (\w+)", head)
    if added is None:
        (copy / head.removeprefix("# ")).write_text(body)
        return
    file = copy / added[1]
    text = file.read_text()
    start = re.search(rf"^{added[2]}\b.* = [({{]\n", text, flags=re.M)
    assert start is not None, f"{added[1]} has no table {added[2]}"
    file.write_text(text[: start.end()] + body + text[start.end() :])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    (tmp_path / "sources.csv").write_text("ra,dec,mag\n10.0,5.0,19.5\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(line: str, folder: Path) -> str:
    words = shlex.split(line)
    programs = {"zads": [sys.executable, "-m", "zads"], "pytest": [sys.executable, "-m", "pytest", "-q"]}
    command = [*programs.get(words[0], [sys.executable] if words[0] == "python" else [words[0]]), *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(folder), "ZADS_EXTERNAL": str(folder / "external")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize(
    ("title", "shows"),
    [
        ("Add a filter", "1 passed"),
        ("Add a catalogue", "mine.mag"),
        ("Add a survey", "goodness"),
        ("Add a kind of cluster", "inproc://"),
        ("Add a command", "hello from"),
    ],
)
def test_a_recipe(title: str, shows: str, copy: Path) -> None:
    output = ""
    for language, block in code(section(title)):
        if language == "python":
            apply(block, copy)
        else:
            output += "".join(run(line, copy) for line in block.splitlines())
    assert shows in output


def test_every_recipe_is_followed() -> None:
    assert re.findall(r"^## (Add .*)$", GUIDE, flags=re.M) == RECIPES


@pytest.mark.parametrize("page", [GUIDE, ARCHITECTURE], ids=["CONTRIBUTING", "architecture"])
def test_the_files_that_it_names_are_there(page: str) -> None:
    prose = re.sub(r"```.*?```", "", page, flags=re.S)
    named = {name for name in re.findall(r"`([a-z_]+(?:/[\w./]*)?)`", prose) if "/" in name}
    assert len(named) > 5
    new = {"filters/skywatch/"}
    assert [name for name in sorted(named - new) if not (ROOT / name).exists()] == []


def test_the_five_answers_hold() -> None:
    assert 'TOPIC = "zads.dead-letters"' in (ROOT / "pipeline/broker/dead_letters.py").read_text()
    assert "Public(" in (ROOT / "schemas/surveys/ztf/__init__.py").read_text()
    process = (ROOT / "pipeline/worker/process.py").read_text()
    assert "commit" in process
    assert "stopped" in (ROOT / "commands/explain.py").read_text()


def test_the_drawing_is_the_rule() -> None:
    """The rooms in the drawing are those whose imports are tested."""
    from tests.test_architecture import MAY_IMPORT

    drawing = ARCHITECTURE[ARCHITECTURE.index("```text") : ARCHITECTURE.index("| room")]
    for room in MAY_IMPORT:
        assert re.search(rf"\b{room}\b", drawing), room
