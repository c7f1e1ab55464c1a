"""Fields and rows cut out of packets: what is kept decodes to equal values, by fastavro alone."""

import io
import json
import random

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avro.framing import FolderSource
from schemas.avro.rewrite import check_names, rewrite
from schemas.errors import NoSuchColumn, NotPublic, PacketError, UnsupportedSchema
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS
from tests.schemas import oracle
from tests.schemas.conftest import bare, container, ztf_records, ztf_schema

ZTF = SURVEYS["ztf"]
STAMPS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
NAMES = [*ZTF.stored_names(), *STAMPS, "candidate.rb", "prv_candidates", "fp_hists", "candidate"]


def valid(raw: bytes) -> dict:
    """The schema of a packet, after fastavro found it legal from scratch."""
    schema = oracle.written_with(raw)
    fastavro.parse_schema(json.loads(json.dumps(schema)), _force=True, named_schemas={})
    return schema


def check(raw: bytes, dropped: set[str], **options) -> bytes:
    """The packet without the fields, compared with fastavro's records without them."""
    paths = {ZTF.path(name) if name not in oracle.records_of(raw)[0] else name for name in dropped}
    out = rewrite(raw, drop=tuple(dropped), **options)
    assert oracle.same(oracle.records_of(out), oracle.without(oracle.records_of(raw), paths))
    valid(out)
    assert rewrite(out, drop=tuple(dropped), **options) == out
    return out


@pytest.mark.parametrize(
    "dropped",
    [
        {"cutoutScience"},
        {"cutoutTemplate", "cutoutDifference"},
        set(STAMPS),
        {"candidate"},
        {"fp_hists", "cutoutScience"},
        {"rb", "candidate.drb", "prv_candidates.magpsf", "fp_hists.jd"},
        {"schemavsn", "publisher", "candid"},
    ],
)
def test_real_packets_without_fields(real_alerts, dropped):
    for path in sorted(real_alerts.glob("ztf_*/*.avro"))[::7]:
        raw = path.read_bytes()
        fields = {f["name"] for f in oracle.written_with(raw)["fields"]}
        here = {
            name
            for name in dropped
            if name not in ("candid", "fp_hists", "fp_hists.jd") or name.partition(".")[0] in fields
        }
        check(raw, here)


def test_dropping_stamps_is_most_of_the_packet(real_alerts):
    for path in sorted(real_alerts.glob("ztf_4.01/*.avro"))[:5]:
        raw = path.read_bytes()
        assert len(rewrite(raw, drop=STAMPS)) < 0.8 * len(raw)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dropped=st.sets(st.sampled_from(NAMES), max_size=8),
    codec=st.sampled_from(["null", "deflate", "snappy"]),
    version=st.sampled_from(["3.3", "4.01"]),
    block=st.sampled_from([1, 1 << 20]),
)
def test_any_fields_of_any_packet(seed, dropped, codec, version, block):
    raw = container(ztf_schema(version), ztf_records(seed, 2, version), codec, block)
    if version == "3.3":
        dropped = {name for name in dropped if not name.startswith("fp_hists")}
    check(raw, dropped)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kept=st.sets(st.sampled_from(NAMES), min_size=1, max_size=5))
def test_keep_is_all_that_is_left(seed, kept):
    raw = container(ztf_schema(), ztf_records(seed, 2))
    out = rewrite(raw, keep=tuple(kept))
    paths = {ZTF.path(name) for name in kept}
    for ours, theirs in zip(oracle.records_of(out), oracle.records_of(raw), strict=True):
        assert oracle.same(ours, only(theirs, paths))
    valid(out)
    assert rewrite(out, keep=tuple(kept)) == out


def only(record, paths, path=""):
    """The record with nothing but what is at (or on the way to) the paths."""
    if isinstance(record, list):
        return [only(item, paths, path) for item in record]
    if not isinstance(record, dict):
        return record
    out = {}
    for name, value in record.items():
        where = path + name
        if where in paths:
            out[name] = value
        elif any(p.startswith(f"{where}.") for p in paths):
            out[name] = only(value, paths, f"{where}.")
    return out


def with_programs(seed: int, rows: int = 8) -> list[dict]:
    """Public alerts whose histories hold the rows of partners and of Caltech too."""
    rng = random.Random(seed)
    records = ztf_records(seed, rng.randint(1, 3), rows=rows, programid=1)
    for record in records:
        for history in ZTF.histories:
            for row in record[history] or ():
                row["programid"] = rng.choice([1, 1, 2, 3, 0, -1])
    return records


def public_rows(record: dict) -> dict:
    histories = {
        h: [r for r in record[h] if r["programid"] == 1] for h in ZTF.histories if record.get(h) is not None
    }
    return record | histories


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    codec=st.sampled_from(["null", "deflate"]),
    block=st.sampled_from([1, 1 << 20]),
    dropped=st.sets(
        st.sampled_from(["prv_candidates.programid", "prv_candidates.jd", "fp_hists", *STAMPS]), max_size=3
    ),
)
def test_rows_that_are_not_public_go(seed, codec, block, dropped):
    raw = container(ztf_schema(), with_programs(seed), codec, block)
    out = rewrite(raw, drop=tuple(dropped), public_only=True)
    expected = oracle.without([public_rows(record) for record in oracle.records_of(raw)], dropped)
    assert oracle.same(oracle.records_of(out), expected)
    valid(out)
    if "prv_candidates.programid" not in dropped:
        assert rewrite(out, drop=tuple(dropped), public_only=True) == out
    left = PacketReader(["prv_candidates.programid", "fp_hists.programid"]).read([out]).table
    assert {p for column in left.columns for rows in column.to_pylist() for p in rows or ()} <= {1, None}


def test_a_row_without_programid_is_not_public(packet):
    """Rewritten packets may have it null, and a history may lack it: neither is exactly 1."""
    schema = json.loads(
        json.dumps(ztf_schema()).replace('"programid", "type": "int"', '"programid", "type": ["int", "null"]')
    )
    (record,) = ztf_records(4, rows=0, programid=1)
    rows = ztf_records(5, rows=40)[0]["prv_candidates"] or [
        row for s in range(9) for row in ztf_records(s)[0]["prv_candidates"] or ()
    ]
    record["prv_candidates"] = [{**row, "programid": (1, None, 2)[i % 3]} for i, row in enumerate(rows)]
    raw = container(schema, [record])
    (ours,), (whole,) = oracle.records_of(rewrite(raw, public_only=True)), oracle.records_of(raw)
    assert oracle.same(ours["prv_candidates"], [r for r in whole["prv_candidates"] if r["programid"] == 1])
    assert len(ours["prv_candidates"]) > 0
    bereft = rewrite(
        container(ztf_schema(), [record | {"prv_candidates": [{**r, "programid": 1} for r in rows]}]),
        drop=("prv_candidates.programid",),
    )
    assert oracle.records_of(bereft)[0]["prv_candidates"]
    assert not oracle.records_of(rewrite(bereft, public_only=True))[0]["prv_candidates"]


@pytest.mark.parametrize("programid", [0, 2, 3])
def test_an_alert_that_is_not_public_does_not_leave(programid):
    raw = container(ztf_schema(), ztf_records(1, programid=1) + ztf_records(2, programid=programid))
    with pytest.raises(NotPublic, match=str(programid)):
        rewrite(raw, public_only=True)


def test_what_has_nothing_to_lose_comes_back_as_it_is(real_alerts):
    for path in sorted(real_alerts.glob("ztf_*/*.avro"))[::11]:  # all programid 1 with clean histories
        raw = path.read_bytes()
        assert rewrite(raw, public_only=True) is raw
        assert rewrite(raw, drop=("no_such_field",)) is raw


def test_blocks_with_sizes_are_cut_too():
    """Arrays may come in several blocks, with a negative count and the block's size in bytes."""
    programid = {"name": "programid", "type": "int"}
    items = {"type": "record", "name": "p", "fields": [programid, {"name": "x", "type": "string"}]}
    fields = [
        {"name": "objectId", "type": "string"},
        {"name": "candidate", "type": {"type": "record", "name": "c", "fields": [programid]}},
        {"name": "prv_candidates", "type": ["null", {"type": "array", "items": items}]},
    ]
    schema = {"type": "record", "name": "alert", "namespace": "ztf", "fields": fields}
    row = lambda programid, x: bytes([programid << 1, len(x) << 1]) + x  # noqa: E731
    first, second = row(1, b"a") + row(2, b"bb"), row(1, b"c")
    blocks = (
        b"\x03" + bytes([len(first) << 1]) + first + b"\x02" + second + b"\0"
    )  # -2, size, rows; 1, rows; 0
    body = b"\x02o" + b"\x02" + b"\x02" + blocks
    raw = container(schema, []) + bytes([2, len(body) << 1]) + body + b"sixteen bytes ok"
    rows = [{"programid": 1, "x": "a"}, {"programid": 2, "x": "bb"}, {"programid": 1, "x": "c"}]
    assert oracle.records_of(raw)[0]["prv_candidates"] == rows
    assert oracle.records_of(rewrite(raw, public_only=True))[0]["prv_candidates"] == [rows[0], rows[2]]
    dropped = oracle.records_of(rewrite(raw, drop=("prv_candidates.x",)))
    assert dropped[0]["prv_candidates"] == [{"programid": p} for p in (1, 2, 1)]


def test_confluent_packets(tmp_path):
    """Rows go within the framing; a reduced schema has no id, so then it becomes a container."""
    (tmp_path / "401.avsc").write_text(json.dumps(ztf_schema()))
    source = FolderSource(tmp_path)
    record = with_programs(11, rows=30)[0]
    raw = b"\0" + (401).to_bytes(4, "big") + bare(ztf_schema(), record)
    out = rewrite(raw, public_only=True, schemas=source)
    assert out[:5] == raw[:5]
    theirs = fastavro.schemaless_reader(io.BytesIO(out[5:]), ztf_schema())
    whole = fastavro.schemaless_reader(io.BytesIO(raw[5:]), ztf_schema())
    assert oracle.same(theirs, public_rows(whole))
    reduced = rewrite(raw, drop=STAMPS, public_only=True, schemas=source)
    assert oracle.same(oracle.records_of(reduced), [oracle.without(public_rows(whole), set(STAMPS))])


def test_other_surveys_lose_fields_but_have_no_public_rows_that_we_know(real_alerts):
    for path in sorted((real_alerts / "lsst_ocf").glob("*")):
        raw = path.read_bytes()
        out = rewrite(raw, drop=STAMPS)
        assert oracle.same(oracle.records_of(out), oracle.without(oracle.records_of(raw), set(STAMPS)))
    with pytest.raises(UnsupportedSchema, match="pgir"):
        rewrite((real_alerts / "other_surveys" / "pgir.avro").read_bytes(), public_only=True)


def test_what_cannot_be_done_says_why(packet):
    raw = packet(1)
    with pytest.raises(UnsupportedSchema, match="shares its type"):
        rewrite(raw, drop=("cutoutScience.fileName",))
    with pytest.raises(UnsupportedSchema, match="nothing would be left"):
        rewrite(raw, keep=("no_such_field",))
    with pytest.raises(PacketError):
        rewrite(raw[:-40], drop=STAMPS)
    with pytest.raises(NoSuchColumn, match="cutoutScience"):
        check_names(["cutoutSciense"])
    check_names([*STAMPS, "rb", "candidate.rb", "prv_candidates.jd"])
