"""Infinite values, and a Delta log without statistics: the archive is written and read all the same."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import fastavro
import pytest
from deltalake import DeltaTable

from archive.care.care import info
from archive.care.check import check
from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.tables.files import data_files
from archive.tables.store import BadAddress
from archive.write.ingest import ingest
from archive.write.optimize import optimize
from tests.archive.helpers import night, write_packets

FIELDS = ["magpsf", "rb", "ra", "dec", "jd", "sigmapsf", "diffmaglim"]


def changed(raw: bytes, **values: Any) -> bytes:
    """The packet with other values in its candidate."""
    reader = fastavro.reader(io.BytesIO(raw))
    [packet] = list(reader)
    packet["candidate"] |= values  # type: ignore[index, call-overload]
    out = io.BytesIO()
    fastavro.writer(out, reader.writer_schema, [packet])  # type: ignore[arg-type]
    return out.getvalue()


def assert_readable(path: Path, alerts: int, objectId: str) -> None:
    assert info(str(path)).rows == alerts
    assert check(str(path)).findings == []
    archive = Archive(path)
    assert archive.nights()["rows"].sum() == alerts
    assert len(archive.alerts(columns=["rb", "magpsf"]).compute()) == alerts
    found = replay(["real_bogus", "pure_transient"], archive, public=False)
    assert found.alerts == alerts
    assert len(archive.light_curve(objectId))
    assert len(archive.alerts(columns=["rb"], where="rb >= 0.65").compute()) == len(found.of(0))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinite_values_are_kept_and_the_log_has_none(tmp_path: Path, value: float) -> None:
    alerts = night(40, 11, 1)
    packets = [alert.packet for alert in alerts]
    for number, name in enumerate(FIELDS):
        packets[number] = changed(packets[number], **{name: value})
    packets[9] = changed(packets[9], **dict.fromkeys(FIELDS, value))
    path = tmp_path / "archive"
    assert ingest(write_packets(tmp_path / "in", packets), path).kept == len(packets)
    for entry in (path / "ztf" / "_delta_log").glob("*.json"):
        for line in entry.read_text().splitlines():
            stats = json.loads(line).get("add", {}).get("stats")
            json.loads(stats or "{}", parse_constant=lambda word: pytest.fail(f"{word} in the log"))
    assert_readable(path, len(packets), alerts[20].objectId)
    ingest(write_packets(tmp_path / "more", [a.packet for a in night(30, 12, 1)]), path)
    optimize(str(path), nights=sorted(n for n in Archive(path).nights()["night"] if n != "None"))
    assert_readable(path, len(packets) + 30, alerts[20].objectId)
    raw = Archive(path).alerts(columns=["candid", "rb"], where="rb >= 0.65").compute()
    assert (alerts[1].candid in set(raw["candid"])) == (value == math.inf)


@pytest.mark.parametrize(
    "stats", [None, "", '{"numRecords": 40}', '{"numRecords":1,"minValues":{"rb":-Infinity}}']
)
def test_readers_need_no_statistics(tmp_path: Path, stats: str | None) -> None:
    """As another writer may leave them, or an earlier version of this one did."""
    alerts = night(40, 11, 1)
    path = tmp_path / "archive"
    ingest(write_packets(tmp_path / "in", [alert.packet for alert in alerts]), path)
    told = {(f.path, f.rows) for f in data_files(DeltaTable(f"{path}/ztf"), f"{path}/ztf")}
    for entry in (path / "ztf" / "_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in entry.read_text().splitlines()]
        for line in lines:
            if "add" in line:
                rows = json.loads(line["add"]["stats"])["numRecords"]
                line["add"]["stats"] = stats.replace("40", str(rows)) if stats else stats
        entry.write_text("\n".join(map(json.dumps, lines)))
    files = data_files(DeltaTable(f"{path}/ztf"), f"{path}/ztf")
    assert {(f.path, f.rows) for f in files} == told
    assert not any(f.limits for f in files)
    assert_readable(path, 40, alerts[20].objectId)
    assert ingest(tmp_path / "in", path).skipped == 40


@pytest.mark.parametrize("name", ["a%20b", "a%2fb", "a\\b", "a\nb"])
def test_a_path_that_the_table_format_takes_for_another_is_refused(tmp_path: Path, name: str) -> None:
    packets = write_packets(tmp_path / "in", [a.packet for a in night(3, 11, 1)])
    (tmp_path / "a b").mkdir()
    for work in (lambda p: ingest(packets, p), lambda p: Archive(p).nights(), lambda p: info(str(p))):
        with pytest.raises(BadAddress, match="cannot be in"):
            work(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a b", "in"]


@pytest.mark.parametrize("name", ["a b", "100%", "ü?#", "a+b&c"])
def test_other_paths_are_plain(tmp_path: Path, name: str) -> None:
    packets = write_packets(tmp_path / "packets %20", [a.packet for a in night(3, 11, 1)])
    assert ingest(packets, tmp_path / name).kept == 3
    assert len(Archive(tmp_path / name).alerts().compute()) == 3
    assert check(str(tmp_path / name)).sound
