"""The two folders outside the checkout: home (state to keep) and cache (what can be fetched again)."""

from __future__ import annotations

import os
from pathlib import Path


def zads_home() -> Path:
    """Folder of brokers' data and state: ZADS_HOME, else ~/.zads. It need not exist yet."""
    return _folder("ZADS_HOME", ".zads")


def zads_cache() -> Path:
    """Folder of what can be fetched or made again (Kafka's jars): ZADS_CACHE, else ~/.cache/zads."""
    return _folder("ZADS_CACHE", ".cache/zads")


def profiles(home: Path) -> Path:
    """Where a home's profiles are: NAME.ini for `--as NAME`."""
    return home / "profiles"


def _folder(variable: str, below_home: str) -> Path:
    given = os.environ.get(variable)
    folder = Path(given).expanduser() if given else Path.home() / below_home
    return folder.absolute()
