"""`zads channel usual`: the running medians of a channel are those of the nights before, each a revision."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archive.read.archive import Archive
from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands import application
from commands.channel.usual import update
from pipeline.channels.config import RunConfig
from pipeline.channels.definition import Definition
from pipeline.channels.registry import read_registry, write_registry
from schemas.errors import ZadsError
from simulator import simulate
from tests.archive.helpers import write_packets

NAME = "usual_calm"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights."""
    folder = tmp_path_factory.mktemp("usual")
    packets = [alert.packet for alert in simulate(600, 3, nights=3, stamps=False)]
    ingest(write_packets(folder / "in", packets), folder / "archive")
    return folder / "archive"


def medians(archive: Path, before: str) -> tuple[dict[str, float], float]:
    """By quadrant and band, of public exposures, without a line of ours but the reading."""
    columns = ["exposure", "rcid", "band", "night"]
    alerts = Archive(archive).alerts(columns=columns, public=True).compute()
    alerts = alerts[alerts["night"] < (date.fromisoformat(before) - date(2017, 1, 1)).days]
    sizes = alerts.groupby(["rcid", "band", "exposure"], as_index=False).size()
    found = {
        f"{int(rcid)}+{band}": float(some["size"].median())
        for (rcid, band), some in sizes.groupby(["rcid", "band"])
        if len(some) >= 3
    }
    return found, float(sizes["size"].median())


def now(broker: Broker) -> Definition:
    return read_registry(broker.bootstrap_servers)[NAME]


def test_they_are_those_of_the_nights_before(broker: Broker, archive: Path) -> None:
    servers, config = broker.bootstrap_servers, RunConfig(bootstrap_servers=broker.bootstrap_servers)
    calm = Definition(name=NAME, filter="filters.exposures.crowded:no_crowd").completed()
    write_registry([calm], servers, who="a test")
    nights = sorted(Archive(archive).nights()["night"])
    how = ("rcid+band", 30, "")
    with pytest.raises(ZadsError, match="has no night before"):
        update(config, NAME, str(archive), nights[0], how)
    assert update(config, NAME, str(archive), nights[2], how)
    first = now(broker)
    table = dict(first.loaded().values["usual"])
    assert table.pop("by") == "rcid+band"
    wanted, everywhere = medians(archive, nights[2])
    assert table.pop("else") == everywhere
    assert table == wanted
    assert table
    assert not update(config, NAME, str(archive), nights[2], how)
    assert now(broker).revision == first.revision
    arguments = ["channel", "usual", NAME, "--archive", str(archive), "--bootstrap", servers]
    done = CliRunner().invoke(application(), arguments)
    assert done.exit_code == 0, done.output
    assert f"3 nights, {nights[0]} to {nights[2]} (revision {first.revision + 1})" in " ".join(
        done.stderr.split()
    )
    assert len(medians(archive, "2999-01-01")[0]) > len(table)
    last = dict(now(broker).loaded().values["usual"])
    assert {key: last[key] for key in last.keys() - {"by", "else"}} == medians(archive, "2999-01-01")[0]


def test_a_filter_that_knows_nothing_usual_is_said(broker: Broker, archive: Path) -> None:
    servers = broker.bootstrap_servers
    one = Definition(name="usual_none", filter="real_bogus").completed()
    write_registry([one], servers, who="a test")
    with pytest.raises(ZadsError, match="no parameter `usual`"):
        update(RunConfig(bootstrap_servers=servers), one.name, str(archive), "2999-01-01", ("rcid", 1, ""))
