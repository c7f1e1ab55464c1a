"""A command begins at once: what only some commands need is loaded by those."""

import subprocess
import sys

from tests.pipeline.night import REPOSITORY

HEAVY = {
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "distributed",
    "astropy",
    "matplotlib",
    "numba",
    "deltalake",
}
LOADED = """
import sys
from commands import application
application()
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_nothing_large_is_loaded_for_nothing() -> None:
    """Not to name the commands; half a second of each command went there."""
    run = [sys.executable, "-c", LOADED]
    done = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "typer" in loaded
    assert not loaded & HEAVY
