"""Fetching Kafka's jars, against a Maven repository on this machine that can be made to fail."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.kafka import pins as pinned
from cluster.kafka.fetch import explain
from cluster.kafka.jars import kafka_jars
from cluster.kafka.pins import KAFKA_VERSION, jar_folder, pins


class Repository(SimpleHTTPRequestHandler):
    """A folder served as a Maven repository; `fault` may change what is sent for a path."""

    fault: Callable[[str, bytes], bytes | None] = staticmethod(lambda path, content: content)
    asked: list[str]

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.name.endswith(".jar"):
            type(self).asked.append(path.name)
        content = type(self).fault(path.name, path.read_bytes()) if path.is_file() else None
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Repository]]:
    """Two small jars in a local repository, pinned, and an empty cache."""
    served, lock = tmp_path / "served", []
    for name in ("first", "second"):
        content = name.encode() * 1000
        folder = served / "org" / "example" / name / "1.0"
        folder.mkdir(parents=True)
        (folder / f"{name}-1.0.jar").write_bytes(content)
        lock.append(f"org.example:{name}:1.0 {len(content)} {hashlib.sha256(content).hexdigest()}")
    (tmp_path / "kafka.lock").write_text("# a comment\n" + "\n".join(lock) + "\n")
    kind = type("ThisRepository", (Repository,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = tmp_path / "jgo.conf"
        settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("ZADS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(pinned, "LOCK", tmp_path / "kafka.lock")
        yield kind
        server.shutdown()


def test_jars_are_fetched_once_with_a_message(repository: type[Repository]) -> None:
    said: list[str] = []
    first = kafka_jars(said.append)
    assert [path.read_bytes()[:6] for path in first] == [b"firstf", b"second"]
    assert len(said) == 1
    assert "2 jars" in said[0]
    assert kafka_jars(said.append) == first
    assert len(said) == 1
    assert sorted(repository.asked) == ["first-1.0.jar", "second-1.0.jar"]


def test_an_interrupted_fetch_is_taken_up_again(repository: type[Repository]) -> None:
    """Whatever a cut left behind, only what is missing or short is fetched."""
    kept, cut = kafka_jars()
    cut.write_bytes(cut.read_bytes()[:100])
    (jar_folder() / ".fetch-left-by-a-kill").mkdir()
    repository.asked.clear()
    assert kafka_jars() == [kept, cut]
    assert cut.stat().st_size == 6000
    assert repository.asked == ["second-1.0.jar"]


def test_a_jar_that_is_not_the_pinned_one_is_refused(repository: type[Repository]) -> None:
    repository.fault = staticmethod(lambda name, content: content.replace(b"s", b"S", 1))
    with pytest.raises(ClusterError, match=r"first-1\.0\.jar was fetched damaged"):
        kafka_jars()
    assert not list(jar_folder().glob("*.jar"))
    repository.fault = staticmethod(lambda name, content: content)
    assert len(kafka_jars()) == 2


def test_a_repository_without_the_jar(repository: type[Repository]) -> None:
    repository.fault = staticmethod(lambda name, content: None)
    with pytest.raises(ClusterError, match=r"does not give org\.example:first:1\.0"):
        kafka_jars()


def test_without_network_one_sentence(repository: type[Repository], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Path(os.environ["JGO_CONFIG_FILE"])
    settings.write_text("[repositories]\ncentral = http://127.0.0.1:9\n")  # nobody listens there
    with pytest.raises(ClusterError, match=f"Kafka {KAFKA_VERSION} is not in .* connect to the network once"):
        kafka_jars()


def test_the_machines_certificates_are_trusted_while_fetching(
    repository: type[Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "certificates.pem"
    trusted.write_text("")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    seen = set()

    def look(name: str, content: bytes) -> bytes:
        seen.add(os.environ.get("REQUESTS_CA_BUNDLE"))
        return content

    repository.fault = staticmethod(look)
    kafka_jars()
    assert seen == {str(trusted)}
    assert "REQUESTS_CA_BUNDLE" not in os.environ, "left as it was"


def test_a_cache_that_cannot_be_written(repository: type[Repository], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    with pytest.raises(ClusterError, match="ZADS_CACHE"):
        kafka_jars()


def test_a_full_disk_while_fetching(repository: type[Repository], monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full: this system cannot play a full disk")
    with pytest.raises(OSError) as caught, full.open("wb") as disk:
        shutil.copyfileobj((pinned.LOCK).open("rb"), disk)
    assert caught.value.errno == errno.ENOSPC
    assert "full: free 1 GB" in explain(caught.value, jar_folder())


def test_the_lock_names_kafka_and_whole_hashes() -> None:
    pinned = pins()
    assert f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}" in {pin.coordinate for pin in pinned}
    kafka = {pin.coordinate.split(":")[2] for pin in pinned if pin.coordinate.startswith("org.apache.kafka:")}
    assert kafka == {KAFKA_VERSION}, "one version of Kafka's own jars"
    assert all(len(pin.sha256) == 64 and pin.size > 1000 for pin in pinned)
    assert len({pin.name for pin in pinned}) == len(pinned)
