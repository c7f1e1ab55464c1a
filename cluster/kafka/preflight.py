"""Checks before a broker starts; each error is one sentence that says what to do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cluster.errors import ClusterError
from cluster.kafka import ports
from cluster.kafka.settings import DEFAULT_PORT

OLDEST_PYTHON = (3, 11)
NEEDED_BYTES = 1_000_000_000
_LETS_GO_SECONDS = 3.0


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> None:
    """Raise ClusterError when this Python is too old."""
    if version[:2] < OLDEST_PYTHON:
        found, needed = ".".join(map(str, version)), ".".join(map(str, OLDEST_PYTHON))
        raise ClusterError(
            f"zads needs Python {needed} or newer and this is {found}: run `make setup` with it."
        )


def check_disk(folder: Path, needed: int = NEEDED_BYTES) -> None:
    """Raise ClusterError when the disk that will hold `folder` has less than `needed` bytes free."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ClusterError(
            f"The disk of {folder} has {free / 1e9:.1f} GB free and a broker needs {needed / 1e9:.1f} GB: "
            "free some, or set ZADS_HOME to a folder on another disk."
        )


def check_port(port: int) -> None:
    """Raise ClusterError when `port` cannot be listened on."""
    if not 1024 <= port <= 65535:
        raise ClusterError(f"Port {port} cannot be used: choose one between 1024 and 65535.")
    if not ports.is_free(port):
        by = ports.holder(port)
        taken = f"Port {port} is taken{f' by {by}' if by else ''}"
        raise ClusterError(f"{taken}: choose another with --port, or leave --port out for a free one.")


def choose_port(asked: int | None, last: int | None, default: int | None = DEFAULT_PORT) -> int:
    """The port asked for; else the one of the last start, the default, or any, whichever is free first.

    Parameters
    ----------
    asked
        The port that must be used; None: any will do.
    last
        The port of the last start, if there was one.
    default
        The port to try next; None: none.

    Raises
    ------
    ClusterError
        When the port asked for cannot be used.
    """
    if asked is not None:
        check_port(asked)
        return asked
    if last is not None and ports.becomes_free(last, _LETS_GO_SECONDS):
        return last
    if default is not None and ports.is_free(default):
        return default
    return ports.free_port()
