"""Channels that read another channel: exactly once, within one run, and nobody else sees what they read."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from commands.shared.view import EXIT_SUSPENDED
from pipeline.broker.client import topic_names
from pipeline.broker.listen import Alert, listen
from pipeline.channels.channel import Access, ChannelSet
from pipeline.channels.config import (
    ALL_TOPICS,
    ChannelConfig,
    ConfigError,
    RunConfig,
    channel_set,
    configured_channel,
    read_config,
)
from pipeline.channels.definition import Definition
from pipeline.channels.inputs import InputError, refuse_wrong_inputs
from pipeline.channels.registry import Registry, write_registry
from pipeline.worker.backfill import backfill, gaps_of
from tests.pipeline.night import expected, night, publish_night, running

CHAIN = {"first": 0.5, "second": 0.7, "third": 0.9}
BATCHES = "[dispatch]\nmessages = 50\n"


def table(name: str, rb_min: float, **more: str) -> str:
    """[channels.NAME] of a filter on real-bogus."""
    settings = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    return f'[channels.{name}]\nfilter = "real_bogus"\n{settings}parameters = {{ rb_min = {rb_min} }}\n'


def alerts_in(servers: str, topic: str) -> list[Alert]:
    return list(listen(topic, servers, until_drained=True)) if topic in topic_names(servers) else []


def candids(alerts: list[Alert]) -> Counter[int]:
    return Counter(alert.candid for alert in alerts)


def sources(alerts: list[Alert]) -> Counter[str]:
    return Counter(alert.headers["source"].rsplit("/", 2)[0] for alert in alerts)


def drain(servers: str, folder: Path, expect: int = 0) -> None:
    """A run to the end of what is there."""
    with running(servers, folder, "--until-drained") as run:
        assert run.wait() == expect, run.text()


def test_a_chain_is_drained_to_its_end(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    tables = [
        table("third", CHAIN["third"], input="second"),
        table("first", CHAIN["first"]),
        table("second", CHAIN["second"], input="first"),
        table("all", 0, access="collaboration"),
        table("inside", CHAIN["third"], access="collaboration", input="all"),
    ]
    (tmp_path / "zads.toml").write_text(BATCHES + "".join(tables))
    publish_night(servers)
    drain(servers, tmp_path)
    for name, rb_min in CHAIN.items():
        assert candids(alerts_in(servers, f"channel.{name}")) == expected("real_bogus", rb_min=rb_min), name
    assert set(sources(alerts_in(servers, "channel.first"))) == set(topic_names(servers, "ztf_.*_programid1"))
    third = alerts_in(servers, "channel.third")
    assert sources(third) == {"channel.second": len(third)}
    inside = alerts_in(servers, "collab.inside")
    assert sources(inside) == {"collab.all": len(inside)}
    not_public = {alert.candid for alert in night() if alert.programid != 1}
    assert not_public & candids(inside).keys()
    assert set(candids(inside).values()) == {1}


def enabled(name: str, source: str) -> Definition:
    made = Definition(name=name, filter="real_bogus").with_changes(
        parameters={"rb_min": CHAIN[name]}, input=source
    )
    return made.becoming("enabled")


@pytest.mark.timeout(300)
def test_inputs_that_come_under_way_are_read_exactly_once(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    (tmp_path / "zads.toml").write_text(BATCHES + table("first", CHAIN["first"]))
    publish_night(servers, night()[:400])
    with running(servers, tmp_path, "--workers", "2") as run:
        run.until(lambda: bool(alerts_in(servers, "channel.first")), "the first channel's alerts")
        write_registry([enabled("second", "first")], servers, who="a test")
        run.until(lambda: bool(alerts_in(servers, "channel.second")), "the second channel's alerts")
        publish_night(servers, night()[400:700])
        run.workers()[0].kill()
        (third,) = write_registry([enabled("third", "second")], servers, who="a test")
        run.until(lambda: bool(alerts_in(servers, "channel.third")), "the third channel's alerts")
        publish_night(servers, night()[700:])
        run.kill()
    drain(servers, tmp_path)
    for name, rb_min in CHAIN.items():
        assert candids(alerts_in(servers, f"channel.{name}")) == expected("real_bogus", rb_min=rb_min), name
    places = [alert.headers["source"] for alert in alerts_in(servers, "channel.third")]
    assert len(set(places)) == len(places)
    # What goes by while a channel is paused is not delivered later.
    (paused,) = write_registry([third.becoming("paused")], servers, who="a test")
    publish_night(servers, night()[:100])
    drain(servers, tmp_path)
    write_registry([paused.becoming("enabled")], servers, who="a test")
    drain(servers, tmp_path)
    late = expected("real_bogus", night()[:100], rb_min=CHAIN["second"])
    found = expected("real_bogus", rb_min=CHAIN["second"]) + late
    assert candids(alerts_in(servers, "channel.second")) == found
    assert len(alerts_in(servers, "channel.third")) == len(places)


def test_backfill_of_a_channel_of_a_channel(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    limited = table("second", CHAIN["second"], input="first") + "limits = { alerts_per_hour = 30 }\n"
    (tmp_path / "zads.toml").write_text(BATCHES + table("first", CHAIN["first"]) + limited)
    publish_night(servers)
    drain(servers, tmp_path, expect=EXIT_SUSPENDED)
    config, should = read_config(tmp_path / "zads.toml", bootstrap_servers=servers), CHAIN["second"]
    assert {gap.topic for gap in gaps_of(config)} == {"channel.first"}
    assert candids(alerts_in(servers, "channel.second")) != expected("real_bogus", rb_min=should)
    channel = configured_channel("second", config.channels["second"])
    assert not backfill(config, channel).left
    assert candids(alerts_in(servers, "channel.second")) == expected("real_bogus", rb_min=should)


def channels(*tables: tuple[str, str, Access]) -> dict[str, ChannelConfig]:
    return {
        name: ChannelConfig(filter="real_bogus", input=source, access=access)
        for name, source, access in tables
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (channels(("a", "b", "public")), "a reads from channel b, which is not there"),
        (channels(("a", "a", "public")), "in a circle: a from a"),
        (
            channels(("a", "b", "public"), ("b", "c", "public"), ("c", "a", "public")),
            "in a circle: a from b from c from a",
        ),
        (
            channels(("a", "b", "public"), ("b", "", "collaboration")),
            "a is public: it may not read from b, a collaboration channel",
        ),
        (
            {**channels(("a", "", "public")), "b": ChannelConfig(filter="pure", input="a", topics="ztf")},
            "`topics`",
        ),
    ],
)
def test_inputs_that_cannot_be_are_refused(wrong: dict[str, ChannelConfig], said: str) -> None:
    with pytest.raises(InputError, match=said):
        refuse_wrong_inputs(wrong, wrong)
    with pytest.raises(InputError, match=said):
        channel_set(RunConfig(channels=wrong))


def test_a_channel_of_the_registry_without_its_input_is_refused_alone() -> None:
    """Its input is a channel of another run's configuration, say: it ended each run that saw the registry."""
    lost = Definition(name="lost", filter="real_bogus", input="nowhere").completed().becoming("enabled")
    registry = Registry("t", {"lost": lost}, (lost,), 4)
    chosen = channel_set(RunConfig(channels=channels(("a", "", "public"))), None, registry)
    assert [name for name, _ in chosen.refused] == ["lost"]
    assert "reads from channel nowhere, which is not there" in dict(chosen.refused)["lost"]
    assert [channel.name for channel in chosen.channels] == ["a", "lost"], "it leaves gaps"


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_exactly_the_circles_are_refused(inputs: list[int]) -> None:
    """Channel 0 reads the night; the others read whichever they like."""
    every = channels(("0", "", "public"), *((str(n), str(of), "public") for n, of in enumerate(inputs) if n))

    def reaches_the_night(number: int) -> bool:
        for _ in range(len(inputs)):
            number = inputs[number] if number else 0
        return number == 0

    if all(map(reaches_the_night, range(6))):
        refuse_wrong_inputs(every, every)
    else:
        with pytest.raises(InputError, match="circle"):
            refuse_wrong_inputs(every, every)


def test_who_reads_what() -> None:
    tables = channels(
        ("night", "", "public"),
        ("public", "night", "public"),
        ("inside", "night", "collaboration"),
    )
    every = channel_set(RunConfig(channels=tables, topics=ALL_TOPICS))
    readers = {
        topic: {channel.name for channel in every.channels if every.reads(channel, topic)}
        for topic in ("ztf_20231012_programid1", "channel.night", "collab.night", "channel.public")
    }
    assert readers == {
        "ztf_20231012_programid1": {"night"},
        "channel.night": {"public", "inside"},
        "collab.night": {"inside"},
        "channel.public": set(),
    }
    assert every.inputs == ("channel.night", "collab.night")
    alone = ChannelSet((configured_channel("public", tables["public"]),))
    assert alone.reads(alone.channels[0], "channel.night"), "as a backfill has it"


@pytest.mark.parametrize("topics", ["^.*", ".*", "^(ztf_|zads[.]).*", "channel[.].*"])
def test_a_pattern_that_matches_what_zads_writes_is_refused(topics: str) -> None:
    """What channels deliver would come in again, and again."""
    with pytest.raises(ConfigError, match="own topics"):
        read_config(None, topics=topics)


def test_a_name_stands_for_itself_alone() -> None:
    pattern = read_config(None, topics="night").topics
    assert [name for name in ("night", "night_2", "tonight") if re.match(pattern, name)] == ["night"]
