"""Sends our code to an existing Dask cluster.

Its workers need the same Python packages as ours (distributed checks versions); our own packages are sent
unless the workers have the same code already.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from pathlib import Path

from distributed import Client
from distributed.diagnostics.plugin import UploadDirectory

from schemas.errors import ZadsError

PACKAGES = ("schemas", "filters", "archive", "pipeline", "cluster")


class ClusterUnusable(ZadsError):
    """The named Dask cluster cannot be reached, or cannot run our code."""


def code_version() -> str:
    """A hash of the sources of every package that runs on workers; empty where one is missing."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return ""
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def ship_code(scheduler: str) -> None:
    """Make sure that every worker of the cluster at `scheduler` runs the code of this process.

    Raises ClusterUnusable when there is no such cluster, or when its workers keep other code.
    """
    try:
        client = Client(scheduler, timeout=10, set_as_default=False)
    except OSError as error:
        raise ClusterUnusable(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client:
        ours = code_version()
        if _versions(client) - {ours}:
            client.register_plugin(_upload())
            if theirs := _versions(client) - {ours}:
                raise ClusterUnusable(
                    f"workers of {scheduler} run other code ({', '.join(theirs)}) than here ({ours})",
                    hint="restart them, or install the same zads there",
                )


def _versions(client: Client) -> set[str]:
    """The code version of each worker; "" where our packages are missing."""

    def version_there(packages: tuple[str, ...]) -> str:  # defined here so that it travels by value
        import importlib.util

        if any(importlib.util.find_spec(package) is None for package in packages):
            return ""
        from cluster.dask.ship import code_version

        return code_version()

    return set(client.run(version_there, PACKAGES).values())


def _upload() -> UploadDirectory:
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / f"zads-{code_version()}"
        for package in PACKAGES:
            spec = importlib.util.find_spec(package)
            assert spec is not None
            assert spec.origin is not None
            shutil.copytree(
                Path(spec.origin).parent, code / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        # A nanny takes the folder into the path of the workers that it starts from then on.
        return UploadDirectory(str(code), update_path=True, restart_workers=True)
