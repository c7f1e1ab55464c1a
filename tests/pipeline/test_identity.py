"""An offset is of one topic: what happens when that is made again, cut, or gone before it was read."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from commands.shared.options import EXIT_INCOMPLETE
from pipeline.broker.partition import Partition
from pipeline.broker.topics import ensure_topics
from pipeline.channels.config import RunConfig, channel_set, read_config
from pipeline.channels.gaps import GAPS_SETTINGS, GAPS_TOPIC
from pipeline.clients.given_up import give_up
from pipeline.clients.in_force import in_force
from pipeline.live.source import Unread
from pipeline.live.unread import GapsOfDeleted
from pipeline.worker.backfill import backfill, gaps_of
from pipeline.worker.holding.position import metadata_of, standing
from simulator import SimulatedAlert
from tests.pipeline import topics
from tests.pipeline.night import delivered, expected, night, publish_packets, running

TOPIC = "ztf_20231012_programid1"
CHANNEL = ("--channels", "real_bogus", "--workers", "1")
RAISING_CHANNEL = """
[limits]
failing_alerts = 90
[channels.raises]
filter = "mine.py:raises"
"""
RAISING_FILTER = """
from filters import alert_filter

@alert_filter(survey="ztf", reads=["rb"])
def raises(alerts):
    if (alerts["candid"] % 5 == 0).any():
        raise ZeroDivisionError("one of five")
    return {"good": alerts["rb"] > 0.5}
"""


def publish(servers: str, alerts: tuple[SimulatedAlert, ...]) -> None:
    publish_packets([alert.packet for alert in alerts], servers, topic=TOPIC, partitions=1)


def test_a_topic_made_again_is_read_from_its_beginning(own_broker: Broker, tmp_path: Path) -> None:
    servers, first, second = own_broker.bootstrap_servers, night()[:400], night()[400:600]
    publish(servers, first)
    with running(servers, tmp_path, *CHANNEL) as run:
        run.until_in_its_middle()
        run.until(
            lambda: delivered(servers, "channel.real_bogus") == expected("real_bogus", first), "the first"
        )
        topics.recreate(servers, TOPIC)
        publish(servers, second)  # fewer records than before: old offsets are beyond its end
        both = expected("real_bogus", first) + expected("real_bogus", second)
        run.until(lambda: delivered(servers, "channel.real_bogus") == both, "the second too", seconds=40)
        assert "made again" in run.text()
    # And while nobody runs.
    topics.recreate(servers, TOPIC)
    publish(servers, first[:300])
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == 0, run.text()
        assert "made again" in run.text()
    assert delivered(servers, "channel.real_bogus") == both + expected("real_bogus", first[:300])
    (told,) = in_force(read_config(bootstrap_servers=servers), "real_bogus")
    assert (told.low, told.high, told.made_again) == (0, None, True)


def test_records_deleted_before_they_were_read_are_said_and_leave_a_gap(
    own_broker: Broker, tmp_path: Path
) -> None:
    servers = own_broker.bootstrap_servers
    publish(servers, night()[:100])
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    publish(servers, night()[100:300])
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.delete_records([TopicPartition(TOPIC, 0, 150)]).values():
        future.result()
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == EXIT_INCOMPLETE, run.text()
    assert "offsets 100 to 149 were deleted before they were read" in run.text()
    (gap,) = gaps_of(RunConfig(bootstrap_servers=servers))
    assert (gap.channel, gap.topic, gap.low, gap.high) == ("real_bogus", TOPIC, 100, 150)
    wanted = expected("real_bogus", night()[:100]) + expected("real_bogus", night()[150:300])
    assert delivered(servers, "channel.real_bogus") == wanted
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == 0, run.text()  # said once


def test_a_group_beyond_the_end_of_its_topic_is_no_lag_of_0(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    publish(servers, night()[:100])
    topics.move_group(servers, TOPIC, 1_000_000)
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == EXIT_INCOMPLETE, run.text()
    assert "1000000 was beyond the end of the topic, 100" in run.text()
    (gap,) = gaps_of(RunConfig(bootstrap_servers=servers))
    assert gap.low == gap.high == 100
    publish(servers, night()[100:200])
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert delivered(servers, "channel.real_bogus") == expected("real_bogus", night()[100:200])


def test_what_a_deleted_topic_had_unread_is_a_gap_until_it_is_given_up(broker: Broker) -> None:
    """Also when it is written twice."""
    config = RunConfig(bootstrap_servers=broker.bootstrap_servers, topics="^gone_")
    channels, name = channel_set(config, ["real_bogus"]), f"gone_{uuid.uuid4().hex[:8]}"
    ensure_topics(config.bootstrap_servers, [GAPS_TOPIC], partitions=1, config=GAPS_SETTINGS)
    lost = [Unread(Partition(name, 1), 3, 8, "id")]
    for unread in (lost.copy(), lost.copy()):
        GapsOfDeleted(config).write(unread, channels)
        assert not unread
    (gap,) = [gap for gap in gaps_of(config, "real_bogus") if gap.topic == name]
    assert (gap.source, gap.low, gap.high, gap.topic_id) == (*lost[0],)
    (channel,) = channels.channels
    assert any(name in words for words in give_up(config, channel))
    assert not [gap for gap in gaps_of(config, "real_bogus") if gap.topic == name]


def test_a_gap_is_not_filled_with_what_was_written_after_the_log_was_cut(
    own_broker: Broker, tmp_path: Path
) -> None:
    """The run has delivered that already. Of a gap below the cut all is there, and is delivered."""
    servers = own_broker.bootstrap_servers
    for first in range(0, 100, 10):
        publish(servers, night()[first : first + 10])
    (tmp_path / "zads.toml").write_text(RAISING_CHANNEL)
    (tmp_path / "mine.py").write_text(RAISING_FILTER)
    with running(servers, tmp_path, "--workers", "1", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    config = RunConfig(bootstrap_servers=servers)
    gaps = gaps_of(config)
    epochs = {record.offset(): record.leader_epoch() for record in topics.records(servers, TOPIC)}
    assert [gap.epoch for gap in gaps] == [epochs[gap.low] for gap in gaps]
    topics.cut_log(own_broker, TOPIC, 80)
    publish(servers, night()[100:120])
    mended = channel_set(config, ["real_bogus"]).channels[0]
    done = backfill(config, replace(mended, name="raises"))
    below = [gap for gap in gaps if gap.high <= 80]
    assert 0 < len(below) < len(gaps)
    assert (done.gaps, done.left) == (len(below), len(gaps) - len(below))
    assert "the log was cut, and has other records there since" in done.unreadable[0]


def test_a_log_that_was_cut_is_read_on_from_where_it_was_cut(own_broker: Broker, tmp_path: Path) -> None:
    """As after an unclean election: other records come under offsets that the group has passed."""
    servers = own_broker.bootstrap_servers
    for first in range(0, 100, 10):  # in batches, since whole batches are cut
        publish(servers, night()[first : first + 10])
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    topics.cut_log(own_broker, TOPIC, 80)
    publish(servers, night()[100:400])
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == EXIT_INCOMPLETE, run.text()
    assert (
        "cut at offset 80 and written again, after what had been there was read up to offset 100"
        in run.text()
    )
    (gap,) = gaps_of(RunConfig(bootstrap_servers=servers))
    assert gap.low == gap.high == 80
    wanted = expected("real_bogus", night()[:100]) + expected("real_bogus", night()[100:400])
    assert delivered(servers, "channel.real_bogus") == wanted
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == 0, run.text()  # said once


numbers = st.integers(0, 40)


@given(numbers, numbers, numbers, st.sampled_from(["", "one", "another"]), st.booleans(), st.booleans())
def test_where_a_group_stands(
    committed: int, beginning: int, length: int, was: str, none: bool, ask_the_end: bool
) -> None:
    """Never before the beginning; never beyond the end where that was asked; and each loss is told."""
    end = beginning + length
    place = TopicPartition("t", 0, OFFSET_INVALID if none else committed, metadata_of("v", was))
    stood = standing(place, "one", beginning, end if ask_the_end else None)
    assert stood.offset >= beginning
    if ask_the_end:
        assert stood.offset <= end
    same = was != "another" and not none
    assert stood.made_again == (was == "another" and not none)
    assert bool(stood.loss) == (same and (committed < beginning or (ask_the_end and committed > end)))
    if same and not stood.loss:
        assert stood.offset == committed
    if not same:
        assert stood.offset == beginning


@pytest.mark.parametrize("whole", [True, False])
def test_a_gap_is_not_filled_from_the_topic_that_came_after(
    own_broker: Broker, tmp_path: Path, whole: bool
) -> None:
    """Its offsets are of the former one; of the new one these records were delivered, and would be twice.

    whole: the channel misses whole batches because it is suspended; else what retention has taken.
    """
    servers = own_broker.bootstrap_servers
    config = read_config(bootstrap_servers=servers)
    if whole:
        ensure_topics(servers, ["channel.real_bogus"], config={"max.message.bytes": "2000"})
    publish(servers, night()[:60])
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        run.wait()
    if not whole:
        publish(servers, night()[60:120])
        admin = AdminClient({"bootstrap.servers": servers})
        for future in admin.delete_records([TopicPartition(TOPIC, 0, 80)]).values():
            future.result()
        with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
            run.wait()
    there = gaps_of(config)
    assert there
    assert all(gap.topic_id for gap in there)
    topics.recreate(servers, TOPIC)
    publish(servers, night()[120:260])
    topics.limit(servers, "channel.real_bogus", 10_000_000)
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    before = delivered(servers, "channel.real_bogus")
    assert before >= expected("real_bogus", night()[120:260])
    (channel,) = channel_set(config, ["real_bogus"]).channels
    done = backfill(config, channel)
    assert (done.gaps, done.left) == (0, len(there))
    assert all("made again" in why for why in done.unreadable)
    assert delivered(servers, "channel.real_bogus") == before
    told = give_up(config, channel)
    assert len(told) == len(there)
    assert all("made again" in why for why in told)
    assert gaps_of(config) == []


def test_what_retention_has_taken_of_a_gap_is_given_up_and_the_rest_is_filled(
    own_broker: Broker, tmp_path: Path
) -> None:
    servers = own_broker.bootstrap_servers
    config = read_config(bootstrap_servers=servers)
    ensure_topics(servers, ["channel.real_bogus"], config={"max.message.bytes": "2000"})
    publish(servers, night()[:60])
    with running(servers, tmp_path, *CHANNEL, "--until-drained") as run:
        run.wait()
    assert sum(gap.high - gap.low for gap in gaps_of(config)) == 60
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.delete_records([TopicPartition(TOPIC, 0, 20)]).values():
        future.result()
    topics.limit(servers, "channel.real_bogus", 10_000_000)
    (channel,) = channel_set(config, ["real_bogus"]).channels
    told = give_up(config, channel)
    assert told
    assert all("retention" in why for why in told)
    assert give_up(config, channel) == []  # the rest can be read
    assert sum(gap.high - gap.low for gap in gaps_of(config)) == 40
    assert backfill(config, channel).left == 0
    assert delivered(servers, "channel.real_bogus") == expected("real_bogus", night()[20:60])
