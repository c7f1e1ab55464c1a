"""The folders are the architecture: imports point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "schemas": set(),
    "simulator": {"schemas"},
    "filters": {"schemas"},
    "archive": {"schemas", "filters"},
    "pipeline": {"schemas", "filters"},
    "cluster": {"schemas"},
    "commands": {"schemas", "simulator", "filters", "archive", "pipeline", "cluster"},
    "zads": {"schemas", "simulator", "filters", "archive", "pipeline", "cluster", "commands"},
}

KAFKA_AND_DASK = {"confluent_kafka", "streamz", "dask", "distributed"}


def files_of(room: str) -> list[Path]:
    return [ROOT / "zads.py"] if room == "zads" else sorted((ROOT / room).rglob("*.py"))


def imported_by(path: Path) -> set[str]:
    """Top-level names that a file imports, within functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    files = files_of(room)
    assert files, f"no files in {room}"
    for path in files:
        ours = imported_by(path) & MAY_IMPORT.keys() - {room}
        assert ours <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} may not import {ours - MAY_IMPORT[room]}"


@pytest.mark.parametrize("room", ["schemas", "simulator", "filters"])
def test_schemas_and_filters_know_neither_kafka_nor_dask(room):
    for path in files_of(room):
        assert not imported_by(path) & KAFKA_AND_DASK, path.relative_to(ROOT)


def test_every_room_is_known():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert rooms <= MAY_IMPORT.keys()
