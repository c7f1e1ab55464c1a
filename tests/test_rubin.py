"""Rubin from end to end: every real packet and synthetic ones of each version through a real broker.

Published as files and as the survey sends them (Confluent framing, with a schema registry), filtered by
`zads run` together with ZTF's alerts, archived, replayed, and given back as packets equal to fastavro's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appenders import Appenders
from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from filters import registered
from pipeline.broker.client import topic_names
from pipeline.broker.listen import listen
from pipeline.clients.following.follow import Follower
from pipeline.clients.publish import publish, publish_packets
from schemas.avro.framing import RegistrySource
from tests import rubin
from tests.archive.helpers import as_words
from tests.pipeline.night import night, running

Place = tuple[str, int, int]


def synthetic() -> list[bytes]:
    """Packets of every version, Confluent-framed, of which most filters pass some."""
    raws = []
    for number in range(60):
        version = rubin.VERSIONS[number % len(rubin.VERSIONS)]
        now = rubin.NOW + number * 37 / 86400
        history = {"band": "r", "visit": 5, "psfFluxErr": 10.0}
        past = [
            history | {"midpointMjdTai": now - days, "psfFlux": 100.0 * k, "diaSourceId": 1000 + k}
            for k, days in enumerate((0.02, 1.0, 3.0, 5.0, 9.0, 12.0), 1)
        ]
        forced = [
            {"midpointMjdTai": now - days, "psfFlux": flux, "psfFluxErr": 10.0, "band": "r", "visit": k}
            for k, (days, flux) in enumerate(((4.0, -20.0), (3.0, 50.0), (1.0, 100.0 * (1 + number % 40))))
        ]
        source = {"psfFlux": 2000.0, "psfFluxErr": 20.0, "reliability": 0.9, "midpointMjdTai": now}
        source |= {"ssObjectId": 7 if number % 5 == 0 else 0, "visit": number, "detector": number % 189}
        source |= {"diaObjectId": 0 if number % 5 == 0 else 10**15 + number % 7}
        record = rubin.alert(version, 10**17 + number, past, forced, **source)
        fields = record["diaSource"]
        for row in [fields, *record["prvDiaSources"]]:
            for name in ("isNegative", "is_negative"):
                if name in row:
                    row[name] = number % 4 == 1
            if "scienceFlux" in row:
                row["scienceFlux"] = row["psfFlux"]
        if number % 4 == 1:
            fields["psfFlux"] = -2000.0
        if "isDipole" in fields and number % 6 == 3:
            fields |= {
                "isDipole": True,
                "dipoleLength": 1.0,
                "dipoleMeanFlux": 500.0,
                "dipoleMeanFluxErr": 9.0,
            }
        if number % 5:
            record["diaObject"] = rubin.row(version, "diaObject", diaObjectId=10**15 + number % 7)
            if "nDiaSources" in record["diaObject"]:
                record["diaObject"] |= {"nDiaSources": 1 + number % 9, "firstDiaSourceMjdTai": now - 3.0}
        raws.append(rubin.confluent(record, version))
    return raws


@dataclass(frozen=True)
class Lived:
    """What was published to which topics, what each channel delivered, and the archive."""

    servers: str
    raws: list[bytes]
    topics: Counter[str]
    delivered: dict[tuple[str, str], list[Place]]
    archive: Path


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, real_alerts: Path) -> Iterator[Lived]:
    folder = tmp_path_factory.mktemp("rubin")
    files = sorted(real_alerts.glob("lsst_*/*.avro"))
    made = synthetic()
    channels = [
        f'[channels.{access}_{name}]\nfilter = "{name}"\naccess = "{access}"'
        for access in ("public", "collaboration")
        for name in registered()
    ]
    with Broker() as broker, rubin.registry() as registry:
        servers = broker.bootstrap_servers
        config = [f'schemas = "{registry.url}"', "[dispatch]", "messages = 100", *channels]
        (folder / "zads.toml").write_text("\n".join(config))
        source = RegistrySource(registry.url)
        sent = publish(files, servers, partitions=3, schemas=source)
        more = publish_packets(made, servers, partitions=3, schemas=source)
        ztf = publish_packets([alert.packet for alert in night()], servers, partitions=3)
        assert not sent.refused + more.refused
        registry.status = 503  # down when the run begins
        with running(servers, folder, "--until-drained") as run:
            run.until(lambda: len(registry.asked) > 20, "the workers to ask the registry")
            registry.status = 200
            assert run.wait() == 0, run.text()
        pattern = "|".join([*sent.topics, *more.topics, *ztf.topics])
        keeper = Appenders(str(folder / "archive"), RegistrySource(registry.url))
        Follower(keeper, f"^({pattern})$", servers, "archive").run(until_drained=True)
        delivered = {
            (access, name): [
                a.source for a in listen(f"{prefix}.{access}_{name}", servers, until_drained=True)
            ]
            for access, prefix in (("public", "channel"), ("collaboration", "collab"))
            for name in registered()
        }
        raws = [*(file.read_bytes() for file in files), *made]
        yield Lived(servers, raws, sent.topics + more.topics, delivered, folder / "archive")


def test_topics_are_those_of_the_major_version(lived: Lived) -> None:
    assert set(lived.topics) == {f"lsst-alerts-v{major}" for major in (7, 9, 10, 11)}
    assert lived.topics.total() == len(lived.raws)
    assert not [name for name in topic_names(lived.servers, ".*dead.*") if "letter" not in name]


@pytest.mark.parametrize("access", ["public", "collaboration"])
@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_live_and_replay_agree_for_every_filter(lived: Lived, access: str, survey: str) -> None:
    filters = list(registered(survey).values())
    part = Archive(lived.archive, survey)
    found = replay(filters, part, public=access == "public", versions="all")
    assert found.failures.empty
    for number, f in enumerate(filters):
        rows = found.of(number)
        places = list(zip(rows["_topic"], rows["_partition"], rows["_offset"], strict=True))
        assert sorted(places) == sorted(lived.delivered[access, f.name]), f.name
    busy = [f.name for f in filters if lived.delivered[access, f.name]]
    assert len(busy) >= 8, f"only {busy} deliver anything: the test would prove little"


def test_packet_by_packet_too(lived: Lived) -> None:
    names = ["new_transient", "rising", "known_object"]
    part = Archive(lived.archive, "lsst")
    one, other = (replay(names, part, versions="all", way=way) for way in ("dataframe", "bag"))  # type: ignore[arg-type]
    for number in range(len(names)):
        assert one.of(number)["candid"].tolist() == other.of(number)["candid"].tolist()


def test_every_packet_comes_back_equal(lived: Lived) -> None:
    sent = [rubin.read(raw) for raw in lived.raws]
    candids = [packet.get("diaSourceId") or packet["diaSource"]["diaSourceId"] for packet in sent]
    back = Archive(lived.archive, "lsst").packets(candids)
    assert as_words(rubin.read(back[candid]) for candid in candids) == as_words(sent)


def test_bytes_of_a_channel_are_those_that_were_published(lived: Lived) -> None:
    published = set(lived.raws)
    heard = list(listen("channel.public_reliable", lived.servers, until_drained=True))
    assert heard
    assert all(alert.raw in published for alert in heard)
    assert all("programid" not in alert.headers for alert in heard)


def test_the_archive_knows_objects_light_curves_and_stamps(lived: Lived, real_alerts: Path) -> None:
    part = Archive(lived.archive, "lsst")
    curve = part.light_curve(str(10**15 + 1))
    assert {"alert", "detection", "forced"} <= set(curve["kind"])
    assert curve["jd"].is_monotonic_increasing
    candid = int(sorted(real_alerts.glob("lsst_9.0/*.avro"))[0].name.split("_")[0])
    assert {which: image.ndim for which, image in part.cutouts(candid).items()} == {
        "Science": 2, "Template": 2, "Difference": 2
    }  # fmt: skip


def test_files_of_both_surveys_are_ingested_into_their_tables(tmp_path: Path, real_alerts: Path) -> None:
    folders = [real_alerts / name for name in ("lsst_ocf", "lsst_9.0", "ztf_4.01", "other_surveys")]
    summary = ingest(folders, tmp_path)
    count = {
        name: len(list((real_alerts / name).glob("*.avro"))) for name in ("lsst_ocf", "lsst_9.0", "ztf_4.01")
    }
    assert Archive(tmp_path, "lsst").nights()["rows"].sum() == count["lsst_ocf"] + count["lsst_9.0"]
    assert Archive(tmp_path, "ztf").nights()["rows"].sum() == count["ztf_4.01"]
    assert summary.quarantined == {"other-survey": len(list((real_alerts / "other_surveys").glob("*.avro")))}
    for survey, packed in (("lsst", False), ("ztf", True)):
        for file in (tmp_path / survey).rglob("*.parquet"):
            row_group = pq.read_metadata(file).row_group(0)
            columns = [row_group.column(n) for n in range(row_group.num_columns)]
            (body,) = (column for column in columns if column.path_in_schema == "_body")
            assert (body.compression == "UNCOMPRESSED") == packed, (
                "Rubin's stamps come as they are, ZTF's gzipped"
            )
    again = ingest(folders, tmp_path)
    assert (again.kept, again.skipped) == (0, sum(count.values()))
