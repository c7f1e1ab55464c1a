"""The folders are the architecture: imports point one way, and no two files need each other."""

import ast
from graphlib import CycleError, TopologicalSorter
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
"""Room -> the rooms that it may import."""

ORDER = {
    "schemas": [
        "errors",
        "json_text",
        "time",
        "surveys",
        "avro",
        "packets",
        "frame",
        "dictionary",
        "tabular",
        "pictures",
    ],
    "simulator": ["identity", "compiled", "sky", "measure", "packets", "rubin", "check"],
    "archive": ["layout", "tables", "write", "read", "replay", "care", "plots"],
    "pipeline": ["broker", "channels", "access", "worker", "ahead", "live", "clients"],
    "cluster": ["errors", "home", "kafka", "dask"],
}
"""Room -> its files and sub-rooms: each may import only those named before it."""

KAFKA_AND_DASK = {"confluent_kafka", "streamz", "dask", "distributed"}
MOST_FILES = 16
"""In a folder: about ten is the aim, and a folder that has outgrown this wants sub-rooms."""


def files_of(room: str) -> list[Path]:
    return [ROOT / "zads.py"] if room == "zads" else sorted((ROOT / room).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for room in MAY_IMPORT for path in files_of(room)}


def imported_by(path: Path) -> set[str]:
    """Dotted names that a file imports, within functions and for types too; of ours, the files' names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in MODULES else node.module)
    return names


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    files = files_of(room)
    assert files, f"no files in {room}"
    for path in files:
        ours = top(imported_by(path)) & MAY_IMPORT.keys() - {room}
        assert ours <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} may not import {ours - MAY_IMPORT[room]}"


def test_the_cluster_knows_of_schemas_only_the_errors():
    for path in files_of("cluster"):
        schemas = {name for name in imported_by(path) if name.startswith("schemas")}
        assert schemas <= {"schemas.errors"}, path.relative_to(ROOT)


@pytest.mark.parametrize("room", ORDER)
def test_sub_rooms_import_only_those_before_them(room):
    order = ORDER[room]
    for path in files_of(room):
        module = module_of(path)
        if module == room:
            continue  # a room's front door may show what is in any of its sub-rooms
        here = module.split(".")[1]
        assert here in order, f"{module}: give {here} a place in the order of {room}"
        for name in imported_by(path):
            parts = name.split(".")
            if parts[0] == room and len(parts) > 1 and parts[1] != here:
                assert order.index(parts[1]) < order.index(here), f"{module} may not import {name}"


def test_no_circle_between_files():
    graph = {name: imported_by(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"these files import each other: {' -> '.join(circle.args[1])}")


@pytest.mark.parametrize("room", ["schemas", "simulator", "filters"])
def test_neither_kafka_nor_dask_below_the_archive(room):
    for path in files_of(room):
        assert not top(imported_by(path)) & KAFKA_AND_DASK, path.relative_to(ROOT)


ABORTING = {
    # A broker that has just begun, and knows of no brokers yet, answers it: list_topics tells the same.
    "describe_cluster": None,
    # The group's coordinator is away, or has just come back: it is asked by a process of its own.
    "describe_consumer_groups": "pipeline/broker/asking.py",
}
"""Calls after which librdkafka (2.16) may abort the process, and the one file that may use each."""


def test_nobody_uses_what_librdkafka_may_abort_the_process_for():
    for name, allowed in ABORTING.items():
        users = [str(path.relative_to(ROOT)) for path in MODULES.values() if name in attributes(path)]
        assert users == ([allowed] if allowed else []), name


def attributes(path: Path) -> set[str]:
    return {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}


def test_no_kafka_in_the_archive():
    for path in files_of("archive"):
        assert not top(imported_by(path)) & {"confluent_kafka", "streamz"}, path.relative_to(ROOT)


def test_every_room_is_known():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert rooms <= MAY_IMPORT.keys()


def test_folders_stay_small():
    for folder in {path.parent for path in MODULES.values()}:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES or folder.parent.name == "filters", (
            f"{folder.relative_to(ROOT)}: {len(files)} files"
        )
