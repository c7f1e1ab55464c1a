"""What users see of channels: what a change changes, why an alert is there, their use beside limits."""

from __future__ import annotations

import io
import json
import time
from functools import cache

import fastavro
import pytest

from pipeline.access.requests import Answer, Request, write
from pipeline.access.users import change_limits
from pipeline.broker.listen import listen
from pipeline.channels.registry import read_registry
from pipeline.clients.delivered import delivered_now
from pipeline.clients.publish import publish_packets
from tests.access.world import World
from tests.pipeline.night import night
from tests.pipeline.topics import records

WHERE = "rb > {rb_min: 0.97} and magpsf < {faintest: 18.5}"


@cache
def alerts() -> dict[int, tuple[dict[str, float], str]]:
    """Candid -> candidate and objectId, by fastavro alone."""
    packets = [next(iter(fastavro.reader(io.BytesIO(alert.packet)))) for alert in night()]
    return {one["candid"]: (one["candidate"], one["objectId"]) for one in packets}


def passing(rb_min: float, faintest: float = 18.5, public: bool = True) -> set[int]:
    return {
        candid
        for candid, (seen, _) in alerts().items()
        if seen["rb"] > rb_min and seen["magpsf"] < faintest and (seen["programid"] == 1 or not public)
    }


def told(world: World, who: str) -> list[Answer]:
    """All that a user was ever answered."""
    topic, kafka = f"zads.answers.{world.user(who)}", world.settings[who]
    every = listen(topic, world.broker.bootstrap_servers, until_drained=True, **kafka)
    return [Answer.model_validate_json(one.raw) for one in every]


def said_to(world: World, who: str) -> str:
    return "\n".join(one.text for one in told(world, who))


def test_a_change_is_told_with_the_alerts_that_it_gains_and_loses(world: World) -> None:
    assert world.ask("ann", action="create", channel="diffed", where=WHERE).done
    said = world.zads("ann", "channel", "diff", "diffed", refused=True)
    assert "has always judged as it does now" in said
    assert world.ask(
        "ann", action="set", channel="diffed", parameters={"rb_min": 0.93, "faintest": 17.5}
    ).done
    said = world.zads("ann", "channel", "diff", "diffed")
    before, after = passing(0.97), passing(0.93, 17.5)
    gained, lost, kept = after - before, before - after, before & after
    assert min(len(gained), len(lost), len(kept)) > 0
    assert f"{len(gained)} alerts gained, {len(lost):,} lost, {len(kept):,} kept" in said
    assert "rb_min 0.97 → 0.93" in said
    shown = {int(line.split()[3].strip(",")) for line in said.splitlines() if line.startswith("  gained ZTF")}
    assert shown <= gained
    assert len(shown) == min(20, len(gained))
    assert world.ask("ben", action="create", channel="secret", where="rb > 0.5").done
    answer = world.ask("ann", action="diff", channel="diffed", source=f"{world.user('ben')}.secret")
    assert (answer.done, answer.text) == (
        False,
        f"no channel or filter {world.user('ben')}.secret that you may read",
    )


@pytest.mark.usefixtures("walls")
def test_a_change_of_a_text_is_told_line_by_line(world: World) -> None:
    head = "from zads import alert_filter\n\n@alert_filter(survey='ztf', reads=['rb'])\n"
    text = f"{head}def f(alerts):\n    return {{'a': alerts['rb'] > 0.98}}\n"
    made = world.ask("ann", action="create", channel="written", filter="f.py:f", text=text)
    assert made.done, made.text
    other = text.replace("0.98", "0.99")
    assert world.ask("ann", action="set", channel="written", filter="f.py:f", text=other).done
    answer = world.ask("ann", action="diff", channel="written")
    assert "-    return {'a': alerts['rb'] > 0.98}\n+    return {'a': alerts['rb'] > 0.99}" in answer.text
    assert " 0 alerts gained" in answer.text


def test_a_user_is_told_why_a_channel_has_an_alert_or_not(world: World) -> None:
    """Of what they may see alone: an alert of the collaboration is as if it were not there."""
    assert world.ask("ann", action="create", channel="why", where=WHERE).done
    passes = min(passing(0.97))
    stopped = next(c for c, (seen, _) in alerts().items() if seen["rb"] < 0.5 and seen["programid"] == 1)
    private = next(c for c, (seen, _) in alerts().items() if seen["programid"] == 2)
    answer = world.ask("ann", action="explain", channel="why", alert=str(stopped))
    (one,) = answer.explained
    cut = one["cuts"][0]
    assert (one["passes"], cut["cut"], cut["stopped"]) == (False, "rb > {rb_min: 0.97}", True)
    assert float(cut["saw"]["rb"]) == pytest.approx(alerts()[stopped][0]["rb"], rel=1e-6)
    assert any("draft" in words for words in one["obstacles"])
    (one,) = world.ask("ann", action="explain", channel="why", alert=str(passes)).explained
    assert one["passes"]
    of = {
        name: {c for c, (seen, n) in alerts().items() if n == name and seen["programid"] == 1}
        for _, name in alerts().values()
    }
    hidden, mixed = next(name for name in of if not of[name]), alerts()[private][1]
    for alert in (str(private), hidden, "1", "/etc/hostname", "../archive"):
        answer = world.ask("ann", action="explain", channel="why", alert=alert)
        assert not answer.done
        assert str(world.folder) not in answer.text + answer.hint
    told_of = world.ask("ann", action="explain", channel="why", alert=mixed).explained
    assert {one["candid"] for one in told_of} == of[mixed] != set()
    assert world.ask("cora", action="create", channel="whole", where=WHERE, access="collaboration").done
    (one,) = world.ask("cora", action="explain", channel="whole", alert=str(private)).explained
    assert one["candid"] == private
    for channel in (f"{world.user('cora')}.whole", "nothing"):
        answer = world.ask("ann", action="explain", channel=channel, alert=str(passes))
        assert answer.text == f"no channel or filter {channel} that you may read"
    shown = world.zads("ann", "explain", "channel.why", str(stopped), out=True)
    assert "stopped here" in shown
    assert f"not in channel.{world.user('ann')}.why" in shown
    (plain,) = json.loads(world.zads("ann", "explain", "channel.why", str(stopped), "--json", out=True))
    assert plain["candid"] == stopped


def test_what_exceeds_a_users_limits_waits_for_an_operator(world: World) -> None:
    """Channels, alerts a night and bytes a day; the operator who allows it is told to the owner."""
    world.add("gil", "public")
    gil, kafka = world.user("gil"), world.operator()
    for channel in ("few", "many", "third"):
        change_limits(gil, {"channels": 2, "alerts_a_night": 60}, by="test", **kafka)
        made = world.ask("gil", action="create", channel=channel, where=WHERE)
        assert made.done == (channel != "third"), made.text
    too_many = "2 channels are as many as you may have"
    assert made.text == f"{gil}.third is made, and waits: {too_many}"
    assert f"{gil}.third waits for an operator: {too_many}" in world.zads("operator", "channel", "list")
    assert world.ask("gil", action="set", channel="third", parameters={"rb_min": 0.98}).done
    assert world.ask("gil", action="test", channel="third").done
    answer = world.ask("gil", action="enable", channel="third")
    assert answer.text.startswith(f"{gil}.third is not enabled: ")
    assert too_many in answer.text
    assert world.ask("gil", action="enable", channel="few").done
    answer = world.ask("gil", action="enable", channel="many")
    both = 2 * len(passing(0.97))
    assert answer.text == f"{gil}.many is not enabled: {both} alerts a night, 60 may be"
    assert read_registry(**kafka)[f"{gil}.many"].state == "draft"
    assert f"{gil}.many waits for an operator: {both} alerts a night" in world.zads(
        "operator", "channel", "list"
    )
    listed = world.zads("gil", "channel", "list")
    assert f"{gil}.many: draft" in listed
    assert "use: 2 of 2 channels, 1 more wait for an operator" in listed
    world.zads("operator", "channel", "enable", f"{gil}.many", "--archive", world.archive)
    while f"{gil}.many is enabled, alerts_per_hour=1000: an operator" not in said_to(world, "gil"):
        world.ask("gil", action="list")
    assert world.ask("gil", action="pause", channel="many").done
    assert world.ask("gil", action="enable", channel="many").done, "as it was granted"
    answer = world.ask("gil", action="set", channel="few", alerts_per_hour=5000)
    assert answer.text == f"{gil}.few is as it was: 5,000 alerts an hour are more than 1,000"
    assert f"{gil}.few waits for an operator: 5,000" in world.zads("operator", "channel", "list")
    world.zads("operator", "channel", "set", f"{gil}.few", "--limit", "alerts_per_hour=5000")
    while f"{gil}.few is enabled, alerts_per_hour=5000: an operator" not in said_to(world, "gil"):
        world.ask("gil", action="list")
    _channels_beyond_the_limit(world, gil)
    assert world.ask("gil", action="set", channel="few", parameters={"rb_min": 0.98}).done
    assert read_registry(**kafka)[f"{gil}.few"].limits.alerts_per_hour == 5000


def _channels_beyond_the_limit(world: World, gil: str) -> None:
    """An operator lets one run, a raised limit the next; five may wait, no more."""
    kafka = world.operator()
    world.zads("operator", "channel", "enable", f"{gil}.third", "--archive", world.archive)
    assert read_registry(**kafka)[f"{gil}.third"].state == "enabled"
    assert world.ask("gil", action="set", channel="third", parameters={"rb_min": 0.985}).done
    assert read_registry(**kafka)[f"{gil}.third"].state == "enabled"
    change_limits(gil, {"channels": 1, "alerts_a_night": 100_000}, by="test", **kafka)
    every = [world.ask("gil", action="create", channel=f"more-{n}", where=WHERE) for n in range(6)]
    assert ["waits" in answer.text for answer in every] == [True] * 5 + [False]
    assert "5 more wait for an operator" in every[5].text
    assert f"{gil}.more-5" not in read_registry(**kafka).definitions
    assert not world.ask("gil", action="enable", channel="more-0").done
    change_limits(gil, {"channels": 20}, by="test", **kafka)
    assert world.ask("gil", action="enable", channel="more-0").done
    assert not read_registry(**kafka)[f"{gil}.more-0"].beyond


@pytest.mark.usefixtures("walls")
def test_a_slow_test_of_one_user_does_not_hold_up_the_pause_of_another(world: World) -> None:
    """jan's filter sleeps for a batch as long as it may, and is tried twice: ben's pause is done before."""
    world.add("jan", "public")
    head = "import time\nfrom zads import alert_filter\n\n@alert_filter(survey='ztf', reads=['rb'])\n"
    text = (
        f"{head}def f(alerts):\n    if len(alerts): time.sleep(3)\n    return {{'a': alerts['rb'] > 0.98}}\n"
    )
    made = world.ask("jan", action="create", channel="slow", filter="f.py:f", text=text)
    assert made.done, made.text
    assert world.ask("ben", action="create", channel="quick", where="rb > 0.5").done
    slow = [Request(action="test", channel="slow") for _ in range(2)]
    for request in slow:
        topic = f"zads.requests.{world.user('jan')}"
        write(topic, request, world.broker.bootstrap_servers, **world.settings["jan"])
    assert world.ask("ben", action="pause", channel="quick").done
    assert slow[1].id not in {answer.id for answer in told(world, "jan")}
    while slow[1].id not in {answer.id for answer in told(world, "jan")}:
        time.sleep(0.5)


@pytest.mark.soak
def test_who_has_had_more_than_a_night_may_bring_is_paused(world: World) -> None:
    """By what the ledger counts while the night goes on; others, and what an operator has granted, go on."""
    names = []
    for who in ("hal", "ida"):
        world.add(who, "public")
        assert world.ask(who, action="create", channel="live", where=WHERE).done
        assert world.ask(who, action="enable", channel="live").done
        names.append(f"{world.user(who)}.live")
    hal, kafka = world.user("hal"), world.operator()
    publish_packets(
        [alert.packet for alert in night()],
        world.broker.bootstrap_servers,
        partitions=2,
        **world.settings["pipe"],
    )
    world.zads("pipe", "run", "--until-drained", "--plain", "--channels", ",".join(names), "--workers", "1")
    delivered = records(topic=f"channel.{names[0]}", **kafka)
    assert len(delivered) == len(passing(0.97))
    size = sum(len(one.value()) for one in delivered)
    assert delivered_now(**kafka).delivered[names[0]] == (len(delivered), size)
    assert f"{len(delivered):,} of 10,000 alerts and {size / 1e6:,.1f} of 1,000.0 MB" in world.zads(
        "hal", "channel", "list"
    )
    change_limits(hal, {"bytes_a_day": size - 1}, by="test", **kafka)
    while read_registry(**kafka)[names[0]].state == "enabled":
        world.ask("ben", action="list")
    last = read_registry(**kafka)[names[0]]
    assert (last.state, last.who) == ("paused", "zads serve")
    assert "MB in the night " in last.why
    assert read_registry(**kafka)[names[1]].state == "enabled"
    answer = world.ask("hal", action="enable", channel="live")
    assert not answer.done
    assert "MB in the night" in answer.text
    assert any("is paused:" in one.text for one in told(world, "hal"))
    assert f"of {(size - 1) / 1e6:,.1f} MB" in world.zads("operator", "user", "show", hal, out=True)
