"""Filters that raise, loop, eat memory or end the process cost nobody else anything, and are made up for."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from commands.shared.view import EXIT_SUSPENDED
from pipeline.broker.dead_letters import dead_letters
from pipeline.channels.config import configured_channel, read_config
from pipeline.worker.backfill import backfill as fill
from tests.pipeline import night as nights
from tests.pipeline.night import (
    REPOSITORY,
    assert_exactly_once,
    assert_the_ledger_adds_up,
    delivered,
    expected,
    publish_night,
    running,
)

BAD = Path(__file__).with_name("bad_filters.py")
CHANNEL = '[channels.{name}]\nfilter = "{path}:{name}"\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ZADS_TEST_MENDED", str(tmp_path / "mended"))
    return tmp_path


def configure(folder: Path, *names: str) -> tuple[str, ...]:
    good = "".join(f"[channels.{name}]\n" for name in nights.CHANNELS)
    bad = "".join(CHANNEL.format(name=name, path=BAD) for name in names)
    limits = '[limits]\nfilter_seconds = 3\n[dask]\nmemory = "1GiB"\n'
    (folder / "zads.toml").write_text(limits + good + bad)
    return names


def what_they_should_find(folder: Path) -> Counter[int]:
    (folder / "mended").touch()
    return expected(f"{BAD}:raises")


def backfill(bootstrap: str, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "zads", "channel", "backfill", name, "--bootstrap", bootstrap]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.timeout(400)
def test_they_fail_alone_and_backfill_makes_up_for_them(own_broker, folder):
    bootstrap = own_broker.bootstrap_servers
    publish_night(bootstrap, partitions=2)
    bad = configure(folder, "raises", "loops", "hungry", "quits")
    with running(bootstrap, folder, "--until-drained") as run:
        assert run.wait() == EXIT_SUSPENDED, run.text()
    said = run.text()
    assert_exactly_once(bootstrap)
    for name in bad:
        assert f"channel {name} suspended" in said
    assert "a mistake of mine" in said

    should = what_they_should_find(folder)
    for name in bad:
        before = delivered(bootstrap, f"channel.{name}")
        assert before != should, f"{name} missed nothing: the test would prove nothing"
    config = read_config(folder / "zads.toml", bootstrap_servers=bootstrap)
    first, *others = bad
    for _ in range(2):  # the second time nothing is left to fill
        done = backfill(bootstrap, folder, first)
        assert done.returncode == 0, done.stderr
        assert delivered(bootstrap, f"channel.{first}") == should
    for name in others:
        assert not fill(config, configured_channel(name, config.channels[name])).left
        assert delivered(bootstrap, f"channel.{name}") == should, name
    assert_the_ledger_adds_up(bootstrap)


def test_an_alert_that_a_filter_cannot_bear_is_set_aside_for_that_channel_only(own_broker, folder):
    bootstrap = own_broker.bootstrap_servers
    publish_night(bootstrap, partitions=2)
    configure(folder, "raises_on_some")
    with running(bootstrap, folder, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert_exactly_once(bootstrap)
    public = [alert.candid for alert in nights.night() if alert.programid == 1]
    special = {candid for candid in public if candid % 97 == 0}
    assert special, "no special alert in this night: the test would prove nothing"
    letters = list(dead_letters(bootstrap))
    assert {letter.candid for letter in letters} == special
    assert {(letter.stage, letter.channel) for letter in letters} == {("filter", "raises_on_some")}
    should = what_they_should_find(folder)
    assert delivered(bootstrap, "channel.raises_on_some") == Counter(set(should) - special)
    done = backfill(bootstrap, folder, "raises_on_some")
    assert done.returncode == 0, done.stderr
    assert delivered(bootstrap, "channel.raises_on_some") == should
