"""Fetching Apache Kafka through jgo, a Maven resolver in Python; each jar is checked by its SHA-256.

`python -m cluster.kafka.fetch` resolves the jars anew and rewrites kafka.lock (part of `make lock`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from cluster.errors import ClusterError
from cluster.kafka.pins import KAFKA_VERSION, LOCK, Pin, Say

# The slf4j binding for the log4j that Kafka itself brings: without it Kafka logs nothing but a warning.
BINDING_VERSION = "2.25.3"
DOWNLOADS_AT_ONCE = 6


def fetch(wanted: Sequence[Pin], folder: Path, say: Say) -> None:
    """Fetch the jars that are missing or incomplete in a folder; other processes that want the same wait.

    Parameters
    ----------
    wanted
        The jars.
    folder
        Where to; it is made if it is not there.
    say
        Called with messages for people.

    Raises
    ------
    ClusterError
        Without network, with a full disk, or when a fetched jar is not the pinned one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / "fetch.lock"), _certificates_of_this_machine():
            _fetch_missing([pin for pin in wanted if not pin.is_at(folder / pin.name)], folder, say)
    except OSError as error:
        raise ClusterError(explain(error, folder)) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; the system releases it when the process ends in any way."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _certificates_of_this_machine() -> Iterator[None]:
    """Let requests trust the certificates of this machine (such as a company's proxy), not only its own list.

    SSL_CERT_FILE and SSL_CERT_DIR count; requests' own REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE win.
    """
    paths = ssl.get_default_verify_paths()
    trusted = paths.cafile or paths.capath
    if not trusted or {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys():
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = trusted
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def _fetch_missing(missing: Sequence[Pin], folder: Path, say: Say) -> None:
    """Fetch each jar under another name and rename it, so that no incomplete file is left."""
    if not missing:
        return
    for left in folder.glob(".fetch-*"):  # by a killed process: we alone hold the lock
        shutil.rmtree(left, ignore_errors=True)
    megabytes = sum(pin.size for pin in missing) / 1e6
    say(
        f"Fetching Apache Kafka {KAFKA_VERSION}: {len(missing)} jars, {megabytes:.0f} MB, once, into {folder}"
    )
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging:
        context = _maven(Path(staging))
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            for pin, jar in zip(missing, pool.map(lambda pin: _download(context, pin), missing), strict=True):
                os.replace(jar, folder / pin.name)


def _download(context: MavenContext, pin: Pin) -> Path:
    try:
        jar = _artifact(context, pin.coordinate).resolve()
    except RuntimeError as error:  # jgo's word for an answer other than 200
        raise ClusterError(
            f"Apache Kafka could not be fetched: the Maven repository does not give {pin.coordinate}; "
            "try again, or check the repositories in jgo's configuration file."
        ) from error
    if hashlib.sha256(jar.read_bytes()).hexdigest() != pin.sha256:
        raise ClusterError(f"{pin.name} was fetched damaged (SHA-256 differs from kafka.lock); try again.")
    return jar


def _maven(repository: Path) -> MavenContext:
    """Maven Central, or the mirror called `central` in jgo's own configuration file."""
    remote = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repository, remote_repos=remote, timeout=30)


def _artifact(context: MavenContext, coordinate: str) -> Any:
    group, artifact, version = coordinate.split(":")
    return context.project(group, artifact).at_version(version).artifact()


def explain(error: OSError, folder: Path) -> str:
    """What went wrong with the network or the disk, and what to do."""
    # requests' exceptions are OSErrors too.
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"Apache Kafka {KAFKA_VERSION} could not be fetched: the certificate of the Maven repository (or "
            "of a proxy before it) is not trusted; set SSL_CERT_FILE to a file of trusted certificates."
        )
    if isinstance(error, requests.RequestException):
        return (
            f"Apache Kafka {KAFKA_VERSION} is not in {folder} yet and could not be fetched: no answer from "
            "the Maven repository; connect to the network once and try again."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk of {folder} is full: free 1 GB there, or set ZADS_CACHE to a folder on another disk."
        )
    return (
        f"Cannot write Apache Kafka's jars into {folder}: {error.strerror}; set ZADS_CACHE to another folder."
    )


def resolve() -> list[str]:
    """The coordinates of Kafka's jars as Maven would choose them for a run of the broker."""
    with tempfile.TemporaryDirectory() as repository:
        context = _maven(Path(repository))
        kafka = context.create_dependency(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}")
        inputs, below = context.resolver.resolve([kafka])
        found = [*inputs, *(each for each in below if each.scope in ("compile", "runtime"))]
    names = [f"{each.groupId}:{each.artifactId}:{each.version}" for each in found]
    # Alone, not in the same resolution: its parent POM would manage Kafka's own jars down to older versions.
    return [*names, f"org.apache.logging.log4j:log4j-slf4j-impl:{BINDING_VERSION}"]


def write_lock() -> None:
    """Resolve, fetch and write kafka.lock."""
    lines = ["# Made by `python -m cluster.kafka.fetch`: coordinate, bytes, SHA-256 of each Kafka jar"]
    with tempfile.TemporaryDirectory() as repository:
        context = _maven(Path(repository))
        for coordinate in resolve():
            content = _artifact(context, coordinate).resolve().read_bytes()
            lines.append(f"{coordinate} {len(content)} {hashlib.sha256(content).hexdigest()}")
    LOCK.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_lock()
