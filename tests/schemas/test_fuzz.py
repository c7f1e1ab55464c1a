"""Thousands of damaged packets, in a process of their own: a crash of the compiled walk is a failed test."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def fuzz(count: int, seed: int, *more: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.schemas.fuzz", "--count", str(count), "--seed", str(seed), *more]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=170
    )


def passed(done: subprocess.CompletedProcess) -> str:
    """What the run counted; a signal (a negative return code) is a crash."""
    assert done.returncode == 0, f"{' '.join(done.args)} ended with {done.returncode}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("seed", [1, random.SystemRandom().randrange(10**6)], ids=["same", "new"])
def test_damaged_packets_are_refused_or_read_as_fastavro_reads_them(seed):
    counted = passed(fuzz(1500, seed))
    for what in ("corrupt-value", "truncated", " read", "rewritten", "edge: read", "edge: refused"):
        assert what in counted, counted


def test_damaged_real_packets(real_alerts):
    passed(fuzz(200, 7, "--alerts", str(real_alerts)))


def test_no_array_is_indexed_beyond_its_end(tmp_path):
    """The walk compiled with numba's own bounds checks."""
    passed(fuzz(300, 5, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path)))


def test_the_harness_sees_a_crash():
    """Reading behind the edge of memory ends the process, so a walk that did would be noticed."""
    code = "from tests.schemas.fuzz import EdgeOfMemory as E; import ctypes; ctypes.string_at(E().end, 1)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, timeout=60)
    assert done.returncode < 0
