"""Private names of other projects: each is in one file, with the version that it was tried with.

An upgrade of one of these packages is tried against the file named here. A new use has to be put on the list,
or better be done without.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.test_architecture import MAY_IMPORT, ROOT, files_of

DOORS = {
    r"\b_mgr\b|\"_attrs\"|\"_flags\"": ("pandas", "3.1", {"filters/view.py"}),
    r"\b_(cmp|logical|arith)_method\b": ("pandas", "3.1", {"filters/view.py"}),
    r"\b_meta\b": ("dask", "2026", set()),
    r"\b_emit\b": ("streamz", "0.6", {"pipeline/live/graph.py", "pipeline/live/source.py"}),
    r"\bscheduler\.identity\b": ("distributed", "2026", {"pipeline/live/fleet/fleet.py"}),
    r"\bget_mp_context\b": ("distributed", "2026", {"cluster/dask/local.py"}),
    r"\.members\.clear\b": ("pip", "", {"schemas/packets/packed.py"}),  # of Python's tarfile
    r"\"_bundled\"": ("pip", "", {".ci/set_up.py"}),  # of Python's ensurepip
    r"\b_split_scope\b": ("pytest-xdist", "3", {"tests/conftest.py"}),
}
"""What is looked for -> package, the versions it was tried with, and the files that may use it."""


def sources() -> list[Path]:
    ours = [path for room in MAY_IMPORT for path in files_of(room)]
    return [*ours, ROOT / ".ci" / "set_up.py", ROOT / "tests" / "conftest.py"]


@pytest.mark.parametrize("door", DOORS)
def test_a_private_name_is_used_where_it_is_known(door: str) -> None:
    _, _, files = DOORS[door]
    using = {str(path.relative_to(ROOT)) for path in sources() if re.search(door, path.read_text())}
    assert using == files


@pytest.mark.parametrize("door", DOORS)
def test_it_was_tried_with_this_version(door: str) -> None:
    package, tried, files = DOORS[door]
    if tried and files:
        found = version(package)
        assert found.startswith(tried), (
            f"{package} {found}: try {', '.join(sorted(files))} again, then say so here"
        )
