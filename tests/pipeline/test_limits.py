"""A channel's limits: how much it has delivered within the last hour, and how limits are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.partition import Partition
from pipeline.channels.channel import ChannelSet
from pipeline.channels.definition import Definition
from pipeline.channels.limits import LastHour
from pipeline.live.in_force import InForce
from pipeline.live.recovery import Recovery
from pipeline.worker.work import Report, Work

batches = st.lists(st.tuples(st.floats(0, 3000), st.integers(0, 50)), max_size=20)


@given(batches)
def test_the_last_hour_is_the_last_hour(waits_and_alerts: list[tuple[float, int]]) -> None:
    counted, said, now = LastHour(), [], 0.0
    for wait, alerts in waits_and_alerts:
        now += wait
        said.append((now, alerts))
        slowly = sum(count for moment, count in said if now - moment < 3600)
        assert counted.add("bright", alerts, now) == slowly
        assert counted.add("other", 0, now) == 0
    counted.forget("bright")
    assert counted.add("bright", 3, now) == 3


def limited(most: int | None, rb_min: float = 0.5) -> ChannelSet:
    made = Definition(name="bright", filter="real_bogus").with_changes(
        parameters={"rb_min": rb_min}, limits={"alerts_per_hour": most}
    )
    return ChannelSet((made.channel(),))


def delivery(channels: ChannelSet, alerts: int) -> Report:
    work = Work(Partition("t", 0), 0, 9, 1, False, "r", 1, "g", b"", {}, b"", channels.version)
    return Report(work, "committed", matches={"bright": ["ZTF18abc"] * alerts})


def test_a_channel_is_suspended_past_its_limit_and_begins_anew_when_it_is_changed() -> None:
    first, recovery = limited(10), Recovery()
    force = InForce(first, recovery)
    force.settled(delivery(first, 10))
    assert not recovery.suspended
    force.settled(delivery(first, 1))
    assert "11 alerts within an hour, its limit is 10" in recovery.suspended["bright"]
    second = limited(10, rb_min=0.9)
    force.switch(second, b"")
    assert not recovery.suspended
    force.settled(delivery(first, 50))  # was in flight: says nothing of the channel as it is now
    force.settled(delivery(second, 10))
    assert not recovery.suspended
    unlimited = limited(None)
    force.switch(unlimited, b"")
    force.settled(delivery(unlimited, 1_000))
    assert not recovery.suspended
