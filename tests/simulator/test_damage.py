"""Damage is noted, noticed by a reader, and leaves the other packets alone; load-test packets are valid."""

import io
import json
from collections import Counter

import fastavro
import pytest

from schemas.packets.reader import PacketReader
from simulator import Month, damaged, simulate, truth_table
from simulator.check.truth import object_table
from simulator.packets.damage import DAMAGES, UNREADABLE
from simulator.packets.load import LoadTest
from simulator.packets.packet import ztf_schema


@pytest.fixture(scope="module")
def clean():
    return list(simulate(600, seed=3, stamps=False))


@pytest.fixture(scope="module")
def hurt(clean):
    return list(damaged(clean, 0.2, seed=3))


def test_each_kind_takes_its_part(clean, hurt) -> None:
    counts = Counter(a.damage for a in {a.candid: a for a in hurt}.values())
    assert set(counts) == {None, *DAMAGES}
    assert 80 < 600 - counts[None] < 165, "a fifth of 600, within four standard deviations"
    assert len(hurt) == len(clean) + counts["repeated"]
    assert {a.candid for a in hurt} == {a.candid for a in clean}


def test_the_reader_refuses_what_was_broken_and_only_that(clean, hurt) -> None:
    reader = PacketReader(["candid", "objectId", "jd"])
    batch = reader.read([a.packet for a in hurt])
    refused = {hurt[r.index].candid for r in batch.refused}
    assert refused == {a.candid for a in hurt if a.damage in UNREADABLE}
    assert len({r.error.reason for r in batch.refused}) >= 3, "several ways to be broken"
    original = {a.candid: a.packet for a in clean}
    for alert in hurt:
        assert (alert.packet == original[alert.candid]) == (alert.damage not in UNREADABLE)


def test_late_ones_come_late_and_twice_means_twice(clean, hurt) -> None:
    order = {a.candid: n for n, a in enumerate(clean)}
    seen: dict[int, list[int]] = {}
    for n, alert in enumerate(hurt):
        seen.setdefault(alert.candid, []).append(n)
    for alert in clean:
        damage = hurt[seen[alert.candid][0]].damage
        assert len(seen[alert.candid]) == (2 if damage == "repeated" else 1)
    late = [a.candid for a in hurt if a.damage == "delayed"]
    later = [sum(hurt[m].jd > clean[order[c]].jd for m in range(seen[c][0])) for c in late]
    assert sum(later) > 0


def test_damage_does_not_depend_on_how_a_month_is_divided() -> None:
    month = Month(nights=2, seed=6, fields=2, quadrants=2, stamps=False)
    whole = {(a.candid, a.damage, a.packet) for a in damaged(month, 0.3, 6)}
    parts = {(a.candid, a.damage, a.packet) for p in month.partitions(3) for a in damaged(p, 0.3, 6)}
    assert whole == parts


def test_truth_says_it_all(hurt) -> None:
    table = truth_table(hurt)
    assert table["damage"].to_pylist() == [a.damage for a in hurt]
    objects = object_table(table).to_pandas().set_index("objectId")
    rows = table.to_pandas().drop_duplicates("candid")
    assert objects["alerts"].sum() == len(rows)
    for name, group in list(rows.groupby("objectId"))[:50]:
        assert objects.loc[name, "class"] == group["class"].iloc[0]
        assert objects.loc[name, "first_jd"] == group["jd"].min()
        assert group["class"].nunique() == 1


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="cannot"):
        damaged([], share, 1)


@pytest.mark.parametrize("version", ["3.3", "4.02"])
def test_packets_of_a_load_test_are_valid_and_distinct(version: str) -> None:
    schema = fastavro.parse_schema(ztf_schema(version))
    load = LoadTest(prepared=30, seed=2, schema=version)
    records = [next(fastavro.reader(io.BytesIO(p))) for p in load.packets(90)]
    for record in records:
        assert fastavro.validate(record, schema, raise_errors=True)
        assert record["candid"] == record["candidate"]["candid"]
        assert record["objectId"].startswith("ZTF25")
        assert 0 <= record["candidate"]["ra"] < 360
        assert 0 <= record["candidate"]["rb"] <= 1
        assert record["cutoutScience"] is not None
    assert len({r["candid"] for r in records}) == 90
    assert len({r["objectId"] for r in records}) == 90
    assert len({json.dumps(r["candidate"]["jd"]) for r in records}) == 90
    assert list(load.packets(5, first=40)) == list(load.packets(60))[40:45]
