"""Live = replay: the same night through `zads run` and through `replay` gives the same, record by record.

For each registered filter, as a public and as a collaboration channel, the source records (topic, partition,
offset) of the messages that the real pipeline has delivered on a real broker are those of the matches of a
replay of every version in the archive, which the archiver has filled from the same topics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from archive.read.archive import Archive
from archive.replay.replay import Replay, replay
from archive.write.appenders import Appenders
from cluster.kafka.broker import Broker
from filters import registered
from pipeline.broker.listen import listen
from pipeline.clients.following.follow import Follower
from pipeline.clients.publish import publish_packets
from tests.pipeline.night import night, running

Place = tuple[str, int, int]
ACCESS = {"public": True, "collaboration": False}


@dataclass(frozen=True)
class Lived:
    """A night that was lived on the broker: what each channel delivered, and the archive of its records."""

    delivered: dict[tuple[str, str], list[Place]]
    archive: Archive

    def replayed(self, access: str, **changes: object) -> Replay:
        """The same again, or with other arguments."""
        given = {"public": ACCESS[access], "versions": "all", **changes}
        return replay(list(registered("ztf").values()), self.archive, **given)

    def differing(self, access: str, found: Replay) -> set[str]:
        """The filters whose records are not the same."""
        return {
            f.name
            for number, f in enumerate(found.filters)
            if sorted(self.delivered[access, f.name]) != sorted(places(found.of(number)))
        }


def places(matches: pd.DataFrame) -> list[Place]:
    return list(zip(matches["_topic"], matches["_partition"], matches["_offset"], strict=True))


def live(folder: Path, nights: dict[str, list[bytes]], broker: Broker) -> dict[str, Lived]:
    """Publish each night to a topic of its name, run every filter as two channels, archive each topic."""
    channels = [
        f'[channels.{access}_{name}]\nfilter = "{name}"\naccess = "{access}"'
        for access in ACCESS
        for name in registered("ztf")
    ]
    (folder / "zads.toml").write_text("[dispatch]\nmessages = 100\n" + "\n".join(channels))
    servers = broker.bootstrap_servers
    for night_name, packets in nights.items():
        publish_packets(packets, servers, topic=night_name, partitions=3)
    with running(servers, folder, "--topics", f"^({'|'.join(nights)})$", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    delivered = {
        (access, name): sources(servers, f"{prefix}.{access}_{name}")
        for access, prefix in (("public", "channel"), ("collaboration", "collab"))
        for name in registered("ztf")
    }
    return {name: lived(name, delivered, folder / name, servers) for name in nights}


def lived(
    night_name: str, delivered: dict[tuple[str, str], list[Place]], folder: Path, servers: str
) -> Lived:
    """One night's part of what was delivered, and its archive."""
    Follower(Appenders(str(folder)), f"^{night_name}$", servers, night_name).run(until_drained=True)
    its_own = {
        channel: [place for place in places if place[0] == night_name]
        for channel, places in delivered.items()
    }
    return Lived(its_own, Archive(folder))


def sources(servers: str, topic: str) -> list[Place]:
    """The source record of each message; a channel's topic is there even when nothing came."""
    return [alert.source for alert in listen(topic, servers, until_drained=True)]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Lived]:
    """A simulated night, its private alerts and history rows too, with some packets sent twice; and, where
    they are, every real packet, repeated candids, other surveys and damaged files among them."""
    packets = [alert.packet for alert in night()]
    lived_through = {"simulated": [*packets, *packets[::50]]}
    try:
        real_alerts: Path = request.getfixturevalue("real_alerts")
    except pytest.skip.Exception:
        pass  # the tests of the real night skip, and say why
    else:
        # The topic is named for no survey: its first packet decides whose table it is kept in.
        files = sorted(real_alerts.rglob("*.avro"), key=lambda path: ("ztf" not in str(path), path))
        lived_through["real"] = [path.read_bytes() for path in files]
    with Broker() as broker:
        return live(tmp_path_factory.mktemp("parity"), lived_through, broker)


@pytest.fixture
def simulated(nights: dict[str, Lived]) -> Lived:
    return nights["simulated"]


@pytest.fixture
def real(nights: dict[str, Lived], real_alerts: Path) -> Lived:
    return nights["real"]


NIGHTS = pytest.mark.parametrize("lived", ["simulated", "real"])


@NIGHTS
@pytest.mark.parametrize("access", ACCESS)
def test_live_and_replay_agree(lived: str, access: str, request: pytest.FixtureRequest) -> None:
    one: Lived = request.getfixturevalue(lived)
    found = one.replayed(access)
    assert found.complete
    assert found.failures.empty
    assert one.differing(access, found) == set()
    busy = [name for name in registered("ztf") if one.delivered[access, name]]
    assert len(busy) >= 5, f"only {busy} deliver anything: the test would prove little"


@NIGHTS
def test_packet_by_packet_too(lived: str, request: pytest.FixtureRequest) -> None:
    one: Lived = request.getfixturevalue(lived)
    names = ["pure", "nuclear", "two_detections_20min"]
    for access in ACCESS:
        found = replay(names, one.archive, public=ACCESS[access], versions="all", way="bag")
        assert one.differing(access, found) == set()


def test_another_threshold_on_one_side_is_noticed(simulated: Lived) -> None:
    found = simulated.replayed("public", parameters={"rb_min": 0.7})
    with_rb = {name for name, f in registered("ztf").items() if "rb_min" in f.parameters}
    assert {"real_bogus", "pure"} <= simulated.differing("public", found) <= with_rb


def test_rows_that_are_not_public_on_one_side_are_noticed(simulated: Lived) -> None:
    everything = simulated.replayed("collaboration")
    assert "real_bogus" in simulated.differing("public", everything)


def test_one_row_a_candid_instead_of_each_record_is_noticed(simulated: Lived) -> None:
    found = simulated.replayed("public", versions="newest")
    matches = {f.name: len(found.of(number)) for number, f in enumerate(found.filters)}
    assert matches["real_bogus"] < len(simulated.delivered["public", "real_bogus"])
