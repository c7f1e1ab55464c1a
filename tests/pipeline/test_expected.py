"""What a channel delivers beside what its backtest said, by hand and on a real broker."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.channels.definition import Definition
from pipeline.channels.expected import CHANCE, FACTOR, Expected
from pipeline.channels.registry import write_registry
from tests.pipeline.night import expected, night, publish_night, running

shares = st.floats(0, 0.05)


def tail(counted: int, mean: float) -> float:
    """The chance of a Poisson count that is as far from its mean, or farther, on the same side."""
    terms = [math.exp(-mean + i * math.log(mean) - math.lgamma(i + 1)) for i in range(counted + 1)]
    return sum(terms) if counted < mean else 1 - sum(terms[:-1])


@given(shares, shares, st.integers(1, 3_000), st.floats(0, 0.2))
def test_nothing_is_said_that_chance_or_a_factor_explains(a: float, b: float, of: int, share: float) -> None:
    low, high = sorted((a, b + 1e-4))
    passed = round(share * of)
    said = Expected(low, high).surprise(passed, of)
    if said and passed > high * of:
        assert passed > FACTOR * high * of
        assert tail(passed, high * of) < CHANCE
    elif said:
        assert passed < low * of / FACTOR
        assert tail(passed, low * of) < CHANCE


def nights(*counts: tuple[int, int]) -> list[dict[str, int]]:
    return [{"alerts": alerts, "of": of} for alerts, of in counts]


def test_what_is_far_off_is_said() -> None:
    found = Expected.of(nights((10, 1000), (40, 2000)))
    assert found is not None
    assert found.surprise(40, 1000) == ""  # twice what the better night had
    assert found.surprise(80, 1000) == "80 of 1,000 alerts passed, by its backtest 10 to 20 would"
    assert found.surprise(0, 1000)
    assert found.surprise(0, 100) == ""  # of one expected


def test_a_backtest_that_passed_nothing_lets_expect_one_at_most() -> None:
    found = Expected.of(nights((0, 1000), (0, 4000)))
    assert found is not None
    assert found.surprise(0, 100_000) == ""
    assert found.surprise(4, 1000) == ""
    assert found.surprise(12, 1000)
    assert Expected.of(nights((0, 0))) is None


def test_a_report_of_other_parameters_lets_expect_nothing() -> None:
    made = Definition(name="bright", filter="real_bogus").with_changes().becoming("enabled")
    tried = made.becoming("enabled", report={"of": made.judged, "nights": nights((1, 10))})
    assert tried.expected
    assert tried.channel().expected == tried.expected
    assert tried.effect != made.effect
    assert tried.with_changes(parameters={"rb_min": 0.9}).expected is None
    assert tried.channel().describe() == made.channel().describe()


def enabled(name: str, share: float, rb_min: float = 0.65) -> Definition:
    made = Definition(name=name, filter="real_bogus").with_changes(parameters={"rb_min": rb_min})
    report: dict[str, Any] = {"of": made.judged, "nights": nights((round(share * 10_000), 10_000))}
    return made.becoming("enabled", report=report)


def test_the_operator_is_told_once(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    (tmp_path / "zads.toml").write_text("[dispatch]\nmessages = 50\n")
    public = sum(alert.programid == 1 for alert in night())
    passed = expected("real_bogus").total()
    channels = enabled("as_tried", passed / public), enabled("flood", 0.001), enabled("dry", 0.5, rb_min=2)
    write_registry(channels, servers, who="a test")
    publish_night(servers)
    with running(servers, tmp_path, "--channels", "as_tried,flood,dry", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    live, _, summary = run.text().partition("channel.as_tried ")
    for name, count in (("flood", passed), ("dry", 0)):
        assert " ".join(live.split()).count(f"channel {name}, night ") == 1
        assert f"on, but {count:,} of {public:,} alerts passed" in " ".join(summary.split())
        assert f"channel {name}, night " in summary
    assert "as_tried, night" not in run.text()
