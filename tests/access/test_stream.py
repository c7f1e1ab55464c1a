"""The whole stream on a secured broker: each with their own profile, and nobody sees what is not theirs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from cluster.kafka.broker import Broker
from cluster.kafka.security import write_profile
from filters import load
from filters.external.externals import stored_columns, to_frame
from pipeline.access.users import add_user, enforce_rights
from pipeline.broker.client import NoSuchTopic, topic_names
from pipeline.broker.dead_letters import dead_letters
from pipeline.broker.listen import listen
from pipeline.broker.profile import ProfileError
from pipeline.channels.config import channel_set, read_config
from pipeline.clients.publish import publish_packets
from pipeline.live.run import run_live
from schemas.packets.reader import PacketReader
from tests.access.world import client
from tests.archive.helpers import rows_of
from tests.pipeline.night import REPOSITORY, expected, night

CONFIG = """
[channels.real_bogus]

[channels.ours]
filter = "real_bogus"
access = "collaboration"
"""
ROLES = {"service": "pipeline", "ann": "public", "cora": "collaboration", "bea": "broker"}


class Descriptors(SchedulerPlugin):
    """All that passes through the scheduler, as bytes."""

    def __init__(self) -> None:
        self.seen = b""

    def update_graph(self, scheduler: Any, *, keys: Any, **_: Any) -> None:
        for key in keys:
            self.seen += pickle.dumps(scheduler.tasks[key].run_spec)


@pytest.fixture(scope="module")
def profiles(secured: Broker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """User -> the file of a profile."""
    folder = tmp_path_factory.mktemp("profiles")
    kafka = secured.operator
    found = {"operator": folder / "operator.ini"}
    write_profile(found["operator"], kafka)
    for name, role in ROLES.items():
        password = add_user(name, role, kafka["bootstrap.servers"], by="test", **kafka)
        found[name] = folder / f"{name}.ini"
        write_profile(found[name], client(secured, name, password))
    return found


def zads(profile: Path, *arguments: str) -> str:
    """A command, as somebody types it; what it prints."""
    command = [sys.executable, "-m", "zads", *arguments, "--as", str(profile)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=profile.parent, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_the_collaboration() -> Counter[int]:
    """The candids that the collaboration's channel must deliver, whatever their program."""
    chosen = load("real_bogus")
    packets = [alert.packet for alert in night()]
    frame = to_frame(
        PacketReader(stored_columns(chosen.reads, public=False)).read(packets).table, chosen.reads
    )
    return Counter(frame["candid"][chosen.passes(frame)].tolist())


def test_the_stream_of_a_night(
    secured: Broker, profiles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Publish, run, keep and listen; no secret passes through the scheduler."""
    servers = secured.bootstrap_servers
    monkeypatch.setenv("ZADS_PROFILE", str(profiles["service"]))
    publish_packets([alert.packet for alert in night()], servers, partitions=2)
    stream, private = topic_names(servers, "ztf_.*programid[12]")
    publish_packets([b"unreadable"], servers, topic=stream)
    (tmp_path / "zads.toml").write_text(CONFIG)
    config = read_config(tmp_path / "zads.toml", bootstrap_servers=servers)
    watching = Descriptors()
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        cluster.scheduler.add_plugin(watching)
        run_live(config, channel_set(config), cluster.scheduler_address, until_drained=True)
    password = _password(profiles["service"])
    assert servers.encode() in watching.seen
    assert password.encode() not in watching.seen
    zads(profiles["service"], "archive", "follow", "--until-drained", "--archive", str(tmp_path / "archive"))
    assert rows_of(tmp_path / "archive", ["candid"]).num_rows == len(night())

    monkeypatch.setenv("ZADS_PROFILE", str(profiles["operator"]))
    operators = secured.operator["bootstrap.servers"]
    enforce_rights(operators)
    assert [letter.topic for letter in dead_letters(operators)] == [stream]
    public, ours = expected("real_bogus"), of_the_collaboration()
    assert public != ours
    assert _heard(profiles["ann"], "channel.real_bogus", monkeypatch) == public
    assert _heard(profiles["cora"], "collab.ours", monkeypatch) == ours
    assert _heard(profiles["bea"], stream, monkeypatch).total() > public.total()
    for who, topic in [("ann", "collab.ours"), ("ann", stream), ("bea", private), ("cora", private)]:
        with pytest.raises(NoSuchTopic, match="no topic"):
            _heard(profiles[who], topic, monkeypatch)
    lines = zads(profiles["ann"], "listen", "channel.real_bogus", "--json", "--until-drained").splitlines()
    assert Counter(json.loads(line)["candid"] for line in lines) == public


def test_a_secret_is_kept_out_of_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "zads.toml"
    file.write_text('[kafka]\n"sasl.password" = "a-secret"\n')
    with pytest.raises(ProfileError, match=r"sasl\.password.*no place") as refused:
        read_config(file)
    assert "a-secret" not in str(refused.value)
    (profile := tmp_path / "ann.ini").write_text("[kafka]\nsasl.password = a-secret\n")
    profile.chmod(0o644)
    monkeypatch.setenv("ZADS_PROFILE", str(profile))
    with pytest.raises(ProfileError, match="others may read"):
        next(listen("any"))
    profile.chmod(0o600)
    profile.write_text("sasl.password = a-secret\n")
    with pytest.raises(ProfileError, match="is no profile") as refused:
        next(listen("any"))
    assert "a-secret" not in str(refused.value)


def _password(profile: Path) -> str:
    (line,) = [line for line in profile.read_text().splitlines() if line.startswith("sasl.password")]
    return line.partition("=")[2].strip()


def _heard(profile: Path, topic: str, monkeypatch: pytest.MonkeyPatch) -> Counter[int | None]:
    """How often each candid is in a topic, as its reader sees it."""
    with monkeypatch.context() as patch:
        patch.setenv("ZADS_PROFILE", str(profile))
        servers = next(line for line in profile.read_text().splitlines() if line.startswith("bootstrap"))
        heard = listen(topic, servers.partition("=")[2].strip(), until_drained=True)
        return Counter(alert.candid for alert in heard if alert.raw != b"unreadable")
