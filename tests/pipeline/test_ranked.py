"""Ranked channels: the best alerts of a night, once, in an order that nothing disturbs."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cluster.kafka.broker import Broker
from commands import application
from commands.status import EXIT_UNWELL
from filters.limits import Ranked, Ranking, best
from pipeline.broker.topics import ensure_topics
from pipeline.channels.config import ConfigError, RunConfig, channel_set, read_config
from pipeline.channels.gaps import EXPOSURES_TOPIC
from pipeline.clients import ranked
from pipeline.clients.publish import publish_packets
from pipeline.clients.ranked import NightNotClosed, RankingError, fill
from pipeline.clients.ranked_nights import RankedNights
from simulator import simulate
from tests.archive.test_follow import following
from tests.pipeline.night import running
from tests.pipeline.topics import records

NIGHT, TOPIC, TOP = "2023-10-12", "rankingtest_20231012", 12
CONFIG = f"""
group = "ranking"
topics = "{TOPIC}"
[channels.ranking_all]
where = "rb > 0.5"
values = ["magpsf"]
[ranked.ranking_brightest]
of = "ranking_all"
by = "magpsf"
top = {TOP}
lowest = true
[ranked.ranking_faintest]
of = "ranking_all"
by = "magpsf"
top = {TOP}
repeats = true
[ranked.ranking_by_itself]
of = "ranking_all"
by = "magpsf"
top = {TOP}
[ranked.ranking_typo]
of = "ranking_all"
by = "magpfs"
"""

values = st.one_of(st.none(), st.just(float("nan")), st.integers(0, 3), st.floats(0, 3))
ones = st.builds(
    Ranked,
    values,
    st.integers(1, 4),
    st.sampled_from("abc"),
    st.tuples(st.just("t"), st.integers(0, 2), st.integers(0, 9)),
)


@given(
    st.lists(ones, max_size=20, unique_by=lambda one: one.source), st.booleans(), st.booleans(), st.randoms()
)
def test_the_order_is_that_of_the_alerts_alone(
    alerts: list[Ranked], lowest: bool, repeats: bool, chance: random.Random
) -> None:
    ranking = Ranking(by="x", top=5, lowest=lowest, repeats=repeats)
    chosen = [alerts[number] for number in best(ranking, alerts)]
    shuffled = chance.sample(alerts, len(alerts))
    assert [shuffled[number] for number in best(ranking, shuffled)] == chosen
    usable = [one for one in alerts if one.value is not None and one.value == one.value]
    assert len(chosen) == min(5, len(usable) if repeats else len({one.objectId for one in usable}))
    sign = 1 if lowest else -1
    assert chosen == sorted(chosen, key=lambda one: (sign * one.value, one.candid, one.source))
    left = [one for one in usable if one not in chosen]
    if repeats and chosen:
        assert all(sign * one.value >= sign * chosen[-1].value for one in left)
    if not repeats:
        assert len({one.objectId for one in chosen}) == len(chosen)


@pytest.fixture(scope="module")
def packets() -> list[bytes]:
    """A night, some of its packets twice."""
    every = [alert.packet for alert in simulate(250, 4, stamps=False) if alert.programid == 1]
    return [*every, *every[::10]]


@pytest.fixture(scope="module")
def alone() -> Iterator[Broker]:
    """Where nobody else's channels keep a night open."""
    with Broker() as own:
        yield own


@pytest.fixture(scope="module")
def config(alone: Broker, packets: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A night that has been run, and is closed."""
    folder = tmp_path_factory.mktemp("ranking")
    (folder / "zads.toml").write_text(CONFIG)
    publish_packets(packets, alone.bootstrap_servers, topic=TOPIC, partitions=3)
    ensure_topics(alone.bootstrap_servers, [EXPOSURES_TOPIC], 1)  # as on a secured broker: no channel uses it
    with running(alone.bootstrap_servers, folder, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    return read_config(folder / "zads.toml", bootstrap_servers=alone.bootstrap_servers)


def expected(packets: list[bytes], repeats: bool, sign: int) -> list[int]:
    """By sums in Python: the candids, best first."""
    rows = [next(iter(fastavro.reader(io.BytesIO(raw)))) for raw in packets]
    rows = [row for row in rows if row["candidate"]["rb"] > 0.5]
    rows.sort(key=lambda row: (sign * row["candidate"]["magpsf"], row["candid"]))
    found: dict[object, int] = {}
    for number, row in enumerate(rows):
        found.setdefault(number if repeats else row["objectId"], row["candid"])
    return list(found.values())[:TOP]


def delivered(config: RunConfig, name: str) -> list[int]:
    headers = [dict(record.headers()) for record in records(config.bootstrap_servers, f"channel.{name}")]
    assert [int(one["rank"]) for one in headers] == list(range(1, len(headers) + 1))
    return [int(one["candid"]) for one in headers]


def dies(config: dict[str, Any], name: str, committed: bool) -> None:
    """A process that fills the channel by itself, and is killed right before or after its commit."""
    commit = Producer.commit_transaction

    class Dying(Producer):
        def commit_transaction(self, *arguments: object) -> None:
            if committed:
                commit(self, *arguments)
            os.kill(os.getpid(), signal.SIGKILL)

    ranked.Producer = Dying  # type: ignore[misc, attr-defined]
    RankedNights(RunConfig(**config | {"ranked": {name: config["ranked"][name]}})).look()


def killed(config: RunConfig, name: str, committed: bool) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=dies, args=(config.model_dump(), name, committed)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_killed_before_its_commit_and_run_again_it_delivers_once(
    config: RunConfig, packets: list[bytes]
) -> None:
    name = "ranking_brightest"
    killed(config, name, committed=False)
    assert delivered(config, name) == []
    assert fill(config, name, NIGHT).now
    wanted = expected(packets, repeats=False, sign=1)
    assert delivered(config, name) == wanted
    again = fill(config, name, NIGHT)
    assert (again.now, list(again.candids)) == (False, wanted)
    assert delivered(config, name) == wanted


def test_killed_after_its_commit_and_run_again_it_delivers_once(
    config: RunConfig, packets: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ranking_faintest"
    killed(config, name, committed=True)
    wanted = expected(packets, repeats=True, sign=-1)
    assert delivered(config, name) == wanted
    (tmp_path / "zads.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    arguments = ["channel", "rank", name, "--bootstrap", config.bootstrap_servers]
    done = CliRunner().invoke(application(), arguments)
    assert done.exit_code == 0, done.output
    assert f"night {NIGHT}: {TOP} alerts were delivered before" in done.stderr
    assert delivered(config, name) == wanted


def test_the_archiver_fills_what_is_closed_and_status_tells_what_is_not(
    alone: Broker, config: RunConfig, packets: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, servers = "ranking_by_itself", config.bootstrap_servers
    (tmp_path / "zads.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZADS_HOME", str(tmp_path))
    lack = f"ranked channel {name} has not got the night {NIGHT}, which is closed"
    assert lack in CliRunner().invoke(application(), ["status", "--bootstrap", servers]).stdout
    with following(alone, tmp_path, "--topics", TOPIC) as process:
        process.until(lambda: f"{name}, night {NIGHT}: {TOP} alerts delivered" in process.log.read_text())
        process.until(lambda: "gives no value 'magpfs'" in process.log.read_text())
    wanted = expected(packets, repeats=False, sign=-1)
    assert delivered(config, name) == wanted
    with following(alone, tmp_path, "--topics", TOPIC, "--until-drained") as process:
        assert process.process.wait(120) == 0, process.log.read_text()
    assert delivered(config, name) == wanted
    told = CliRunner().invoke(application(), ["status", "--bootstrap", servers])
    assert lack not in told.stdout
    assert "ranked channel ranking_typo has not got the night" in told.stdout
    assert told.exit_code == EXIT_UNWELL


def test_what_cannot_be_ranked_is_told(config: RunConfig) -> None:
    with pytest.raises(RankingError, match=r"gives no value 'magpfs' \(it gives: magpsf"):
        fill(config, "ranking_typo", NIGHT)
    with pytest.raises(RankingError, match="no ranked channel best"):
        fill(config, "best", NIGHT)
    with pytest.raises(NightNotClosed, match="has read nothing of it"):
        fill(config, "ranking_typo", "2023-10-13")
    with pytest.raises(NightNotClosed, match="UTC - 12 h"):
        fill(config, "ranking_typo", "2999-10-13")
    assert delivered(config, "ranking_typo") == []


def test_a_night_that_has_more_to_come_is_not_ranked(
    config: RunConfig, packets: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    publish_packets(packets[:3], config.bootstrap_servers, topic=TOPIC)
    with pytest.raises(NightNotClosed, match=f"records of {TOPIC} are not judged yet"):
        fill(config, "ranking_typo", NIGHT)
    with caplog.at_level("WARNING"):
        RankedNights(config).look()
    assert f"the night {NIGHT}, which is not closed: 3 records of {TOPIC} are not judged yet" in caplog.text


def test_one_name_for_two_channels_is_refused() -> None:
    config = RunConfig(ranked={"real_bogus": {"of": "pure", "by": "x"}})
    with pytest.raises(ConfigError, match="real_bogus: a channel and a ranked channel"):
        channel_set(config)
