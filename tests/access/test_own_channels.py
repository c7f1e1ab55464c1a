"""Channels that users own: asked for by their own topic, checked, and delivered to who may read them."""

from __future__ import annotations

import signal
import uuid
from collections import Counter
from typing import Any

import pytest
from confluent_kafka import KafkaException

from commands.shared.view import EXIT_SUSPENDED
from pipeline.access.requests import Answer
from pipeline.access.users import change_role, remove_user
from pipeline.broker.client import NoSuchTopic
from pipeline.broker.listen import listen
from pipeline.broker.topics import ensure_topics
from pipeline.channels.registry import read_registry, write_registry
from pipeline.clients.publish import publish_packets
from tests.access.seat import Seat
from tests.access.world import World
from tests.pipeline.night import expected, night, running


def test_from_clone_to_alerts(world: World) -> None:
    """As a new user does it, with the commands alone; the channel is private until its owner shares it."""
    said = world.zads("ann", "channel", "clone", "young_supernova", "mine", "rb_min=0.8")
    name = f"{world.user('ann')}.mine"
    topic = f"channel.{name}"
    assert f"{name}: created it with young_supernova (draft, {topic})" in said
    assert "made it enabled" in world.zads("ann", "channel", "enable", "mine")
    publish_packets(
        [alert.packet for alert in night()],
        world.broker.bootstrap_servers,
        partitions=2,
        **world.settings["pipe"],
    )
    world.zads("pipe", "run", "--until-drained", "--plain", "--channels", name)
    wanted = expected("young_supernova", rb_min=0.8)
    assert wanted
    assert world.heard("ann", topic) == wanted
    with pytest.raises(NoSuchTopic):
        world.heard("ben", topic)
    world.zads("ann", "channel", "set", "mine", "--readers", world.user("ben"))
    assert world.heard("ben", topic) == world.heard("ann", topic)
    world.zads("ann", "channel", "set", "mine", "--readers", "nobody")
    assert not Seat(world.settings["ben"]).may("read", topic)
    assert read_registry(**world.operator())[name].of == "young_supernova@0"


def test_nobody_changes_the_channel_of_another(world: World) -> None:
    world.ask("ben", action="create", channel="theirs", where="rb > 0.9")
    name = f"{world.user('ben')}.theirs"
    before = read_registry(**world.operator())
    for action in ("pause", "set", "enable", "retire", "show"):
        answer = world.ask("ann", action=action, channel=name)
        assert not answer.done
        assert "not yours" in answer.text
    answer = world.ask("ann", action="clone", channel="copy", source=name)
    assert (answer.done, answer.text) == (False, f"no channel or filter {name} that you may read")
    assert name not in world.ask("ann", action="list").text
    assert name in world.ask("ben", action="list").text
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        Seat(world.settings["ann"]).write(f"zads.requests.{world.user('ben')}")
    assert read_registry(**world.operator()).history == before.history
    log = (world.folder / "serve.log").read_text()
    assert f"user {world.user('ann')}, pause of '{name}': refused" in log


def test_a_request_that_comes_twice_is_done_once(world: World) -> None:
    wish = {"action": "create", "channel": "once", "where": "rb > 0.5", "id": uuid.uuid4().hex}
    name = f"{world.user('ben')}.once"
    assert world.ask("ben", **wish).done
    assert world.ask("ben", **wish).text == f"{name}: done already"
    assert [one.revision for one in read_registry(**world.operator()).history if one.name == name] == [1]


def test_what_users_cannot_have(world: World) -> None:
    refused = {
        "no filter that comes with zads": {"filter": "theirs.py:f"},
        "names no Python file": {"filter": "../../theirs.py:f", "text": "x = 1"},
        "0 filters in 'theirs.py'": {"filter": "theirs.py:", "text": "x = 1"},
        "is no filter that": {"filter": "os:system"},
        "neither a filter nor": {},
        "more than 1,000": {"where": "rb > 0.5", "alerts_per_hour": 5000},
        "needs a role of the collaboration": {"where": "rb > 0.5", "access": "collaboration"},
    }
    for words, wish in refused.items():
        answer = world.ask("ben", action="create", channel="bad", **wish)
        assert not answer.done
        assert words in answer.text
    assert "small letters" in world.ask("ben", action="create", channel="Bad", where="rb > 1").text
    said = world.zads("ben", "channel", "create", "bad", "--filter", "mine.py:f", refused=True)
    assert "cannot read the filter mine.py:f" in said
    seat = Seat(world.settings["ben"])
    seat.write(f"zads.requests.{world.user('ben')}")  # rubbish stops nobody
    assert world.ask("ben", action="list").done
    kept = read_registry(**world.operator()).definitions
    assert f"{world.user('ben')}.bad" not in kept


MINE = """
from typing import Annotated

from zads import alert_filter

@alert_filter(survey="ztf", reads=["rb", "magpsf"])
def mine(alerts, *, faintest: Annotated[float, "mag"] = 18.0):
    "Bright ones, as ben likes them."
    {first}
    return {{"real": alerts["rb"] >= 0.65, "bright": alerts["magpsf"] < faintest}}
"""


@pytest.mark.usefixtures("walls")
def test_python_of_ones_own(world: World) -> None:
    """From a file to alerts, and never run in a process of the pipeline."""
    ran = world.folder / "ran"
    file, name = world.folder / "mine.py", f"{world.user('ben')}.own"
    file.write_text(MINE.format(first=f"open({str(ran)!r}, 'w')"))
    answer = world.ask("ben", action="create", channel="own", filter="mine.py:mine", text=file.read_text())
    assert "PermissionError" in answer.text
    assert 'File "mine.py", line 9, in mine' in answer.traceback
    file.write_text(MINE.format(first=""))
    world.zads("ben", "channel", "create", "own", "faintest=16.8", "--filter", f"{file}:mine")
    kept = read_registry(**world.operator())[name]
    assert (kept.source, kept.approved, kept.parameters) == (file.read_text(), "", {"faintest": 16.8})
    wanted = expected(f"{file}:mine", faintest=16.8)
    said = world.zads("ben", "channel", "test", "own", "--preview", "3")
    assert f"{len(wanted)} alerts of" in said
    assert "preview, not delivered: the last 3 alerts" in said
    assert sum(str(candid) in said for candid in wanted) == 3
    assert world.ask("ben", action="enable", channel="own").done
    publish_packets(
        [alert.packet for alert in night()],
        world.broker.bootstrap_servers,
        partitions=2,
        **world.settings["pipe"],
    )
    world.zads("pipe", "run", "--until-drained", "--plain", "--channels", name, "--workers", "1")
    assert world.heard("ben", f"channel.{name}") == wanted
    assert not ran.exists()


@pytest.mark.usefixtures("walls")
def test_an_owner_is_told_why_a_channel_stands_still(world: World) -> None:
    """It is suspended alone; the traceback of its code comes to its owner's answers."""
    operator, ben = world.operator(), world.user("ben")
    good, bad = f"{ben}.good", f"{ben}.bad"
    for name, first in (("good", ""), ("bad", "if len(alerts): raise ValueError('my mistake')")):
        text = MINE.format(first=first)
        assert world.ask("ben", action="create", channel=name, filter="mine.py:mine", text=text).done
    broken = world.ask("ben", action="enable", channel="bad")
    assert not broken.done
    assert "is not enabled: raises on" in broken.text
    assert f"{bad} waits for an operator" not in world.zads("operator", "channel", "list")
    forced = [read_registry(**operator)[name].becoming("enabled") for name in (good, bad)]
    write_registry(forced, operator["bootstrap"], who="test", **world.broker.operator)
    publish_packets(
        [alert.packet for alert in night()],
        world.broker.bootstrap_servers,
        partitions=2,
        **world.settings["pipe"],
    )
    flags = ("--channels", f"{good},{bad}", "--as", f"{world.folder}/pipe.ini", "--workers", "1")
    with running(world.broker.bootstrap_servers, world.folder, *flags) as run:
        mine = f"{bad}: enabled, suspended (ValueError: my mistake), "
        run.until(lambda: mine in world.ask("ben", action="list").text, "its owner's list to say so")
        assert f"{good}: enabled, mine.py:mine" in world.ask("ben", action="list").text
        assert "records missed" in world.zads("ben", "channel", "gaps")
        assert "records missed" not in world.zads("ann", "channel", "gaps")
        why = world.zads("ben", "channel", "show", "bad")
        assert "because: ValueError: my mistake" in why
        assert "line 9, in mine" in why
        assert bad not in world.ask("ann", action="list").text
        by_operator = world.zads("operator", "channel", "list")
        assert f"{bad} is suspended in the run: ValueError: my mistake" in by_operator
        assert f"{good} is suspended" not in by_operator
        wanted = expected_of_mine(world)
        run.until(lambda: world.heard("ben", f"channel.{good}") == wanted, "the good one to go on")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == EXIT_SUSPENDED, run.text()
    assert f"{bad} suspended: ValueError: my mistake" in run.text().replace("\n", " ")
    told = []
    while not told:
        heard = listen(f"zads.answers.{ben}", **client_of(world, "ben"))
        every = [Answer.model_validate_json(record.raw) for record in heard]
        told = [one for one in every if one.text.startswith(f"channel {bad} misses alerts from offset")]
    lines = world.zads(
        "ben", "listen", f"zads.answers.{ben}", "--last", "2", "--until-drained", out=True
    ).splitlines()
    assert len(lines) == 2
    assert all(Answer.model_validate_json(line).text for line in lines)
    assert told[0].traceback.endswith("ValueError: my mistake\n")
    assert 'File "mine.py", line 9, in mine' in told[0].traceback


def expected_of_mine(world: World) -> Counter[int]:
    """What the uploaded filter passes, judged here."""
    (world.folder / "mine.py").write_text(MINE.format(first=""))
    return expected(f"{world.folder / 'mine.py'}:mine")


def answers(world: World, who: str) -> list[Answer]:
    """All that a user was ever answered."""
    heard = listen(f"zads.answers.{world.user(who)}", **client_of(world, who))
    return [Answer.model_validate_json(one.raw) for one in heard]


def client_of(world: World, who: str) -> dict[str, Any]:
    """For `listen`, until all is read."""
    return {"bootstrap": world.broker.bootstrap_servers, "until_drained": True, **world.settings[who]}


def test_who_loses_a_role_loses_the_channels_that_need_it(world: World) -> None:
    cora, name = world.user("cora"), f"{world.user('cora')}.ours"
    made = world.ask("cora", action="create", channel="ours", where="magpsf < 10", access="collaboration")
    assert made.done, made.text
    assert world.ask("cora", action="enable", channel="ours").done
    change_role(cora, "public", by="test", **world.operator())
    while read_registry(**world.operator())[name].state == "enabled":
        world.ask("cora", action="list")
    last = read_registry(**world.operator())[name]
    assert (last.state, last.who) == ("paused", "zads serve")
    assert not world.ask("cora", action="enable", channel="ours").done
    words = f"{name} is paused: a channel of the collaboration needs a role of the collaboration"
    while words not in {answer.text for answer in answers(world, "cora")}:
        world.ask("cora", action="list")
    assert not world.ask("cora", action="diff", channel="ours", source="ours").done


def test_who_is_removed_has_no_channel_that_runs_and_is_no_reader(world: World) -> None:
    """dora's channel is paused; who reads a channel of another loses it with the role."""
    for who, role in (("dora", "public"), ("emil", "collaboration"), ("fay", "collaboration")):
        world.add(who, role)
    dora, emil = world.user("dora"), world.user("emil")
    for who, channel, access in (("dora", "hers", "public"), ("fay", "shared", "collaboration")):
        wish = {"where": "magpsf < 10", "access": access, "readers": (emil,)}
        assert world.ask(who, action="create", channel=channel, **wish).done
        assert world.ask(who, action="enable", channel=channel).done
    topic = f"collab.{world.user('fay')}.shared"
    ensure_topics(world.broker.operator["bootstrap.servers"], [topic], partitions=1, **world.broker.operator)
    seat = Seat(world.settings["emil"])
    assert seat.may("read", topic)
    change_role(emil, "public", by="test", **world.operator())
    assert not seat.may("read", topic)
    remove_user(dora, by="test", **world.operator())
    while read_registry(**world.operator())[f"{dora}.hers"].state == "enabled":
        world.ask("ben", action="list")
    last = read_registry(**world.operator())[f"{dora}.hers"]
    assert (last.state, last.who, last.why) == ("paused", "zads serve", f"user {dora} is removed")
