"""Two groups with one channel would deliver twice; two replicas of a group are to run the same channels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.channels.groups import Delivering, SecondGroup, refuse_second_group
from tests.pipeline.night import delivered, expected, night, publish_packets, running

TOPIC = "ztf_20231012_programid1"
TOPICS = ("ztf_1", "ztf_2", "lsst_1")
PATTERNS = ("^ztf_", "^ztf_1", "^lsst_", "^.*_1", "^nothing")

replicas = st.builds(
    Delivering,
    st.sampled_from("ab"),
    st.sampled_from("01"),
    st.frozensets(st.sampled_from("xyz")).map(lambda names: tuple(sorted(names))),
    st.sampled_from(PATTERNS),
)


@given(replicas, st.lists(replicas, max_size=4))
def test_refused_when_an_alert_could_be_delivered_twice(mine: Delivering, known: list[Delivering]) -> None:
    """By brute force: is there a topic and a channel that another group has, and that is new to this one?"""
    mine_before = {name for one in known if one.group == mine.group for name in one.channels}
    twice = {
        (topic, channel)
        for other in known
        if other.group != mine.group
        for topic in TOPICS
        for channel in "xyz"
        if all(reads(one, topic) and channel in one.channels for one in (mine, other))
        if channel not in mine_before
    }
    nothing_yet = any(
        other.topics == mine.topics and set(other.channels) & set(mine.channels) - mine_before
        for other in known
        if other.group != mine.group
    )
    if twice or nothing_yet:
        with pytest.raises(SecondGroup):
            refuse_second_group(mine, known, TOPICS)
    else:
        refuse_second_group(mine, known, TOPICS)


def reads(one: Delivering, topic: str) -> bool:
    prefix = {"^ztf_": "ztf_", "^ztf_1": "ztf_1", "^lsst_": "lsst_"}.get(one.topics)
    return topic.endswith("_1") if one.topics == "^.*_1" else prefix is not None and topic.startswith(prefix)


def test_a_second_group_is_refused_unless_told(own_broker: Broker, tmp_path: Path) -> None:
    servers, some = own_broker.bootstrap_servers, night()[:100]
    publish_packets([alert.packet for alert in some], servers, topic=TOPIC, partitions=1)
    one = ("--channels", "real_bogus", "--workers", "1")
    second = (*one, "--group", "second", "--until-drained")
    with running(servers, tmp_path, *one) as first:
        wanted = expected("real_bogus", some)
        first.until_in_its_middle()
        first.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "all")
        (tmp_path / "2").mkdir()
        with running(servers, tmp_path / "2", *second) as run:
            assert run.wait() == 1
            assert "group zads delivers to channel real_bogus already" in run.text()
        assert delivered(servers, "channel.real_bogus") == wanted
        other = ("--channels", "asteroid,real_bogus", "--workers", "1", "--replica", "1", "--until-drained")
        with running(servers, tmp_path / "2", *other) as run:
            assert run.wait() == 0, run.text()
            told = " ".join(run.text().split())
            assert "replica 0 of group zads runs other channels than this one: asteroid" in told
    with running(servers, tmp_path / "2", *second, "--again") as run:
        assert run.wait() == 0, run.text()
    assert delivered(servers, "channel.real_bogus") == wanted + wanted
