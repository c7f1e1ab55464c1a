"""`zads channel` on a real broker and a real archive, as a scientist uses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands.channel import command
from filters.external import Externals
from filters.external.add import add_region
from filters.sandbox.question import content_hash
from pipeline.channels.definition import ChannelError, Definition
from pipeline.channels.inputs import InputError
from pipeline.channels.registry import EditConflict, read_registry, write_registry
from tests.archive.helpers import night, write_packets

MINE = """
from filters import alert_filter


@alert_filter(survey="ztf", reads=["rb"])
def mine(alerts):
    "Alerts that look real."
    return {"good": alerts["rb"] > 0.985}
"""

SLOW = MINE.replace("return", "time.sleep(0.01 * len(alerts))\n    return").replace(
    "from", "import time\nfrom", 1
)


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    with Broker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channel")
    write_packets(folder / "in", [alert.packet for alert in night()])
    ingest(folder / "in", folder / "archive")
    return folder / "archive"


Zads = Callable[..., Any]


@pytest.fixture
def zads(servers: str, archive: Path) -> Zads:
    """`zads channel ...` in this process; fails the test at another exit code than `expect`."""
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)

    def run(*arguments: str, expect: int = 0) -> Any:
        settings = {"ZADS_BOOTSTRAP_SERVERS": servers, "ZADS_ARCHIVE": str(archive), "COLUMNS": "200"}
        result = CliRunner().invoke(app, ["channel", *arguments], env=settings)
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    return run


def test_from_draft_to_retired(zads: Zads, servers: str) -> None:
    zads("create", "bright", "rb_min=0.98", "--filter", "real_bogus", "--owner", "ann", "--why", "to try")
    zads("set", "bright", "--values", "magpsf, coords.gal_lat")
    assert "magpsf, coords.gal_lat" in zads("show", "bright").stdout
    wrong = zads("set", "bright", "--values", "magpsv", expect=1).exception
    assert isinstance(wrong, ChannelError)
    assert "magpsv" in str(wrong)
    assert read_registry(servers)["bright"].state == "draft"
    said = zads("enable", "bright").stderr
    assert "alerts left" in said
    assert "for example ZTF" in said
    zads("set", "bright", "rb_min=0.99", "--drop", "cutoutScience,cutoutTemplate")
    zads("set", "bright", "--limit", "alerts_per_hour=500")
    assert "alerts_per_hour=500" in zads("show", "bright").stdout
    zads("set", "bright", "--limit", "alerts_per_hour=none")
    zads("pause", "bright", "--why", "Moon")
    zads("enable", "bright")
    zads("retire", "bright")
    shown = json.loads(zads("show", "bright", "--json").stdout)
    assert shown["state"] == "retired"
    assert shown["parameters"] == {"rb_min": 0.99}
    assert shown["values"] == ["magpsf", "coords.gal_lat"]
    assert shown["drop"] == ["cutoutScience", "cutoutTemplate"]
    assert shown["report"]["nights"]
    told = zads("history", "bright").stdout
    for words in (
        "to try",
        "rb_min 0.98 → 0.99",
        "limits - → alerts_per_hour=500",
        "Moon",
        "made it retired",
    ):
        assert words in told
    assert "bright" in zads("list").stdout
    assert isinstance(zads("enable", "bright", expect=1).exception, ChannelError)


def test_a_flood_is_refused_unless_forced(zads: Zads, servers: str) -> None:
    zads("create", "flood", "rb_min=0", "--filter", "real_bogus")
    assert "floods" in zads("enable", "flood", expect=1).stderr
    refused = read_registry(servers)["flood"]
    assert refused.state == "draft"
    assert refused.report
    assert refused.report["problems"]
    zads("enable", "flood", "--force", "a stress test")
    forced = read_registry(servers)["flood"]
    assert (forced.state, forced.why) == ("enabled", "a stress test")


def test_a_slow_filter_is_refused_unless_forced(zads: Zads, servers: str, tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text(SLOW)
    zads("create", "slow", "--filter", f"{file}:mine")
    assert "slow: " in zads("enable", "slow", expect=1).stderr
    assert read_registry(servers)["slow"].state == "draft"
    zads("enable", "slow", "--force", "it asks a server")
    assert read_registry(servers)["slow"].state == "enabled"


def test_a_region_that_changes_is_tried_again(
    zads: Zads, servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a backtest was of includes the versions of what the filter reads beside the alert."""
    monkeypatch.setenv("ZADS_EXTERNAL", str(tmp_path))
    old = add_region("spot", "cone 10 20 1")
    zads("create", "spotted", "--where", "spot.inside and rb > 0.9")
    zads("test", "spotted")
    tried = read_registry(servers)["spotted"]
    assert (tried.state, tried.external) == ("tested", {"spot": old})
    assert "alerts left" not in zads("enable", "spotted").stderr, "it was tried as it is"
    new = add_region("spot", "cone 10 20 2")
    told = read_registry(servers)["spotted"].moved(Externals())
    assert f"spot {old} → {new}" in told
    zads("pause", "spotted")
    assert "alerts left" in zads("enable", "spotted").stderr, "tried again, with the region as it is now"
    assert read_registry(servers)["spotted"].external == {"spot": new}
    assert read_registry(servers)["spotted"].moved(Externals()) == ""


def test_without_an_archive_nothing_is_enabled_unless_forced(
    zads: Zads, servers: str, tmp_path: Path
) -> None:
    zads("create", "untried", "--filter", "asteroid")
    assert "not tried" in zads("enable", "untried", "--archive", str(tmp_path / "none"), expect=1).stderr
    zads("enable", "untried", "--archive", str(tmp_path / "none"), "--force", "no archive yet")
    assert read_registry(servers)["untried"].state == "enabled"


@pytest.mark.usefixtures("walls")
def test_an_operator_tries_a_strangers_text_and_approves_it(zads: Zads, servers: str) -> None:
    """By its hash, so that what was read is what runs."""
    draft = Definition(name="ann.theirs", owner="ann", filter="mine.py:mine", source=MINE)
    write_registry([draft.completed()], servers, who="a test")
    tried = zads("test", "ann.theirs", "--preview", "3")
    assert "preview, not delivered: the last 3 alerts" in tried.stderr
    assert MINE.strip() in zads("approve", "ann.theirs").stdout
    theirs = content_hash(MINE)
    for other in ("0" * 12, theirs[:11], content_hash("another")):
        zads("approve", "ann.theirs", other, expect=1)
    assert not read_registry(servers)["ann.theirs"].trusted
    zads("approve", "ann.theirs", theirs[:12])
    now = read_registry(servers)["ann.theirs"]
    assert now.trusted
    assert now.state == "draft", "another version than the one that was tried"


def test_a_channel_that_already_runs_is_taken_over(zads: Zads, servers: str) -> None:
    """Without [channels] every filter is a channel: a new threshold for one of them at three in the night."""
    said = zads("set", "young_supernova", "rb_min=0.7").stderr
    assert "rb_min=0.7" in said or "0.7" in said
    taken = read_registry(servers)["young_supernova"]
    assert (taken.state, taken.revision, taken.parameters["rb_min"]) == ("enabled", 1, 0.7)


def test_a_file_of_ones_own(zads: Zads, servers: str, tmp_path: Path) -> None:
    file = tmp_path / "my_filters.py"
    file.write_text(MINE)
    zads("create", "mine", "--filter", f"{file}:mine")
    file.unlink()
    zads("test", "mine")
    assert read_registry(servers)["mine"].state == "tested"
    zads("enable", "mine")


def test_the_second_of_two_editors_is_told(zads: Zads) -> None:
    zads("create", "shared", "--filter", "real_bogus")
    zads("set", "shared", "rb_min=0.7", "--revision", "1")
    late = zads("set", "shared", "rb_min=0.8", "--revision", "1", expect=1)
    assert isinstance(late.exception, EditConflict)
    assert "set rb_min 0.65 → 0.7" in str(late.exception)
    assert isinstance(zads("create", "shared", "--filter", "pure", expect=1).exception, EditConflict)


def test_a_channel_of_a_channel(zads: Zads, servers: str) -> None:
    wrong = zads("create", "finer", "--filter", "pure", "--input", "nobody", expect=1)
    assert isinstance(wrong.exception, InputError)
    zads("create", "finer", "--filter", "pure", "--input", "real_bogus")
    assert "channel real_bogus" in zads("show", "finer").stdout
    assert isinstance(zads("set", "finer", "--input", "finer", expect=1).exception, InputError)
    assert read_registry(servers)["finer"].input == "real_bogus"
    assert isinstance(
        zads("set", "real_bogus", "--access", "collaboration", expect=1).exception, ChannelError
    )
    zads("enable", "finer", "--force", "nothing but a test")
    zads("pause", "real_bogus")
    refused = zads("set", "real_bogus", "--access", "collaboration", expect=1).exception
    assert isinstance(refused, InputError)
    assert "finer is public" in str(refused)
    zads("enable", "real_bogus", "--force", "nothing but a test")
    zads("pause", "finer")
    zads("set", "finer", "--input", "")
    assert read_registry(servers)["finer"].input == ""


def test_a_wrong_name_is_told(zads: Zads) -> None:
    wrong = zads("set", "nobody", "rb_min=1", expect=1)
    assert isinstance(wrong.exception, ChannelError)
    assert "no channel nobody" in str(wrong.exception)


def test_a_file_of_channels_is_a_plan_and_then_the_registry(zads: Zads, servers: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MINE)
    file = tmp_path / "channels.toml"
    tables = """
        [channels.young]
        filter = "young_supernova"
        [channels.own]
        filter = "own.py:mine"
        drop = ["cutoutScience"]
        [channels.later]
        filter = "asteroid"
        state = "draft"
    """
    file.write_text(tables)
    refused = zads("apply", str(file), expect=1)
    assert "to be tried" in refused.stderr
    assert "young" not in read_registry(servers).definitions
    zads("apply", str(file), "--yes")
    now = read_registry(servers).definitions
    assert [now[name].state for name in ("young", "own", "later")] == ["enabled", "enabled", "draft"]
    assert now["young"].report
    assert "nothing to change" in zads("apply", str(file), "--yes").stderr
    file.write_text(tables.replace("[channels.own]", "[channels.own]\n        state = 'paused'"))
    assert "make it paused" in zads("apply", str(file), "--yes").stderr
    assert read_registry(servers)["own"].state == "paused"
    file.write_text('[channels.flooded]\nfilter = "real_bogus"\nparameters = {rb_min = 0}\n[channels.more]\n')
    wrong = zads("apply", str(file), "--yes", expect=1)
    assert "more" in str(wrong.exception)
    file.write_text('[channels.flooded]\nfilter = "real_bogus"\nparameters = {rb_min = 0}\n[channels.pure]\n')
    assert "nothing was changed" in zads("apply", str(file), "--yes", expect=1).stderr
    assert "pure" not in read_registry(servers).definitions


def test_an_operator_sees_what_a_change_gains_and_loses(zads: Zads) -> None:
    """With a revision, a filter, and the channel that a clone was made from."""
    zads("create", "changing", "rb_min=0.985", "--filter", "real_bogus")
    zads("clone", "changing", "cloned", "rb_min=0.99")
    zads("set", "changing", "rb_min=0.98")
    lines = zads("diff", "changing").stderr.splitlines()
    assert lines[0] == "changing@1 → changing@2: set rb_min 0.985 → 0.98"
    assert " gained, 0 lost, " in lines[1]
    assert zads("diff", "changing", "--revision", "1").stderr.splitlines() == lines
    assert zads("diff", "changing", "--revision", "2").stderr.endswith("both judge every alert alike\n")
    assert " 0 alerts gained, " in zads("diff", "cloned").stderr
    assert "nuclear → changing@2" in zads("diff", "changing", "nuclear").stderr  # a filter, no channel
    with pytest.raises(ChannelError, match="no revision 7, the last is 2"):
        raise zads("diff", "changing", "--revision", "7", expect=1).exception
