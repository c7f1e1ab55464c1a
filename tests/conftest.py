"""Fixtures shared by all rooms' tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_alerts() -> Path:
    """The folder of real survey packets; the test skips where a machine does not have it."""
    folder = Path(os.environ.get("ZADS_ALERTS", REPOSITORY.parent / "shared" / "alerts"))
    if not folder.is_dir():
        pytest.skip(f"no real packets at {folder}: set ZADS_ALERTS to a folder of survey packets to run this test")
    return folder
