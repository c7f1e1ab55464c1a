"""Commands on a standard output that is not UTF-8: they say what they have to say, in letters that it has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    ["--help"],
    ["filters"],
    ["filters", "young_supernova"],
    ["graph"],
    ["explain", "young_supernova", "{packet}"],
    ["explain", "young_supernova", "{packet}", "--json"],
]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding(encoding: str, real_alerts: Path) -> None:
    packet = str(real_alerts / "ztf_4.01" / "2475433850015010009.avro")
    script = "import sys; from commands import main; sys.argv = ['zads', *sys.argv[1:]]; main()"
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    for command in COMMANDS if encoding == "ascii" else COMMANDS[3:5]:
        words = [packet if word == "{packet}" else word for word in command]
        run = [sys.executable, "-c", script, *words]
        done = subprocess.run(run, capture_output=True, env=environment, cwd=ROOT, check=False)
        assert done.returncode == 0, (words, done.stderr.decode(encoding, "replace"))
        assert done.stdout.decode(encoding)
        if command[0] == "explain" and "--json" not in command:
            mark = {"utf-8": "✗ stopped here"}.get(encoding, "x stopped here")
            assert mark in done.stdout.decode(encoding)
