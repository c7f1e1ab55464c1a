"""A replay as the channel ran: which parameters were in force where, and the matches that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from archive.read.archive import Archive
from archive.replay.as_ran import Span, as_ran
from archive.write.appender import Appender
from archive.write.ingest import ingest
from commands.shared.as_ran import say_what_is_missing
from filters.errors import FilterError
from pipeline.clients.following.keeper import Received
from pipeline.clients.in_force import InForce, exposures_of, spans_of
from schemas.errors import ZadsError
from tests.archive.helpers import night, write_packets


def applied(partition: int, offset: int, *channels: tuple[str, float]) -> dict[str, Any]:
    told = [{"name": name, "version": "v", "parameters": {"rb_min": value}} for name, value in channels]
    return {"topic": "night", "partition": partition, "offset": offset, "channels": told}


def test_the_last_of_several_sets_at_an_offset_counts() -> None:
    told = [
        applied(0, 0, ("other", 0.1)),
        applied(0, 10, ("bright", 0.3)),
        applied(1, 0, ("bright", 0.3)),
        applied(0, 20, ("bright", 0.5)),
        applied(0, 20, ("bright", 0.8), ("other", 0.1)),
        applied(0, 30, ("other", 0.1)),
    ]
    assert spans_of(told, "bright") == [
        InForce("night", 0, 0, 10, "", {}),
        InForce("night", 0, 10, 20, "v", {"rb_min": 0.3}),
        InForce("night", 0, 20, 30, "v", {"rb_min": 0.8}),
        InForce("night", 0, 30, None, "", {}),
        InForce("night", 1, 0, None, "v", {"rb_min": 0.3}),
    ]
    assert spans_of(told, "nobody") == []


def test_each_record_keeps_the_verdict_of_its_own_parameters() -> None:
    rows = [(0, offset, variant) for offset in range(6) for variant in (0, 1)] + [(1, 0, 0), (1, 0, 1)]
    matches = pd.DataFrame(rows, columns=["_partition", "_offset", "variant"]).assign(
        _topic="night", _file=None
    )
    spans = [
        Span("night", 0, 0, 2, 0),
        Span("night", 0, 2, 4, None),
        Span("night", 0, 4, None, 1),
        Span("night", 1, 0, None, 1),
        Span("another", 1, 0, None, 0),
    ]
    kept = as_ran(matches, spans)[["_partition", "_offset", "variant"]].to_numpy().tolist()
    assert kept == [[0, 0, 0], [0, 1, 0], [0, 4, 1], [0, 5, 1], [1, 0, 1]]
    with pytest.raises(FilterError, match="records"):
        as_ran(matches.drop(columns="_offset"), spans)


def test_the_versions_of_catalogues_and_maps_that_were_read() -> None:
    told = [
        applied(0, 0, ("near", 0.3)) | {"external": {"galex": "a"}},
        applied(0, 5, ("near", 0.3)) | {"external": {"galex": "b"}},
    ]
    assert [one.external for one in spans_of(told, "near")] == [{"galex": "a"}, {"galex": "b"}]


def test_offsets_of_a_topic_mean_nothing_in_the_one_made_after_it() -> None:
    former = [
        applied(0, 0, ("bright", 0.3)) | {"topic_id": "a", "written": 1},
        applied(0, 20, ("bright", 0.9)) | {"topic_id": "a", "written": 2},
        applied(1, 7, ("bright", 0.9)) | {"topic_id": "a", "written": 3},
    ]
    present = applied(0, 0, ("bright", 0.5)) | {"topic_id": "b", "written": 4}
    told = InForce("night", 0, 0, None, "v", {"rb_min": 0.5}, made_again=True)
    assert spans_of([present, *former], "bright") == [told]  # partitions are read in any order
    assert not any(one.made_again for one in spans_of(former, "bright"))
    unnamed = applied(1, 0, ("bright", 0.5))
    assert spans_of([unnamed, present], "bright") == [
        InForce("night", 0, 0, None, "v", {"rb_min": 0.5}),
        InForce("night", 1, 0, None, "v", {"rb_min": 0.5}),
    ]


def test_what_was_judged_together_and_what_came_late() -> None:
    described = {"name": "calm", "version": "v", "parameters": {"most": 10}}
    meaning = [
        applied(0, 0, ("other", 0.1)),
        {"exposures": True, "version": "1", "channels": [described]},
        {"exposures": True, "version": "2", "channels": [{**described, "parameters": {"most": 5}}]},
        {"exposures": True, "version": "off", "channels": []},
    ]

    def closing(exposure: int, reason: str, version: str, **offsets: list[int]) -> dict[str, Any]:
        places = {name[1:]: some for name, some in offsets.items()}
        key = {"topic": "night", "survey": "ztf", "exposure": exposure}
        return {**key, "offsets": places, "reason": reason, "version": version, "external": {}}

    told = [
        closing(7, "passed", "1", p0=[0, 1, 3], p1=[0]),
        closing(8, "passed", "1", p0=[2]),
        closing(9, "passed", "off", p0=[4]),
        closing(7, "late", "2", p0=[5]),
        closing(7, "late", "2", p1=[1]),
    ]
    first, second = {"most": 10}, {"most": 5}
    assert exposures_of(meaning, told, "calm") == [
        InForce("night", 0, 0, 4, "v", first),
        InForce("night", 0, 4, 5, "", {}),
        InForce("night", 0, 5, 6, "v", second, {}, 1, ((0, 0), (0, 1), (0, 3), (1, 0))),
        InForce("night", 1, 0, 1, "v", first),
        InForce("night", 1, 1, 2, "v", second, {}, 2, ((0, 0), (0, 1), (0, 3), (1, 0), (0, 5))),
    ]
    assert exposures_of(meaning, told, "nobody") == []
    assert spans_of(meaning, "calm") == []


def test_what_of_an_archive_did_not_come_from_kafka_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, packets = tmp_path / "archive", [alert.packet for alert in night(60)]
    ran = [InForce(topic, 0, 0, None, "v", {}) for topic in ("ztf_a", "ztf_b")]

    def said(*on: InForce, nights: str | None = None) -> str:
        say_what_is_missing("channel.c", on, Archive(where), nights, public=False)
        return capsys.readouterr().err

    ingest(write_packets(tmp_path / "first", packets[:5]), where)
    with pytest.raises(ZadsError, match="came from Kafka") as nothing:
        said(*ran)
    assert "archive follow" in str(nothing.value.hint)
    records = [
        Received(raw, "ztf_a", 0, offset, 1_700_000_000_000, None, ())
        for offset, raw in enumerate(packets[3:])
    ]
    appender = Appender(str(where))
    appender.append("test", records, len(records))
    appender.flush()
    table = Archive(where).alerts(columns=["night"]).compute()
    alike = table[table["candid"].isin([alert.candid for alert in night(60)[:3]])]
    assert alike["night"].nunique() == 1
    told = said(*ran)
    assert f": 3 of {(table['night'] == alike['night'].iloc[0]).sum()} alerts came from files only" in told
    assert "topic ztf_b: the archive has no record of it" in told
    assert told.count("not in what follows") == 2
    last = str(Archive(where).nights()["night"].iloc[-1])
    assert said(*ran, nights=last) == ""
    with pytest.raises(ZadsError, match="ran on: it ran on ztf_b, the archive has ztf_a"):
        said(ran[1])


def test_a_topic_that_has_nothing_public_is_not_missing_for_a_public_channel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, appender = tmp_path / "archive", Appender(str(tmp_path / "archive"))
    for programid, topic in ((1, "ztf_a"), (2, "ztf_b")):
        packets = [alert.packet for alert in night(60) if alert.programid == programid]
        records = [Received(raw, topic, 0, at, 1_700_000_000_000, None, ()) for at, raw in enumerate(packets)]
        assert records
        appender.append(topic, records, len(records))
    appender.flush()
    for public in (True, False):
        ran = [InForce(topic, 0, 0, None, "v", {}) for topic in ("ztf_a", "ztf_b", "ztf_c")]
        say_what_is_missing("channel.c", ran, Archive(where), None, public=public)
        told = capsys.readouterr().err
        assert told.count("not in what follows") == 1
        assert "topic ztf_c: the archive has no record of it" in told
