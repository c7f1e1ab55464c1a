"""Storms of faults, judged by an oracle that shares no code with zads.

ZADS_SEEDS: "7", "1-200" or "3,8,21": which storms `make soak` runs. A seed makes the same faults again,
though not at the same microsecond.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.storm import FAULTS, storm


def seeds() -> list[int]:
    chosen: list[int] = []
    for part in os.environ.get("ZADS_SEEDS", "1-20").split(","):
        first, _, last = part.partition("-")
        chosen += range(int(first), int(last or first) + 1)
    return chosen


def test_a_short_storm(tmp_path: Path) -> None:
    faults = ("kill_all_workers", "abort_a_foreign_transaction", "make_a_topic_again")
    assert storm(0, tmp_path, faults) == []


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(fault: str, tmp_path: Path) -> None:
    assert storm(0, tmp_path, (fault,)) == []


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", seeds())
def test_a_storm(seed: int, tmp_path: Path) -> None:
    assert storm(seed, tmp_path) == []
