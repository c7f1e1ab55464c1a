"""A filter of each kind in `zads demo`: it finds what the truth says, and one that finds nothing is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from commands.demo.kinds import Kind, kinds_of, kinds_table, shown
from commands.demo.night import Night
from commands.demo.pictures import draw
from filters.external.externals import Externals, frames_of
from pipeline.broker.listen import Alert
from pipeline.channels.config import RunConfig, channel_set
from schemas.packets.reader import PacketReader

KINDS = ("exposure filter", "crossmatch", "watchlist", "sky map", "stamp score", "model")


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "external"


@pytest.fixture(scope="module")
def night() -> Night:
    return Night.simulated(2000, 0, 1)


@pytest.fixture(scope="module")
def kinds(night: Night, external: Path) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds_of(night, external)}


@pytest.fixture(scope="module")
def delivered(night: Night, kinds: dict[str, Kind], external: Path) -> dict[str, list[Alert]]:
    """What each channel lets through, without Kafka."""
    configured = {kind.channel: kind.config for kind in kinds.values()}
    channels = channel_set(RunConfig(channels=configured, external=str(external))).by_name
    packets = {alert.candid: alert.packet for alert in night.ztf if alert.programid == 1}
    return {kind.name: passing(channels[kind.channel], packets, external) for kind in kinds.values()}


def passing(channel, packets: dict[int, bytes], external: Path) -> list[Alert]:
    reads = (*channel.filter.reads, *channel.values)
    maker = frames_of(reads, "ztf", True, Externals(external))
    frame = maker.frame(PacketReader(maker.columns).read(list(packets.values())).table)
    frame = frame[channel.filter.passes(frame)]
    columns = [name for name in channel.values if name in frame]
    found = []
    for candid, values in zip(frame["candid"].tolist(), frame[columns].to_dict("records"), strict=True):
        headers = {"candid": str(candid), "values": json.dumps(values)}
        found.append(Alert(channel.topic, 0, 0, headers, 0, packets[candid]))
    return found


def test_there_is_one_of_each_kind(kinds: dict[str, Kind]) -> None:
    assert tuple(kinds) == KINDS


@pytest.mark.parametrize("name", KINDS)
def test_each_finds_what_it_seeks(
    name: str, night: Night, kinds: dict[str, Kind], delivered: dict[str, list[Alert]]
) -> None:
    one = shown(kinds[name], delivered[name], night)
    sought = len(kinds[name].sought)
    assert not one.failed
    assert 2 <= sought < len(night.public) * 0.9
    assert one.found >= 0.9 * sought
    assert one.besides <= max(2, 0.05 * sought)
    assert one.example is not None


@pytest.mark.parametrize("name", KINDS)
def test_one_that_finds_nothing_is_told(name: str, night: Night, kinds: dict[str, Kind]) -> None:
    kind = kinds[name]
    everything = [Alert("t", 0, 0, {"candid": str(candid)}, 0, b"") for candid in night.public["candid"]]
    nothing = shown(kind, everything if kind.rejects else [], night)
    assert nothing.failed
    console = Console(width=200)
    with console.capture() as said:
        console.print(kinds_table([nothing]))
    assert f"0 of {len(kind.sought):,}" in said.get()
    assert not replace(nothing, kind=replace(kind, sought=frozenset())).failed  # there was nothing


def test_a_picture_of_each_and_its_values(
    night: Night, kinds: dict[str, Kind], delivered: dict[str, list[Alert]], external: Path, tmp_path: Path
) -> None:
    done = [shown(kind, delivered[name], night) for name, kind in kinds.items()]
    pictures = draw(done, night, tmp_path, external)
    assert [path.stem for path in pictures] == [name.replace(" ", "_") for name in KINDS]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    console = Console(width=240)
    with console.capture() as said:
        console.print(kinds_table(done))
    for value in ("galex.sep", "targets.name", "skymaps.level"):
        assert value in said.get()
