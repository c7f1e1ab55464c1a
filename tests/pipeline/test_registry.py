"""The channel registry on a real broker: states, revisions, concurrent edits, and what runs because of it."""

from __future__ import annotations

import pickle
import threading

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from filters.external import Store
from filters.external.add import add_region
from pipeline.broker.partition import Partition
from pipeline.broker.reading.shared_ranges import SharedReader
from pipeline.channels.changes import channels_to_come, known_definition
from pipeline.channels.channel import is_older
from pipeline.channels.config import ConfigError, channel_set, read_config
from pipeline.channels.definition import ChannelError, Definition, by_value
from pipeline.channels.registry import (
    CHANNELS_TOPIC,
    EditConflict,
    Registry,
    follow_registry,
    read_registry,
    write_registry,
)
from pipeline.worker.holding.lane import Behind, Lane
from pipeline.worker.work import Work
from tests.pipeline import topics

USER_FILE = """
from filters import alert_filter
from typing import Annotated


@alert_filter(survey="ztf", reads=["rb"])
def mine(alerts, *, rb_min: Annotated[float, ""] = 0.9):
    '''Good ones.'''
    return {"good": alerts["rb"] > rb_min}
"""


def draft(name: str = "bright", **changes: object) -> Definition:
    return Definition(name=name, filter="real_bogus").with_changes(**changes)


@pytest.fixture
def servers(own_broker):
    return own_broker.bootstrap_servers


def test_every_revision_is_kept_and_the_second_editor_is_told(servers):
    assert read_registry(servers) == Registry()
    (first,) = write_registry([draft()], servers, who="ann", why="new")
    assert (first.revision, first.who, first.parameters) == (1, "ann", {"rb_min": 0.65})
    write_registry([first.with_changes(parameters={"rb_min": 0.7})], servers, who="ben")
    with pytest.raises(EditConflict, match=r"revision 2.*ben set rb_min 0.65 → 0.7"):
        write_registry([first.with_changes(parameters={"rb_min": 0.8})], servers, who="cat")
    found = read_registry(servers)
    assert found["bright"].parameters == {"rb_min": 0.7}
    assert [(d.revision, d.who) for d in found.history] == [(1, "ann"), (2, "ben")]


def test_of_editors_at_the_same_time_one_wins(servers):
    (first,) = write_registry([draft()], servers, who="ann")
    told: list[str] = []

    def edit(value: float) -> None:
        try:
            write_registry([first.with_changes(parameters={"rb_min": value})], servers, who=f"{value}")
            told.append("written")
        except EditConflict as conflict:
            told.append(str(conflict))

    threads = [threading.Thread(target=edit, args=(value,)) for value in (0.1, 0.2, 0.3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_registry(servers)
    assert len(found.history) == 1 + told.count("written") == found["bright"].revision
    assert told.count("written") <= 1
    assert len(told) == 3


def test_all_or_none_of_several(servers):
    (first,) = write_registry([draft()], servers, who="ann")
    stale = draft()
    with pytest.raises(EditConflict):
        write_registry([draft("other"), stale], servers, who="ben")
    assert read_registry(servers).definitions == {"bright": first}


def test_a_record_that_nobody_can_read_disturbs_nobody(servers):
    (first,) = write_registry([draft()], servers, who="ann")
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(CHANNELS_TOPIC, b"no definition", b"x")
    producer.flush(10)
    assert read_registry(servers).definitions == {"bright": first}


def test_a_follower_sees_each_change(servers):
    following = follow_registry(servers)
    next(following)
    (first,) = write_registry([draft()], servers, who="ann")
    seen = next(found for found in following if found is not None)
    assert seen.definitions == {"bright": first}
    assert seen.offset == -1, "a draft has no effect"
    (enabled,) = write_registry([first.becoming("enabled")], servers, who="ann")
    seen = next(found for found in following if found is not None)
    assert seen.definitions == {"bright": enabled}
    assert seen == read_registry(servers)
    assert seen.offset > 0


def test_a_users_filter_travels_as_text(servers, tmp_path):
    file = tmp_path / "my_filters.py"
    file.write_text(USER_FILE)
    kept = Definition(name="mine", **by_value(f"{file}:mine")).with_changes(parameters={"rb_min": "0.8"})
    file.unlink()
    (written,) = write_registry([kept.becoming("enabled")], servers, who="ann")
    channel = read_registry(servers)["mine"].channel()
    assert channel.filter.version == written.version == kept.version
    assert dict(channel.filter.values) == {"rb_min": 0.8}
    assert pickle.loads(pickle.dumps(channel.filter)).version == written.version


def as_tested(definition: Definition) -> Definition:
    """As if a backtest had let it pass."""
    report = {"of": definition.judged, "problems": [], "when": "2026-01-01", "nights": []}
    return definition.model_copy(update={"report": report, "state": "tested"})


@pytest.mark.parametrize("change", [("LEAST = 0.99", "LEAST = 0.0"), ("> least()", ">= least()")])
def test_a_tested_channel_whose_code_changed_is_a_draft_again(tmp_path, change):
    code = USER_FILE.replace("\n\n@", "\n\nLEAST = 0.99\n\ndef least():\n    return LEAST\n\n@")
    code = code.replace('alerts["rb"] > rb_min', 'alerts["rb"] > least()')
    assert change[0] in code
    file = tmp_path / "my_filters.py"
    file.write_text(code)
    was = as_tested(Definition(name="mine", **by_value(f"{file}:mine")).with_changes())
    assert was.with_changes(owner="ann").state == "tested"
    file.write_text(code.replace(*change))
    changed = was.with_changes(**by_value(f"{file}:mine"))
    assert changed.state == "draft"
    assert not changed.is_tested
    headers = [dict(d.channel().headers)["version"].decode() for d in (was, changed)]
    assert headers == [was.version, changed.version]
    assert headers[0] != headers[1]


def test_whoever_runs_code_that_was_not_tried_is_told(caplog):
    """A filter of a package changed under an enabled channel: here its backtest was of another version."""
    config = read_config(None, channels={"bright": {"filter": "real_bogus"}})
    ran = as_tested(draft()).becoming("enabled")
    older = ran.model_copy(update={"version": "0" * 12})
    older = as_tested(older).becoming("enabled")
    for definition, words in ((ran, ""), (older, "version 000000000000")):
        caplog.clear()
        channels = channel_set(config, None, Registry("t", {"bright": definition}, (definition,), 4))
        assert (words in caplog.text) if words else not caplog.text
        assert channels.channels[0].filter.version == ran.version, "what is delivered says what it is"
        assert (channels.channels[0].expected is None) or not words


def test_what_cannot_be_is_refused():
    enabled = draft().becoming("enabled")
    with pytest.raises(ChannelError, match="enabled: its access"):
        enabled.with_changes(access="collaboration")
    with pytest.raises(ChannelError, match="enabled: its input"):
        enabled.with_changes(input="other")
    with pytest.raises(ChannelError, match="retired and cannot become enabled"):
        enabled.becoming("retired").becoming("enabled")
    with pytest.raises(ChannelError, match="enabled and cannot become tested"):
        enabled.becoming("tested")
    with pytest.raises(ChannelError, match="rb_min"):
        draft(parameters={"rb_mni": 1})
    with pytest.raises(ChannelError, match="not a regular expression"):
        draft(topics="(")
    with pytest.raises(ChannelError, match="alerts_per_hour"):
        draft(limits={"alerts_per_hour": -1})
    with pytest.raises(ChannelError, match=r"limits\.alerts_a_day"):
        draft(limits={"alerts_a_day": 7})


def test_a_record_from_before_there_were_limits_and_inputs_is_read():
    enabled = draft().becoming("enabled")
    older = enabled.model_dump(mode="json")
    del older["limits"], older["input"]
    assert Definition.model_validate(older) == enabled
    assert enabled.with_changes(limits={"alerts_per_hour": 5}).effect != enabled.effect


def test_a_change_makes_a_tested_channel_a_draft():
    made = draft()
    tested = made.becoming("tested", report={"of": made.judged})
    assert tested.with_changes(owner="ann").state == "tested"
    assert tested.with_changes(parameters={"rb_min": 0.1}).state == "draft"
    assert not tested.with_changes(parameters={"rb_min": 0.1}).is_tested


def test_what_runs(tmp_path):
    (tmp_path / "zads.toml").write_text(
        '[channels.bright]\nfilter = "pure"\n[channels.own]\nfilter = "asteroid"\n'
    )
    config = read_config(tmp_path / "zads.toml")

    def running(*definitions: Definition, names: list[str] | None = None) -> dict[str, str]:
        registry = Registry("t", {d.name: d for d in definitions}, definitions, 4)
        return {c.name: c.filter.name for c in channel_set(config, names, registry).channels}

    other, bright = draft("other"), draft()
    assert running(other, bright) == {"bright": "pure", "own": "asteroid"}
    enabled = bright.becoming("enabled")
    assert running(other, enabled) == {"bright": "real_bogus", "own": "asteroid"}
    assert running(enabled.becoming("paused")) == {"own": "asteroid"}
    assert running(other, enabled, names=["other", "bright"]) == {"bright": "real_bogus"}
    with pytest.raises(ConfigError, match="nobody"):
        running(enabled, names=["nobody"])
    version = channel_set(config, None, Registry("t", {"bright": enabled}, (enabled,), 4)).version
    later = channel_set(config, None, Registry("t", {"bright": enabled}, (enabled,), 7)).version
    elsewhere = channel_set(config, None, Registry("u", {"bright": enabled}, (enabled,), 9)).version
    assert is_older(version, later)
    assert not is_older(later, version)
    assert is_older("0123456789ab", version), "a set made before there was a registry"
    assert not is_older(version, "0123456789ab")
    assert not is_older("", version), "nothing was committed yet"
    assert not is_older(version, elsewhere)
    assert is_older(channel_set(config).version, later)


@pytest.mark.parametrize(
    ("table", "filter_name"),
    [
        ('where = "rb > 0.9 and magpsf < 19"', "rb > 0.9 and magpsf < 19"),
        ('where = "positive"', "(positive)"),
        ('filter = "asteroid"', "asteroid"),
        ("drop = []", "pure"),
    ],
)
def test_a_channel_of_the_configuration_is_known_as_it_runs(tmp_path, table, filter_name):
    """So that it can be cloned, explained and replayed as it ran: an expression too."""
    (tmp_path / "zads.toml").write_text(f"[channels.pure]\n{table}\n")
    config = read_config(tmp_path / "zads.toml")
    known = known_definition(config, Registry("t", {}, (), 0), "pure")
    (runs,) = channel_set(config).channels
    assert known.filter == filter_name
    assert known.channel().describe() == runs.describe()


def test_nobody_goes_below_the_channels_that_were_committed(broker):
    servers = broker.bootstrap_servers
    topic = topics.new_topic(servers)
    topics.write(servers, topic, b"1", b"2")
    consumer = Consumer({"bootstrap.servers": servers, "group.id": topic})
    consumer.commit(offsets=[TopicPartition(topic, 0, 1, "t:9:abc")], asynchronous=False)
    consumer.close()

    def take(version: str) -> None:
        work = Work(
            Partition(topic, 0),
            1,
            2,
            1,
            True,
            "r",
            1,
            topic,
            b"",
            {"bootstrap.servers": servers},
            b"",
            version,
        )
        lane, reader = Lane(work), SharedReader(work.client, work.group)
        try:
            lane.take(work, lambda: reader.told(work.partition))
        finally:
            lane.abandon()

    for older in ("t:8:abc", "0123456789ab"):
        with pytest.raises(Behind, match=f"{older} are older than t:9:abc"):
            take(older)
    for version in ("t:9:abc", "t:12:abc", "another:3:abc"):
        take(version)


def test_a_channel_whose_region_comes_back_runs_again(servers, tmp_path, monkeypatch):
    """Also in the same version: what was lacking is looked for again, though no version in use has moved."""
    monkeypatch.setenv("ZADS_EXTERNAL", str(tmp_path))
    add_region("patch", "cone 80 20 5 deg")
    near = Definition(name="near", filter="patch.inside and rb > 0.5").completed()
    write_registry([near.model_copy(update={"state": "enabled"})], servers, who="ann")
    Store().remove("patch")
    config = read_config(bootstrap_servers=servers)
    begun = channel_set(config, ["near"], read_registry(servers))
    assert [name for name, _ in begun.refused] == ["near"]
    coming = channels_to_come(config, ["near"], begun)
    assert next(coming) is None
    add_region("patch", "cone 80 20 5 deg")
    found = next(one for one in coming if one is not None)
    assert found.refused == ()
    assert found.version != begun.version
