"""One party's fault has one victim: the others go on, and the victim is named."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from cluster.kafka.broker import Broker
from commands.shared.options import EXIT_INCOMPLETE
from commands.shared.view import EXIT_SUSPENDED
from pipeline.broker.client import topic_names
from pipeline.broker.topics import ensure_topics, not_there, topic_ids
from pipeline.channels.config import RunConfig
from pipeline.channels.definition import Definition
from pipeline.channels.registry import write_registry
from pipeline.channels.state import STATE_TOPIC, states
from pipeline.clients.status.status import status
from pipeline.worker.backfill import gaps_of
from tests.pipeline.night import Run, delivered, expected, night, publish_night, publish_packets, running

GUARDED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""Settings of a broker where everybody may do what no rule forbids."""
TWO_NIGHTS = ("ztf_20231012_programid1", "ztf_20231013_programid1")


@pytest.fixture
def guarded() -> Iterator[Broker]:
    """A broker where everybody may do everything that no rule of a test forbids."""
    with Broker(settings=GUARDED) as broker:
        yield broker


def forbid(admin: AdminClient, topic: str, operation: AclOperation) -> list[AclBindingFilter]:
    """Take one right to a topic from everybody; what to delete to give it back."""
    rules = [
        AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", what, how)
        for what, how in ((AclOperation.ALL, AclPermissionType.ALLOW), (operation, AclPermissionType.DENY))
    ]
    for future in admin.create_acls(rules).values():
        future.result()
    where = ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None
    return [AclBindingFilter(*where, AclOperation.ANY, AclPermissionType.ANY)]


def said_to_be_suspended(config: RunConfig) -> set[str]:
    """Names of channels, as `zads status` tells them from any machine."""
    problems = status(config, [config.group]).problems
    return {words.split()[1] for words in problems if " is suspended: " in words}


def test_a_run_that_may_not_say_how_it_is_does_its_work_all_the_same(guarded: Broker, tmp_path: Path) -> None:
    servers = guarded.bootstrap_servers
    forbid(AdminClient({"bootstrap.servers": servers}), STATE_TOPIC, AclOperation.WRITE)
    publish_night(servers)
    with running(servers, tmp_path, "--channels", "real_bogus", "--workers", "1", "--until-drained") as run:
        assert run.wait() == 0, run.text()
        assert f"how this run is does not reach {STATE_TOPIC}" in run.text()
    assert delivered(servers, "channel.real_bogus") == expected("real_bogus")


def test_a_topic_that_may_not_be_looked_at_is_not_taken_for_a_deleted_one(guarded: Broker) -> None:
    """Its unread records would become gaps, and be delivered twice when the right is there again."""
    admin, topic = AdminClient({"bootstrap.servers": guarded.bootstrap_servers}), "ztf_20231012_programid1"
    ensure_topics(guarded.bootstrap_servers, [topic], partitions=1)
    assert not_there(admin, [topic, "nowhere"]) == {"nowhere"}
    forbid(admin, topic, AclOperation.DESCRIBE)
    assert topic_ids(admin, [topic]) == {}
    assert not_there(admin, [topic, "nowhere"]) == {"nowhere"}


def test_a_bad_channel_is_suspended_alone(guarded: Broker, tmp_path: Path) -> None:
    """A topic with too small a limit, one that may not be written to, one whose name Kafka refuses, and a
    filter that no longer loads."""
    servers = guarded.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": servers})
    bad_topics = [
        NewTopic("channel.pure_transient", 1, config={"max.message.bytes": "20000"}),
        NewTopic("channel_solar_system", 1),  # to Kafka the same as channel.solar_system
    ]
    for future in admin.create_topics(bad_topics).values():
        future.result()
    forbid(admin, "channel.asteroid", AclOperation.WRITE)
    broken = Definition(
        name="broken", filter="mine.py:mine", source="import no_such_package", state="enabled"
    )
    write_registry([broken], servers, who="a test")
    publish_night(servers)
    names = "real_bogus,pure_transient,solar_system,asteroid,broken"
    bad = {"pure_transient", "solar_system", "asteroid", "broken"}
    config = RunConfig(bootstrap_servers=servers)
    with running(servers, tmp_path, "--channels", names, "--workers", "1") as run:
        run.until(lambda: "channel.real_bogus" in topic_names(servers), "a channel's topic")
        wanted = expected("real_bogus")
        run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "what can be delivered")
        run.until(lambda: said_to_be_suspended(config) == bad, "zads status to name them")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == EXIT_SUSPENDED, run.text()
    assert {gap.channel for gap in gaps_of(config)} == bad
    for word in ("channel.pure_transient", "channel.solar_system", "channel.asteroid", "no_such_package"):
        assert word in run.text().replace("\n", "")


def test_an_input_that_goes_away_is_set_aside_alone(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    first, more = night()[:200], night()[200:400]
    admin = AdminClient({"bootstrap.servers": servers})
    for topic in TWO_NIGHTS:
        publish_packets([alert.packet for alert in first], servers, topic=topic, partitions=2)
    with running(servers, tmp_path, "--channels", "real_bogus", "--workers", "1") as run:
        twice = expected("real_bogus", first) + expected("real_bogus", first)
        run.until(lambda: "channel.real_bogus" in topic_names(servers), "a channel's topic")
        run.until(lambda: delivered(servers, "channel.real_bogus") == twice, "both nights")
        admin.delete_topics([TWO_NIGHTS[1]])[TWO_NIGHTS[1]].result()
        run.until(lambda: "cannot be read" in run.text(), "that one is missed", seconds=20)
        publish_packets([alert.packet for alert in more], servers, topic=TWO_NIGHTS[0])
        wanted = twice + expected("real_bogus", more)
        run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "the other goes on", seconds=20)
        _deleted_unread(servers, run, admin)
        run.process.send_signal(signal.SIGINT)
        assert run.wait(60) == EXIT_INCOMPLETE, run.text()


def _deleted_unread(servers: str, run: Run, admin: AdminClient) -> None:
    """What was in it is a gap, which an operator finds also when the run has ended."""
    config = RunConfig(bootstrap_servers=servers)
    (worker,) = run.workers()
    worker.suspend()
    publish_packets([alert.packet for alert in night()[:50]], servers, topic=TWO_NIGHTS[0])
    run.until(lambda: states(servers, ["zads"])[0].lag == 50, "the run says that they wait", seconds=40)
    assert not gaps_of(config)
    admin.delete_topics([TWO_NIGHTS[0]])[TWO_NIGHTS[0]].result()
    run.until(lambda: bool(gaps_of(config)), "a gap", seconds=60)
    worker.resume()
    assert {(gap.channel, gap.topic) for gap in gaps_of(config)} == {("real_bogus", TWO_NIGHTS[0])}
    assert sum(gap.high - gap.low for gap in gaps_of(config)) == 50
    assert "and with it up to 50 records that had not been read" in run.text()
