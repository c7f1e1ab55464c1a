"""A channel of every kind at once, live through kills of all processes, beside a replay as it ran.

The rows of the talk's taxonomy (Bellm et al. 2017): one packet, an aggregated stream, external information.
In the middle of the night a parameter, a watchlist and the sky maps change; the workers are killed, then the
run.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archive.read.archive import Archive
from archive.replay.limited import limited
from archive.replay.trial import value_columns
from archive.write.appenders import Appenders
from cluster.kafka.broker import Broker
from commands.demo.kinds import kinds_of
from commands.demo.night import Night
from commands.external.catalogues import add_catalogue
from commands.shared.as_ran import repeated
from filters.external import Store
from filters.external.add import add_notices, add_region
from filters.limits import Limits
from pipeline.broker.listen import Alert, listen
from pipeline.broker.topics import ensure_topics
from pipeline.channels.changes import channels_now
from pipeline.channels.channel import Channel
from pipeline.channels.config import RunConfig, read_config
from pipeline.channels.definition import Definition
from pipeline.channels.registry import write_registry
from pipeline.clients.following.follow import Follower
from pipeline.clients.in_force import InForce, in_force
from pipeline.clients.publish import publish_packets
from simulator.sky.merger import merger_of
from simulator.sky.messages import messages_of
from tests.pipeline.night import Run, running
from tests.pipeline.topics import records

pytestmark = pytest.mark.timeout(300)
TOPIC = "ztf_20231012_programid1"
Place = tuple[str, int, int]
Found = dict[Place, dict[str, Any]]
KINDS = {
    "scalar": "real_bogus",
    "history": "pure_transient",
    "cutout": "stamp_point",
    "model": "by_class",
    "fit": "type_ia",
    "whole exposures": "no_trail",
    "rate, a sample": "sampled",
    "rate, throttled": "throttled",
    "catalogue": "ultraviolet",
    "watchlist": "my_targets",
    "watchmap": "patch",
    "sky map": "near_merger",
    "changing parameter": "bright",
    "changing median": "calm",
}
"""Kind of filter -> its channel."""
CHANGED = ("bright", "calm", "my_targets", "near_merger")
CONFIG = """
external = "{external}"
[dispatch]
messages = 25
[exposures]
grace_seconds = 1
[channels.real_bogus]
[channels.pure_transient]
[channels.stamp_point]
[channels.type_ia]
[channels.by_class]
filter = "filters.models.light_curves:light_curve_class"
[channels.no_trail]
filter = "filters.exposures.trails:no_trail"
[channels.sampled]
filter = "real_bogus"
limits = {{ sample = 0.25 }}
[channels.throttled]
filter = "real_bogus"
limits = {{ throttle_per_hour = 20, throttle_burst = 4 }}
[channels.ultraviolet]
where = "galex.sep < 1.5"
values = ["galex.sep", "galex.nuv"]
[channels.my_targets]
where = "targets.match"
values = ["targets.name", "targets.sep"]
[channels.patch]
where = "patch.inside"
[channels.near_merger]
where = "skymaps.level < 0.95"
values = ["skymaps.event", "skymaps.level", "skymaps.days"]
"""


@dataclass(frozen=True)
class Lived:
    """A night that was lived: what each channel delivered, what was in force where, and the archive."""

    delivered: dict[str, list[Alert]]
    told: dict[str, list[InForce]]
    channels: dict[str, Channel]
    archive: Archive
    config: RunConfig


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("kinds")
    night = Night.simulated(600, 0, 1)
    prepare(night, folder / "external")
    (folder / "zads.toml").write_text(CONFIG.format(external=folder / "external"))
    with Broker() as broker:
        servers = broker.bootstrap_servers
        live(servers, folder, night)
        Follower(Appenders(str(folder / "archive")), f"^{TOPIC}$", servers, "a").run(until_drained=True)
        config = read_config(folder / "zads.toml", bootstrap_servers=servers)
        return Lived(
            {name: list(listen(f"channel.{name}", servers, until_drained=True)) for name in KINDS.values()},
            {name: in_force(config, name) for name in KINDS.values()},
            channels_now(config).by_name,
            Archive(folder / "archive"),
            config,
        )


def prepare(night: Night, external: Path) -> None:
    """What the channels read beside the alerts, before the night: one merger of two, the first targets."""
    kinds_of(night, external)
    busiest = night.public.groupby("pid")[["ra", "dec"]].median().iloc[0]
    add_region("patch", f"cone {busiest['ra']} {busiest['dec']} 1 deg", external)
    assert "skymaps" not in Store(external).names()
    add_notices("skymaps", notices(night, 0), external, window=30)


def notices(night: Night, number: int) -> list[bytes]:
    """What is said of a merger a day before, where the alerts of an early or a late exposure are."""
    place = night.public[["ra", "dec"]].dropna().iloc[-number]
    about = {"t0": night.public["jd"].min() - 1, "redshift": 0.02, **place}
    told = messages_of(merger_of(about, number), number)
    return [text for name, text in sorted(told.items()) if "preliminary.json" in name]


def change(night: Night, external: Path) -> None:
    """Other targets, and another event."""
    variables = night.public[night.public["class"] == "RR Lyrae"].drop_duplicates("objectId").iloc[-10:]
    named = variables[["ra", "dec"]].assign(name="new " + variables["objectId"], radius=1.0)
    add_catalogue(named, "targets", 1.0, radius_column="radius", root=external, listed=True)
    add_notices("skymaps", notices(night, 1), external, window=30)


def live(servers: str, folder: Path, night: Night) -> None:
    """The night in three parts: workers killed and everything changed in the second, then the run killed."""
    packets = [alert.packet for alert in night.ztf]
    parts = [packets[:200], packets[200:400], packets[400:]]
    bright = Definition(name="bright", filter="real_bogus").with_changes(parameters={"rb_min": 0.5})
    calm = Definition(name="calm", filter="filters.exposures.crowded:no_crowd").with_changes(
        parameters={"usual": 2, "factor": 3, "least": 1}
    )
    begun = [one.becoming("enabled") for one in (bright, calm)]
    first, second = write_registry(begun, servers, who="a test")
    ensure_topics(servers, [TOPIC], 3)
    publish_packets(parts[0], servers, topic=TOPIC)
    with running(servers, folder, "--topics", f"^{TOPIC}$", "--workers", "2") as run:
        run.until_in_its_middle()
        for worker in run.workers():
            worker.kill()
        run.until(lambda: bool(records(servers, "channel.calm")), "an exposure by the first medians")
        change(night, folder / "external")
        write_registry(
            [
                first.with_changes(parameters={"rb_min": "band:g=0.8,else=0.6"}),
                second.with_changes(parameters={"usual": "rcid+band:1+g=9,47+r=7,else=1"}),
            ],
            servers,
            who="a test",
        )
        wait_for_changes(run)
        before = len(records(servers, "channel.bright"))
        publish_packets(parts[1], servers, topic=TOPIC)
        run.until(lambda: len(records(servers, "channel.bright")) > before, "alerts of the second part")
        run.kill()
    publish_packets(parts[2], servers, topic=TOPIC)
    with running(servers, folder, "--topics", f"^{TOPIC}$", "--workers", "1", "--until-drained") as run:
        assert run.wait() == 0, run.text()


def wait_for_changes(run: Run) -> None:
    for words in ("channel bright: changed", "targets: version", "skymaps: version"):
        run.until(lambda words=words: words in run.text(), words)


@pytest.mark.parametrize("kind", KINDS)
def test_live_through_kills_is_the_replay_as_it_ran(kind: str, lived: Lived) -> None:
    name = KINDS[kind]
    channel, alerts = lived.channels[name], lived.delivered[name]
    sources = Counter(alert.source for alert in alerts)
    assert set(sources.values()) == {1}, "delivered twice"
    assert 3 < len(alerts) < 550, "it would prove little"
    live = {alert.source: plain(alert.values) for alert in alerts}
    assert live == as_it_ran(channel, lived)
    assert {alert.source: alert.candid for alert in alerts} == {
        a.source: a.packet()["candid"] for a in alerts
    }


def as_it_ran(channel: Channel, lived: Lived) -> Found:
    """The records that a replay finds, with the values that travel."""
    found = repeated(channel, lived.told[channel.name], lived.archive, lived.config.externals, None)
    if channel.limits != Limits():
        found = limited(found, channel.limits, channel.name)
    columns = dict(zip(channel.filter.gives, value_columns(channel.filter), strict=True))
    columns = {**{name: name for name in channel.values}, **columns}
    rows = zip(found["_topic"], found["_partition"].tolist(), found["_offset"].tolist(), strict=True)
    values = found[list(columns.values())].set_axis(list(columns), axis=1).to_dict("records")
    return {place: plain(each) for place, each in zip(rows, values, strict=True)}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Missing is None."""
    return {name: None if is_missing(value) else value for name, value in values.items()}


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


@pytest.mark.parametrize("name", CHANGED)
def test_what_changed_did_so_in_the_middle(name: str, lived: Lived) -> None:
    """Otherwise the night would prove less than it says."""
    told = [one for one in lived.told[name] if one.version]
    assert len({(str(one.parameters), str(one.external)) for one in told}) > 1
