"""Counts of channels that are kept in groups come to what they come to one by one."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.channels.counts import ByChannel, ChannelCounts

NAMES = ["a", "b", "c", 'with "quotes"', "ü", "d"]
COUNTS = st.builds(ChannelCounts._make, st.lists(st.integers(-9, 99), min_size=10, max_size=10))
GROUPS = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("each"), GROUPS, COUNTS),
        st.tuples(st.just("set"), st.sampled_from(NAMES), COUNTS),
    ),
    max_size=8,
)


def built(steps: list[tuple]) -> tuple[ByChannel, dict[str, ChannelCounts]]:
    """The same steps in groups, and one by one in a plain dictionary."""
    grouped, plain = ByChannel(), dict[str, ChannelCounts]()
    for what, names, counts in steps:
        if what == "each":
            grouped.add_to_each(names, counts)
            for name in names:
                plain[name] = total(plain.get(name, ChannelCounts()), counts)
        else:
            grouped[names] = plain[names] = counts
    return grouped, plain


def total(*some: ChannelCounts) -> ChannelCounts:
    return ChannelCounts(*(sum(column) for column in zip(*some, strict=True)))


@given(STEPS)
def test_groups_come_to_what_channels_come_to_one_by_one(steps: list[tuple]) -> None:
    grouped, plain = built(steps)
    assert dict(grouped) == plain
    assert grouped == plain
    assert len(grouped) == len(plain)
    assert {name: grouped[name] for name in plain} == plain
    assert all(name not in grouped for name in NAMES if name not in plain)
    assert json.loads(grouped.as_json()) == {name: list(counts) for name, counts in plain.items()}


@given(STEPS, STEPS)
def test_two_of_them_are_added_channel_by_channel(first: list[tuple], second: list[tuple]) -> None:
    (one, plain), (other, more) = built(first), built(second)
    copy = ByChannel(one)
    one.add(other)
    wanted = {n: total(*(p[n] for p in (plain, more) if n in p)) for n in plain.keys() | more.keys()}
    assert one == wanted
    assert json.loads(one.as_json()) == {name: list(counts) for name, counts in wanted.items()}
    assert copy == plain, "a copy is not changed with it"
    assert other == more
