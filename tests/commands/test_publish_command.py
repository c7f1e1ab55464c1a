"""`zads publish`, and which broker a command talks to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cluster.kafka.broker import Broker, Status
from commands import publish as command
from commands.shared import bootstrap
from schemas.errors import ZadsError
from tests.pipeline import packets, topics


def run(*arguments: str, expect: int = 0) -> Any:
    """`zads publish` in this process."""
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def test_it_tells_people_what_went_where_and_pipes_nothing(broker: Broker, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.avro").write_bytes(packets.packet(number, jd=2440000.75))
    (tmp_path / "bad.avro").write_bytes(b"no packet")
    result = run(str(tmp_path), "--bootstrap", broker.bootstrap_servers)
    assert result.stdout == ""
    assert "sent 3 alerts of 3 objects" in result.stderr
    assert "ztf_19680524_programid1" in result.stderr
    assert "refused: not-avro" in result.stderr
    assert "zads dead-letters list" in result.stderr


def test_a_damaged_tarball_and_nothing_but_refused_packets_are_no_success(
    broker: Broker, tmp_path: Path
) -> None:
    (tmp_path / "night.tar.gz").write_bytes(b"no gzip at all")
    result = run(str(tmp_path), "--bootstrap", broker.bootstrap_servers, expect=1)
    (tmp_path / "night.tar.gz").unlink()
    (tmp_path / "bad.avro").write_bytes(b"no packet")
    run(str(tmp_path), "--bootstrap", broker.bootstrap_servers, expect=1)
    assert "night.tar.gz is truncated or corrupt" in result.stderr.replace("\n", " ")


def test_partitions_and_the_configurations_keys_reach_kafka(broker: Broker, tmp_path: Path) -> None:
    topic = topics.new_topic(broker.bootstrap_servers) + "-new"
    (tmp_path / "zads.toml").write_text(
        f'bootstrap_servers = "{broker.bootstrap_servers}"\n[kafka]\n"compression.type" = "zstd"\n'
    )
    (tmp_path / "1.avro").write_bytes(raw := packets.packet(1))
    run(str(tmp_path), "--topic", topic, "--partitions", "3", "--config", str(tmp_path / "zads.toml"))
    assert topics.values(broker.bootstrap_servers, topic) == [raw]
    assert topics.partitions(broker.bootstrap_servers, topic) == 3
    (tmp_path / "zads.toml").write_text('[kafka]\n"compression.type" = "no-such-codec"\n')
    broken = CliRunner().invoke(_app(), [str(tmp_path), "--config", str(tmp_path / "zads.toml")])
    assert isinstance(broken.exception, ZadsError)
    assert "no-such-codec" in str(broken.exception)


def _app() -> typer.Typer:
    app = typer.Typer()
    command.register(app)
    return app


def test_the_broker_is_the_one_that_was_named_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, else the environment, else the configuration, else the embedded broker, else Kafka's port."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZADS_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("ZADS_HOME", str(tmp_path / "home"))
    assert bootstrap.connection(None, None) == ("localhost:9092", {})
    (tmp_path / "zads.toml").write_text('bootstrap_servers = "file:1"\n[kafka]\n"client.id" = "me"\n')
    assert bootstrap.connection(None, None) == ("file:1", {"client.id": "me"})
    monkeypatch.setenv("ZADS_BOOTSTRAP_SERVERS", "environment:1")
    assert bootstrap.connection(None, None)[0] == "environment:1"
    assert bootstrap.connection("flag:1", None)[0] == "flag:1"
    assert bootstrap.default_bootstrap() == "environment:1"


def test_a_running_embedded_broker_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZADS_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("ZADS_HOME", str(tmp_path))
    with Broker(home=tmp_path) as embedded:
        assert Status(tmp_path, True, embedded.port).bootstrap_servers == bootstrap.default_bootstrap()
    assert bootstrap.default_bootstrap() == "localhost:9092"


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZadsError, match="no configuration file at"):
        bootstrap.connection(None, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(ZadsError, match=r"bad\.toml is not TOML"):
        bootstrap.connection(None, tmp_path / "bad.toml")
