"""Looking after an archive: what it holds, whether it is sound, fewer files, files that go."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from archive.care.care import info, vacuum
from archive.care.check import Gap, check
from archive.tables.files import data_files
from archive.tables.store import NoSuchArchive
from archive.write import intake
from archive.write.appender import Appender, Limits
from archive.write.ingest import ingest
from archive.write.optimize import optimize
from tests.archive.helpers import as_words, night, packets_in, records_in, rows_of, write_packets
from tests.archive.test_store import Line


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two nights in many small files, and two packets in quarantine."""
    monkeypatch.setattr(intake, "BATCH_PACKETS", 40)
    packets = [*(alert.packet for alert in night()), b"hello", b"there"]
    ingest(write_packets(tmp_path / "packets", packets), tmp_path / "archive")
    return str(tmp_path / "archive")


def test_what_an_archive_holds(archive: str) -> None:
    told = info(archive)
    assert told.rows == len(night())
    assert told.quarantined == {"not-avro": 2}
    assert list(told.schemas) == ["ztf 4.01"]
    counts = Counter((str(n.night), int(n.program or 0)) for n in told.nights for _ in range(n.rows))
    rows = rows_of(archive, ["night", "programid"]).to_pylist()
    assert counts == Counter((str(row["night"]), row["programid"]) for row in rows)
    assert told.bytes == sum(file.stat().st_size for file in Path(archive, "ztf").rglob("*.parquet"))


def test_no_archive(tmp_path: Path) -> None:
    for ask in (info, check, optimize, vacuum):
        with pytest.raises(NoSuchArchive):
            ask(str(tmp_path / "nothing"))


def test_a_sound_archive(archive: str) -> None:
    checked = check(archive)
    assert checked.sound, checked.findings
    assert (checked.rows, checked.superseded) == (len(night()), 0)
    assert not checked.gaps


def test_real_packets_are_sound(real_alerts: Path, tmp_path: Path) -> None:
    ingest(real_alerts, tmp_path)
    checked = check(str(tmp_path))
    assert checked.sound, checked.findings[:5]


def change(archive: str, column: str, value: object) -> int:
    """Another value in the first row of a data file; answers its candid."""
    file = next(Path(archive, "ztf").rglob("*.parquet"))
    table = pq.ParquetFile(file).read()
    place = table.schema.get_field_index(column)
    values = table[column].to_pylist()
    values[0] = value(values[0]) if callable(value) else value
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(place).type)), file)
    return table["candid"][0].as_py()


FAULTS = {
    "column": ("magpsf", 12.5),
    "body": ("_body", lambda body: body[:-50]),
    "digest": ("_body", lambda body: body[:-50]),
    "no-schema": ("_schema", "0123456789abcdef"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_found(archive: str, kind: str) -> None:
    candid = change(archive, *FAULTS[kind])
    found = [finding for finding in check(archive).findings if finding.kind == kind]
    assert found
    assert kind == "no-schema" or str(candid) in found[0].detail


def test_a_file_that_is_gone_is_found(archive: str) -> None:
    next(Path(archive, "ztf").rglob("*.parquet")).unlink()
    assert [finding.kind for finding in check(archive).findings] == ["missing-file"]


def test_gaps_and_duplicates_of_records(tmp_path: Path) -> None:
    line = Line([alert.packet for alert in night(60)])
    appender = Appender(str(tmp_path))
    appender.marks(["a", "b"])
    appender.append("a", line.records[:20], 20)
    appender.append("b", line.records[10:20] + line.records[30:35], 35)  # a source under another name
    appender.flush()
    checked = check(str(tmp_path))
    assert [finding.kind for finding in checked.findings] == ["duplicate"] * 10
    assert checked.gaps == [Gap("ztf", 0, 20, 30)]


@pytest.mark.parametrize("target", [200_000, 1_000_000, 512_000_000])
def test_optimizing_changes_files_and_nothing_else(archive: str, target: int) -> None:
    before = rows_of(archive).sort_by([("_ingested", "ascending")])
    version = DeltaTable(f"{archive}/ztf").version()
    files = len(data_files(DeltaTable(f"{archive}/ztf"), f"{archive}/ztf"))
    done = optimize(archive, target=target, nights=sorted({str(n) for n in before["night"].to_pylist()}))
    assert rows_of(archive).sort_by([("_ingested", "ascending")]).equals(before)
    table = DeltaTable(f"{archive}/ztf")
    now = data_files(table, f"{archive}/ztf")
    assert files == len(now) - done.after + done.before
    assert len(now) < files or target < 1_000_000
    for one in now:  # the files of a partition share no part of the sky
        for other in now:
            if one != other and one.partition == other.partition and one.cells and other.cells:
                assert one.cells[1] <= other.cells[0] or other.cells[1] <= one.cells[0]
    older = (
        DeltaTable(f"{archive}/ztf", version=version).to_pyarrow_table().sort_by([("_ingested", "ascending")])
    )
    assert older.equals(before), "a reader of the older version is disturbed"
    nights = sorted({str(n) for n in before["night"].to_pylist()})
    assert optimize(archive, target=target, nights=nights).partitions == 0
    assert check(archive).sound


def test_optimizing_a_night_that_goes_on(tmp_path: Path) -> None:
    line = Line([alert.packet for alert in night()])
    archive = str(tmp_path)
    appender = Appender(archive, limits=Limits(packets=10))
    appender.marks(["a"])
    stop = threading.Event()

    def tidy() -> None:
        while not stop.is_set():
            optimize(archive)

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        for start in range(0, len(line.records), 10):
            appender.append("a", line.records[start : start + 10], start + 10)
            assert appender.flush() == {"a": start + 10}
    finally:
        stop.set()
        thread.join()
    optimize(archive)
    assert sorted(rows_of(archive, ["_offset"])["_offset"].to_pylist()) == list(range(len(line.records)))
    assert as_words(packets_in(archive)) == as_words(p for alert in night() for p in records_in(alert.packet))
    assert appender.marks(["a"]) == {"a": len(line.records)}


def test_vacuum_removes_what_is_no_part_and_nothing_else(archive: str) -> None:
    left = Path(archive, "ztf", "night=2025-10-12", "programid=1", "left-by-a-killed-writer.parquet")
    left.write_bytes(b"half a file")
    before = rows_of(archive).sort_by([("_ingested", "ascending")])
    optimize(archive)
    assert vacuum(archive) == []
    named = vacuum(archive, hours=0, dry_run=True, force=True)
    assert left.exists()
    removed = vacuum(archive, hours=0, force=True)
    assert sorted(removed) == sorted(named)
    assert not left.exists()
    on_disk = {
        str(file.relative_to(Path(archive, "ztf"))) for file in Path(archive, "ztf").rglob("*.parquet")
    }
    assert on_disk == {file.path for file in data_files(DeltaTable(f"{archive}/ztf"), f"{archive}/ztf")}
    assert rows_of(archive).sort_by([("_ingested", "ascending")]).equals(before)
