"""Limits: what each lets through, beside the plainest way to say it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from filters.limits import Limits, Once, Passing, Sample, Throttle, let_through

SECOND = 1_000_000
moments = st.lists(st.integers(0, 4 * 3600), max_size=60).map(lambda found: [s * SECOND for s in found])
rates = st.tuples(st.sampled_from([1, 7, 60, 1000, 3600]), st.integers(1, 5))


def at(received: int) -> Passing:
    return Passing(1, "ZTF18a", received)


def by_a_bucket(received: list[int], an_hour: int, burst: int) -> list[bool]:
    """Tokens counted as fractions, one record after another."""
    token = Fraction(round(Fraction(3600 * SECOND, an_hour)))
    tokens, last, through = Fraction(burst), received[0] if received else 0, []
    for moment in received:
        tokens = min(Fraction(burst), tokens + (moment - last) / token)
        last = moment
        through.append(tokens >= 1)
        tokens -= tokens >= 1
    return through


@given(moments, rates)
def test_a_throttle_is_a_token_bucket(received: list[int], rate: tuple[int, int]) -> None:
    in_order = sorted(received)
    assert let_through([Throttle(*rate)], [at(m) for m in in_order]) == by_a_bucket(in_order, *rate)


@given(moments, rates)
def test_no_stretch_of_time_holds_more_than_burst_and_rate_allow(
    received: list[int], rate: tuple[int, int]
) -> None:
    an_hour, burst = rate
    through = let_through([Throttle(*rate)], [at(m) for m in received])
    kept = sorted(moment for moment, passed in zip(received, through, strict=True) if passed)
    for i, first in enumerate(kept):
        for j, last in enumerate(kept[i:], start=i):
            assert j - i + 1 <= burst + (last - first) / round(3600 * SECOND / an_hour) + 1e-9


def test_a_sample_is_a_share_and_another_one_for_each_channel() -> None:
    ones = [Passing(candid, "ZTF18a") for candid in range(10_000)]
    here, there = (let_through([Sample(name, 0.1)], ones) for name in ("here", "there"))
    assert let_through([Sample("here", 0.1)], ones[::-1]) == here[::-1]
    for found in (here, there):
        assert abs(sum(found) - 1000) < 5 * 30  # five standard deviations of a binomial
    both = sum(a and b for a, b in zip(here, there, strict=True))
    assert abs(both - 100) < 5 * 10
    assert all(let_through([Sample("here", 1.0)], ones))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=40),
    st.none() | st.sampled_from([0.5, 10.0]),
)
def test_once_an_object(alerts: list[tuple[str, float]], again: float | None) -> None:
    delivered: list[tuple[str, float]] = []
    slowly = []
    for name, jd in alerts:
        earlier = [when for other, when in delivered if other == name]
        slowly.append(not earlier or (again is not None and jd - earlier[-1] >= again))
        if slowly[-1]:
            delivered.append((name, jd))
    assert let_through([Once(again)], [Passing(1, name, 0, jd) for name, jd in alerts]) == slowly


def test_what_one_limit_stops_is_not_remembered_by_another() -> None:
    limits = Limits(once=True, throttle_per_hour=1).of("channel")
    ones = [Passing(1, "a", 0), Passing(2, "a", 1), Passing(3, "b", 2), Passing(4, "b", 3600 * SECOND)]
    # The second is not the object's first and takes no token; the third finds none, so the fourth is first.
    assert let_through(limits, ones) == [True, False, False, True]


def test_limits_are_written_as_they_are_read() -> None:
    limits = Limits(alerts_per_hour=500, sample=0.1, once=True, again_days=30)
    assert str(limits) == "alerts_per_hour=500 sample=0.1 once=true again_days=30.0"
    assert Limits.model_validate(dict(word.split("=") for word in str(limits).split())) == limits
    assert Limits.model_validate_json(limits.model_dump_json()) == limits
    assert str(Limits()) == ""


@pytest.mark.parametrize(
    "wrong", [{"sample": 0}, {"sample": 1.1}, {"throttle_burst": 3}, {"again_days": 1}, {"thorttle": 1}]
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(wrong)
