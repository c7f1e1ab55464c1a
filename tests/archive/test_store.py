"""The appender's promise, each record exactly once, for whatever happens between two commits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.layout import table_of
from archive.tables.store import commit, survey_table
from archive.write import appender as appenders
from archive.write.appender import Appender, Limits
from tests.archive.helpers import night, rows_of
from tests.pipeline import packets as small

GOOD = [small.container([small.alert(2_000_000_000_000_000_000 + n)]) for n in range(12)]


class Arrived(NamedTuple):
    """A record as a stream gives it."""

    raw: bytes
    offset: int
    topic: str = "ztf"
    partition: int = 0
    timestamp: int | None = 1_700_000_000_000
    key: bytes | None = b"key"
    headers: tuple[tuple[str, bytes | None], ...] = (("a", b"1"), ("a", None))

    @property
    def position(self) -> int:
        return self.offset


class Line:
    """A partition that holds these packets."""

    def __init__(self, packets: Sequence[bytes]) -> None:
        self.records = [Arrived(raw, offset) for offset, raw in enumerate(packets)]


def offsets(archive: str) -> list[int]:
    """Every record that the archive holds, in either table."""
    found = rows_of(archive, ["_offset"])["_offset"].to_pylist()
    if DeltaTable.is_deltatable(f"{archive}/quarantine"):
        found += rows_of(archive, ["_offset"], "quarantine")["_offset"].to_pylist()
    return sorted(found)


def test_a_record_keeps_where_it_came_from(tmp_path: Path) -> None:
    appender = Appender(str(tmp_path))
    assert appender.marks(["a"]) == {}
    appender.append("a", Line(GOOD[:1]).records, 1)
    assert appender.flush() == {"a": 1}
    (row,) = rows_of(tmp_path).to_pylist()
    assert (row["_topic"], row["_partition"], row["_offset"], row["_key"]) == ("ztf", 0, 0, b"key")
    assert row["_timestamp"].timestamp() == 1_700_000_000
    assert row["_headers"] == [{"key": "a", "value": b"1"}, {"key": "a", "value": None}]
    assert row["_file"] is None


def test_when_it_is_due(tmp_path: Path) -> None:
    for limits in (Limits(packets=3), Limits(bytes=3 * len(GOOD[0])), Limits(seconds=0)):
        appender = Appender(str(tmp_path), limits=limits)
        appender.marks(["a"])
        assert not appender.due
        appender.append("a", Line(GOOD[:3]).records, 3)
        assert appender.due


# What may come next: read so many records; write them; be killed; or another archiver reads the marks.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("flush"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("killed"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("killed between the tables"), st.integers(0, 1), st.just(0)),
    ),
    max_size=14,
)


class Killed(Exception):
    """Stands for the end of a process."""


class Archiver:
    """One process that archives the line, as the follower does, and may be killed."""

    def __init__(self, archive: str, line: Line) -> None:
        self._archive, self._line = archive, line
        self.begin()

    def begin(self) -> None:
        self._appender = Appender(self._archive)
        self._at = self._appender.marks(["a"]).get("a", 0)

    def step(self, what: str, number: int) -> None:
        if what == "read":
            records = self._line.records[self._at : self._at + number]
            self._at += len(records)
            self._appender.append("a", records, self._at)
        elif what == "flush":
            if self._appender.flush() is None:
                self._at = self._appender.marks(["a"]).get("a", 0)
        elif what == "killed":
            self.begin()
        else:
            self._killed_between_the_tables()

    def _killed_between_the_tables(self) -> None:
        def killed(*_: Any) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(appenders, "commit", killed)
            try:
                self._appender.flush()
            except Killed:
                self.begin()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sets(st.integers(0, 11)))
def test_two_archivers_killed_at_will_keep_each_record_once(
    steps: list[tuple[str, int, int]], bad: set[int]
) -> None:
    line = Line([b"no packet" if n in bad else raw for n, raw in enumerate(GOOD)])
    with tempfile.TemporaryDirectory() as archive:
        both = [Archiver(archive, line), Archiver(archive, line)]
        for what, which, number in steps:
            both[which].step(what, number)
        last = Archiver(archive, line)
        last.step("read", len(GOOD))
        last.step("flush", 0)
        assert offsets(archive) == list(range(len(GOOD)))


def test_a_commit_with_a_stale_mark_is_refused(tmp_path: Path) -> None:
    """What the appender stands on: of two handles the second to move a mark is refused."""
    address = table_of(str(tmp_path), "ztf")
    first, second = survey_table(address), survey_table(address)
    commit(first, [], {"a": 5})
    with pytest.raises(CommitFailedError):
        commit(second, [], {"a": 7})
    assert survey_table(address).transaction_version("a") == 5
    commit(second, [], {"b": 1})  # another's mark is no obstacle


def test_the_log_keeps_statistics_that_let_files_be_skipped(tmp_path: Path) -> None:
    appender = Appender(str(tmp_path))
    appender.marks(["a"])
    appender.append("a", Line([alert.packet for alert in night(50)]).records, 50)
    appender.flush()
    log = [json.loads(line) for f in (tmp_path / "ztf/_delta_log").glob("*.json") for line in f.open()]
    adds = [line["add"] for line in log if "add" in line]
    assert adds
    for add in adds:
        told, rows = json.loads(add["stats"]), pq.ParquetFile(tmp_path / "ztf" / add["path"]).read()
        assert told["numRecords"] == rows.num_rows
        for name in ("candid", "objectId", "jd", "_healpix_29"):
            values = rows[name].to_pylist()
            assert (told["minValues"][name], told["maxValues"][name]) == (min(values), max(values))
