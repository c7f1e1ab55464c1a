"""Whose text runs where: in process what an operator answers for, all else in the sandbox or not at all."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from importlib import metadata
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from filters.external.externals import frames_of
from filters.sandbox.errors import NoSandbox
from filters.sandbox.inside.calls import ALLOWED, MACHINES, program
from filters.sandbox.keeper import Sandbox
from filters.sandbox.question import Program, content_hash
from filters.sandbox.uploaded import Uploaded
from filters.testing import packet
from pipeline.channels.definition import ChannelError, Definition, by_value
from pipeline.channels.registry import difference
from tests.pipeline.night import REPOSITORY
from tests.sandbox.conftest import WELL, Judge, text_of

TELLS = f"import os\nos.environ['ZADS_TEST_RAN_IN'] = str(os.getpid())\n{text_of(WELL)}"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text above has not run in this process."""
    monkeypatch.setenv("ZADS_TEST_RAN_IN", "")


@pytest.mark.usefixtures("started", "ran")
def test_only_the_approved_text_runs_in_process(tmp_path: Path) -> None:
    theirs = Definition(name="ann.mine", owner="ann", filter="m.py:f", source=TELLS).completed()
    assert isinstance(theirs.channel().filter.function, Uploaded)
    for approved in ("", content_hash("another text"), content_hash(TELLS)[:12]):
        assert not theirs.model_copy(update={"approved": approved}).trusted
    copied = theirs.model_copy(update={"name": "operators_copy", "approved": ""})
    assert isinstance(copied.completed().channel().filter.function, Uploaded)
    assert os.environ["ZADS_TEST_RAN_IN"] == ""
    approved = theirs.with_changes(approved=content_hash(TELLS))
    assert os.environ["ZADS_TEST_RAN_IN"] == str(os.getpid())
    assert not isinstance(approved.channel().filter.function, Uploaded)
    assert difference(theirs, approved).endswith("approved its Python")
    edited = approved.with_changes(source=TELLS + "\n# and more", filter="m.py:f")
    assert isinstance(edited.channel().filter.function, Uploaded)
    (tmp_path / "own.py").write_text(TELLS)
    assert Definition(name="own", **by_value(f"{tmp_path}/own.py:f")).trusted
    assert Definition(name="own", **by_value("real_bogus")).trusted


@pytest.mark.usefixtures("started")
def test_a_public_channel_finds_nothing_of_a_collaboration_channel_of_the_same_owner() -> None:
    """The text of one notes what it sees where the other's text would find it."""
    text = (
        "import builtins\nfrom filters import alert_filter\n\n@alert_filter(reads=['rb'])\ndef f(alerts):\n"
        "    found = getattr(builtins, 'seen', [])\n    builtins.seen = [*found, *alerts['rb']]\n"
        "    return {str(found): alerts['rb'] > 0}\n"
    )
    seen = {}
    for access in ("collaboration", "public", "collaboration"):
        one = Definition(name="ann.mine", filter="m.py:f", source=text, access=access).loaded()  # type: ignore[arg-type]
        frame = frames_of(["rb"]).of_packets([packet("ztf", rb=0.75)])
        seen[access] = list(one.evaluate(one.restricted(frame))[1])
    assert seen == {"collaboration": ["[0.75]"], "public": ["[]"]}


@pytest.mark.usefixtures("started")
def test_what_is_wrong_with_a_text_is_told_as_of_a_file() -> None:
    bad = {"1 +": "SyntaxError", "import sqlite3": "no module", "x = 1": "0 filters", "1 / 0": "Zero"}
    for text, words in bad.items():
        with pytest.raises(ChannelError, match=words) as raised:
            Definition(name="ann.bad", filter="m.py:", source=text).completed()
        assert "channel ann.bad" in str(raised.value)


def needed(distribution: str, seen: set[str]) -> set[str]:
    """A distribution and all that it installs with itself, without extras."""
    if distribution not in seen and not seen.add(distribution):  # type: ignore[func-returns-value]
        for requirement in map(Requirement, metadata.requires(distribution) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(canonicalize_name(requirement.name), seen)
    return seen


def test_what_is_installed_beside_zads_is_not_there(judge: Judge) -> None:
    """A text that a developer's machine takes is taken everywhere. (setuptools' hack comes before us.)"""
    tops = "{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'_distutils_hack'}"
    names = set(judge(f"return {{name: alerts['rb'] > 0 for name in {tops}}}").cuts)
    ours = needed("zads", set())
    homes = {name: set(map(canonicalize_name, found)) for name, found in packages_distributions().items()}
    beside = {name for name in names if name in homes and not homes[name] & ours}
    assert {"numpy", "numba"} <= names
    assert not beside


def test_switched_off_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZADS_SANDBOX", "off")
    with pytest.raises(NoSandbox, match="no switched on"):
        Sandbox().load(Program("a", text_of(WELL), "m.py", "f"))


WITHOUT = """
import ctypes, os, struct, sys
sys.path.insert(0, {root!r})
from filters.sandbox.inside import kernel
code = b"".join(struct.pack("=HBBI", *one) for one in (
    (0x20, 0, 0, 0), (0x15, 0, 1, {number}), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)))
kernel.no_new_rights()
made = kernel._Program(len(code) // 8, code)
assert kernel._libc().prctl(22, 2, ctypes.byref(made), 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "zads", "sandbox", "check", "--json"])
"""
"""A machine whose kernel does not know a system call, and `zads sandbox check` there."""


@pytest.mark.usefixtures("started")
def test_a_kernel_without_landlock_runs_no_text_of_a_stranger(tmp_path: Path) -> None:
    """The check says so, with exit code 1."""
    without = [sys.executable, "-c", WITHOUT.format(root=str(REPOSITORY), number=444)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(without, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    there = {part["name"]: part["there"] for part in told["parts"]}
    assert not there["Landlock"]
    assert there["seccomp"]
    assert "no Landlock" in told["refused"]


@pytest.mark.parametrize("kind", MACHINES)
def test_the_kernels_program_allows_what_is_listed_and_nothing_else(kind: str) -> None:
    """Run by hand: every number of a call, on this processor's kind and another's."""
    column = list(MACHINES).index(kind)
    numbers = {pair[column] for pair in ALLOWED.values()} - {None}
    fcntl = (72, 25)[column]
    for number in range(600):
        wanted = "allow" if number in numbers else "refuse"
        assert _ends(program(kind), number, MACHINES[kind].audit) == wanted or number == fcntl
    assert _ends(program(kind), 0, 0x40000003) == "kill"
    assert _ends(program(kind), fcntl, MACHINES[kind].audit, command=3) == "allow"
    for command in (4, 8, 10, 1024, 1033):  # F_SETFL, F_SETOWN, F_SETSIG, F_SETLEASE, F_ADD_SEALS
        assert _ends(program(kind), fcntl, MACHINES[kind].audit, command) == "refuse"


def _ends(code: bytes, number: int, audit: int, command: int = 0) -> str:
    """What the kernel does with a call."""
    data, value, at = {0: number, 4: audit, 24: command}, 0, 0
    while True:
        what, true, false, operand = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if what == 0x20:
            value = data[operand]
        elif what == 0x06:
            return {0x7FFF0000: "allow", 0x80000000: "kill", 0x00050001: "refuse"}[operand]
        else:
            jumps = value == operand if what == 0x15 else value >= operand
            at += true if jumps else false
