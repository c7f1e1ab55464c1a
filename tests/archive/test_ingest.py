"""Packets on disk into the archive: each once, with equal values, whatever happens in between."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from archive.write.appender import Appender
from archive.write.ingest import ingest
from archive.write.quarantine import Quarantine
from cluster.dask.local import local_cluster
from pipeline.clients.following.keeper import Received
from schemas.avro.framing import FolderSource, frame
from schemas.errors import PacketError
from schemas.packets.files import NoSuchPackets
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS
from tests.archive.helpers import (
    as_words,
    night,
    packets_in,
    records_in,
    rows_of,
    write_packets,
    write_tarball,
)
from tests.pipeline import packets as small

REPOSITORY = Path(__file__).resolve().parents[2]


def readable(file: Path) -> list[dict]:
    """The ZTF packets of a file; none where it is damaged or another survey's."""
    if not file.parent.name.startswith("ztf"):
        return []
    return records_in(file.read_bytes())


def test_every_readable_packet_of_the_real_ones_once(real_alerts: Path, tmp_path: Path) -> None:
    summary = ingest(real_alerts, tmp_path, "ztf")
    files = sorted(real_alerts.rglob("*.avro"))
    expected = [record for file in files for record in readable(file)]
    words = set(as_words(expected))
    assert as_words(packets_in(tmp_path)) == sorted(words)  # stamps included
    assert summary.kept == len(words)
    assert summary.skipped == len(expected) - len(words)
    bad = [file for file in files if not readable(file)]
    assert sorted(Quarantine(str(tmp_path)).rows(["_file"])["_file"].to_pylist()) == sorted(map(str, bad))
    assert sorted(Quarantine(str(tmp_path)).rows(["raw"])["raw"].to_pylist()) == sorted(
        file.read_bytes() for file in bad
    )
    assert set(Quarantine(str(tmp_path)).rows(["reason"])["reason"].to_pylist()) <= {
        "other-survey",
        "unknown-schema",
        "truncated",
        "corrupt-value",
        "not-avro",
    }


def test_a_candid_with_two_contents_is_there_twice(real_alerts: Path, tmp_path: Path) -> None:
    ingest(real_alerts, tmp_path)
    contents: dict[int, set[str]] = {}
    for file in real_alerts.rglob("*.avro"):
        for packet in readable(file):
            candid = packet.get("candid") or packet["candidate"]["candid"]
            contents.setdefault(candid, set()).update(as_words([packet]))
    assert any(len(versions) > 1 for versions in contents.values())
    rows = rows_of(tmp_path, ["candid", "_ingested", "_digest"])
    assert Counter(rows["candid"].to_pylist()) == {c: len(versions) for c, versions in contents.items()}
    assert len(set(rows["_ingested"].to_pylist())) == rows.num_rows
    assert len(set(rows["_digest"].to_pylist())) == rows.num_rows


def test_columns_are_what_the_reader_reads_and_old_versions_have_nulls(
    real_alerts: Path, tmp_path: Path
) -> None:
    for folder in ("ztf_3.2", "ztf_3.3", "ztf_4.02_spark"):
        ingest(real_alerts / folder, tmp_path)
    files = [
        f for name in ("ztf_3.2", "ztf_3.3", "ztf_4.02_spark") for f in (real_alerts / name).glob("*.avro")
    ]
    by_file = {str(file): file.read_bytes() for file in files}
    rows = rows_of(tmp_path)
    read = PacketReader(SURVEYS["ztf"].stored_names()).read(
        [by_file[name] for name in rows["_file"].to_pylist()]
    )
    for name in SURVEYS["ztf"].stored_names():
        assert rows[name].to_pylist() == read.table[name].to_pylist(), name
    assert rows["drb"].null_count > 0
    assert rows["fp_hists.jd"].null_count == rows.num_rows


def test_twice_the_same_gives_the_same_rows(tmp_path: Path) -> None:
    bad = [b"hello", night()[0].packet[:5000]]
    folder = write_packets(tmp_path / "packets", [*(alert.packet for alert in night()), *bad])
    first = ingest(folder, tmp_path / "archive")
    before = rows_of(tmp_path / "archive").to_pylist()
    second = ingest([folder, folder], tmp_path / "archive")
    assert (first.kept, first.quarantined.total()) == (len(night()), 2)
    assert (second.kept, second.skipped, second.quarantined_before) == (0, 2 * len(night()), 4)
    assert rows_of(tmp_path / "archive").to_pylist() == before
    assert rows_of(tmp_path / "archive", table="quarantine").num_rows == 2


def test_a_tarball_with_every_packet_twice(tmp_path: Path) -> None:
    packets = [alert.packet for alert in night()]
    file = write_tarball(tmp_path / "night.tar.gz", [*packets, *reversed(packets)])
    told: list[float] = []
    summary = ingest(file, tmp_path / "archive", progress=lambda so_far: told.append(so_far.done))
    assert (summary.kept, summary.skipped, summary.done) == (len(packets), len(packets), 1.0)
    assert told == sorted(told)
    assert as_words(packets_in(tmp_path / "archive")) == as_words(
        p for raw in packets for p in records_in(raw)
    )
    assert rows_of(tmp_path / "archive", ["_file"])["_file"][0].as_py().startswith(f"{file}:night/")


def test_a_truncated_tarball_keeps_what_came_before(tmp_path: Path) -> None:
    file = write_tarball(tmp_path / "night.tar.gz", [alert.packet for alert in night()])
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    summary = ingest(file, tmp_path / "archive")
    assert 0 < summary.kept < len(night())
    assert len(summary.damaged) == 1
    assert "truncated or corrupt" in summary.damaged[0]


def test_a_file_of_several_alerts_gives_a_row_for_each(tmp_path: Path) -> None:
    records = [small.alert(candid) for candid in range(2_000_000_000_000_000_000, 2_000_000_000_000_000_007)]
    folder = write_packets(tmp_path / "packets", [small.container(records[:5]), small.container(records[5:])])
    assert ingest(folder, tmp_path / "archive").kept == len(records)
    assert as_words(packets_in(tmp_path / "archive")) == as_words(records)


def test_confluent_framing(tmp_path: Path) -> None:
    raw = night()[0].packet
    framed = frame(raw)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "7.avsc").write_text(__import__("json").dumps(framed.writer.schema))
    folder = write_packets(tmp_path / "packets", [b"\0\0\0\0\7" + bytes(framed.blocks[0].body)])
    assert ingest(folder, tmp_path / "archive").quarantined == {"unknown-schema": 1}
    assert ingest(folder, tmp_path / "archive", schemas=FolderSource(tmp_path / "schemas")).kept == 1
    assert as_words(packets_in(tmp_path / "archive")) == as_words(records_in(raw))


def test_rows_lie_by_night_program_and_sky(tmp_path: Path) -> None:
    folder = write_packets(tmp_path / "packets", [alert.packet for alert in night()])
    summary = ingest(folder, tmp_path / "archive")
    rows = rows_of(tmp_path / "archive", ["candid", "night", "nid", "programid", "_healpix_29", "ra", "dec"])
    told = {alert.candid: alert for alert in night()}
    first = np.datetime64("2017-01-01")
    for row in rows.to_pylist():
        assert row["programid"] == told[row["candid"]].programid
        assert np.datetime64(row["night"]) == first + told[row["candid"]].night == first + row["nid"]
    for file in (tmp_path / "archive" / "ztf").rglob("programid=*/*.parquet"):
        import pyarrow.parquet as pq

        cells = pq.ParquetFile(file).read(columns=["_healpix_29"])["_healpix_29"].to_pylist()
        assert cells == sorted(cells)
    assert summary.nights == Counter(str(row) for row in rows["night"].to_pylist())


def test_what_has_no_programid_is_kept_and_what_has_no_candid_is_not(tmp_path: Path) -> None:
    folder = write_packets(tmp_path / "packets", [small.without_programid(2_000_000_000_000_000_001)])
    assert ingest(folder, tmp_path / "archive").kept == 1
    assert rows_of(tmp_path / "archive", ["programid"])["programid"].to_pylist() == [None]


def test_no_packet_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(NoSuchPackets):
        ingest(tmp_path / "nothing", tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_killed_and_begun_again(tmp_path: Path) -> None:
    packets = [alert.packet for alert in night(1500, 12)]
    file = write_tarball(tmp_path / "night.tar.gz", packets)
    code = (
        "import sys; from archive.write import intake; from archive.write.ingest import ingest;"
        "intake.BATCH_PACKETS = 50; ingest(sys.argv[1], sys.argv[2])"
    )
    for files in (2, 6):
        process = subprocess.Popen([sys.executable, "-c", code, file, tmp_path / "archive"], cwd=REPOSITORY)
        try:
            log = tmp_path / "archive" / "ztf" / "_delta_log"
            deadline = time.monotonic() + 120
            while len(list(log.glob("*.json"))) <= files and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            process.kill()
            process.wait()
    before = rows_of(tmp_path / "archive", ["candid"]).num_rows
    assert 0 < before < len(packets), "killed too late: the test proves nothing"
    summary = ingest(file, tmp_path / "archive")
    assert (summary.kept, summary.skipped) == (len(packets) - before, before)
    assert as_words(packets_in(tmp_path / "archive")) == as_words(
        p for raw in packets for p in records_in(raw)
    )


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archive.write.intake.BATCH_PACKETS", 20)
    folder = write_packets(tmp_path / "packets", [alert.packet for alert in night()])
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: ingest(folder, tmp_path / "archive"), range(2)))
    assert sum(summary.kept for summary in done) == len(night())
    assert Counter(rows_of(tmp_path / "archive", ["candid"])["candid"].to_pylist()) == Counter(
        alert.candid for alert in night()
    )


def test_on_dask(tmp_path: Path) -> None:
    halves = [alert.packet for alert in night()][:150], [alert.packet for alert in night()][100:]
    files = [write_tarball(tmp_path / f"{n}.tar.gz", half) for n, half in enumerate(halves)]
    loose = write_packets(tmp_path / "loose", [b"hello", halves[0][0]])
    with local_cluster(2) as cluster, Client(cluster) as client:
        summary = ingest([*files, loose], tmp_path / "archive", client=client)
    assert (summary.kept, summary.skipped, summary.quarantined.total()) == (300, 51, 1)
    assert summary.done == 1.0
    assert Counter(rows_of(tmp_path / "archive", ["candid"])["candid"].to_pylist()) == Counter(
        alert.candid for alert in night()
    )


def test_the_readers_errors_are_the_quarantines_reasons(tmp_path: Path) -> None:
    good = night()[0].packet
    faults = {"truncated": good[:-100], "not-avro": b"GIF89a", "corrupt-value": good[:-16] + bytes(16)}
    folder = write_packets(tmp_path / "packets", faults.values())
    assert ingest(folder, tmp_path / "archive").quarantined == dict.fromkeys(faults, 1)
    rows = Quarantine(str(tmp_path / "archive")).rows().to_pylist()
    for row in rows:
        with pytest.raises(PacketError) as error:
            frame(row["raw"])
        assert (row["reason"], row["detail"]) == (error.value.reason, str(error.value))


def test_an_archive_deleted_and_made_anew_has_its_schemas(tmp_path: Path) -> None:
    """In one process, as in a notebook: the new archive is whole, for readers elsewhere too."""
    packets = [alert.packet for alert in night(20)]
    folder, path = write_packets(tmp_path / "in", packets), tmp_path / "archive"
    for _ in range(3):
        ingest(folder, path)
        assert len(packets_in(path)) == len(packets), "read by another program"
        shutil.rmtree(path)
    keep = Appender(str(path))
    assert keep.marks(["a"]) == {}
    records = [Received(raw, "t", 0, n, None, None, ()) for n, raw in enumerate(packets)]
    keep.append("a", records, 20)
    keep.flush()
    assert len(packets_in(path)) == len(packets)
