"""The decoder against fastavro, value by value."""

import io
import json
import pickle
import random
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avro.framing import FolderSource
from schemas.errors import NoSuchColumn, PacketError, UnsupportedSchema
from schemas.packets.reader import PacketReader, decode_all
from schemas.surveys.registry import SURVEYS
from tests.schemas import oracle
from tests.schemas.conftest import bare, container, ztf_records, ztf_schema

ZTF = SURVEYS["ztf"]
STAMPS = [f"{stamp}.{field}" for stamp in ZTF.stamps.fields.values() for field in ("fileName", "stampData")]
COLUMNS = [*ZTF.stored_names(), *STAMPS]


def expected(record: dict, name: str):
    """What a column must hold for a record, from fastavro's dictionary alone."""
    if name == "candid":
        return record["candid"] if "candid" in record else record["candidate"]["candid"]
    value = oracle.value_at(record, ZTF.path(name))
    top = name.partition(".")[0]
    if value is None and top in ZTF.histories and record.get(top) is not None:
        return [None] * len(record[top])
    return value


def check(batch, records_of_packets: dict[int, list[dict]], columns=COLUMNS):
    """Every value of every row, and which packet it came from."""
    rows = [(index, record) for index, records in sorted(records_of_packets.items()) for record in records]
    assert batch.packet.tolist() == [index for index, _ in rows]
    assert batch.packet.dtype == np.int64
    assert batch.table.schema.names == list(columns)
    for name in columns:
        assert batch.table.schema.field(name).type == ZTF.arrow_type(name)
        for ours, (index, record) in zip(batch.table.column(name).to_pylist(), rows, strict=True):
            assert oracle.same(ours, expected(record, name)), (name, index, ours, expected(record, name))


def real_packets(folder: Path) -> list[Path]:
    confluent, malformed = folder / "lsst_confluent", folder / "malformed"
    return [p for p in sorted(folder.glob("*/*.avro")) if p.parent not in (confluent, malformed)]


def test_every_value_of_every_real_packet(real_alerts):
    paths = real_packets(real_alerts)
    assert len(paths) >= 211
    for path in paths:
        raw = path.read_bytes()
        assert oracle.same(decode_all(raw).to_pylist(), oracle.records_of(raw)), path


def test_real_packets_in_one_batch(real_alerts):
    paths = sorted(real_alerts.glob("*/*.avro"))
    random.Random(1).shuffle(paths)
    batch = PacketReader(COLUMNS).read([path.read_bytes() for path in paths])
    ours = {
        i: oracle.records_of(p.read_bytes()) for i, p in enumerate(paths) if p.parent.name.startswith("ztf")
    }
    check(batch, ours)
    rubin = {i for i, p in enumerate(paths) if p.parent.name in ("lsst_ocf", "lsst_9.0", "lsst_confluent")}
    others = {i for i, p in enumerate(paths) if p.parent.name == "other_surveys"}
    assert batch.other == {"lsst": len(rubin), "pgir": 1, "winter": 1, "turbo": 1}
    assert list(batch.other_packets) == sorted(rubin | others)
    reasons = {paths[r.index].parent.name: r.error.reason for r in batch.refused}
    assert reasons == {"malformed": "truncated"}
    unreadable = [p for p in paths if p.parent.name == "malformed"]
    assert len(batch.refused) == len(unreadable)


def test_projection_is_part_of_the_whole(real_alerts):
    raws = [path.read_bytes() for path in sorted(real_alerts.glob("ztf_*/*.avro"))[::5]]
    whole = PacketReader(COLUMNS).read(raws).table
    rng = random.Random(2)
    for _ in range(10):
        some = rng.sample(COLUMNS, rng.randint(1, 40))
        table = PacketReader(some).read(raws).table
        for name in some:
            assert oracle.same(table.column(name).to_pylist(), whole.column(name).to_pylist()), name


@settings(max_examples=25, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    version=st.sampled_from(["3.3", "4.01"]),
    codec=st.sampled_from(["null", "deflate", "snappy"]),
    count=st.integers(1, 4),
    block=st.sampled_from([1, 5000, 1 << 20]),
)
def test_containers_of_every_codec(seeds, version, codec, count, block):
    packets = {i: ztf_records(seed, count, version) for i, seed in enumerate(seeds)}
    raws = [container(ztf_schema(version), records, codec, block) for records in packets.values()]
    check(PacketReader(COLUMNS).read(raws), {i: oracle.records_of(raw) for i, raw in enumerate(raws)})


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), version=st.sampled_from(["3.3", "4.01"]))
def test_confluent_and_bare(seed, version, tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemas")
    (folder / "401.avsc").write_text(json.dumps(ztf_schema(version)))
    (record,) = ztf_records(seed, version=version)
    body = bare(ztf_schema(version), record)
    theirs = [fastavro.schemaless_reader(io.BytesIO(body), ztf_schema(version))]
    framed = b"\0" + (401).to_bytes(4, "big") + body
    check(PacketReader(COLUMNS, schemas=FolderSource(folder)).read([framed, framed]), {0: theirs, 1: theirs})
    check(PacketReader(COLUMNS, bare=ztf_schema(version)).read([body]), {0: theirs})


def test_versions_mixed_in_one_batch(packet):
    raws = [
        packet(seed, version=("3.3", "4.01")[seed % 2], codec=("null", "deflate", "snappy")[seed % 3])
        for seed in range(12)
    ]
    check(PacketReader(COLUMNS).read(raws), {i: oracle.records_of(raw) for i, raw in enumerate(raws)})


def test_no_packets():
    batch = PacketReader(["jd", "prv_candidates.jd", "prv_candidates"]).read([])
    assert batch.table.num_rows == 0
    assert len(batch.packet) == 0
    assert batch.table.schema.field("prv_candidates.jd").type == pa.large_list(pa.float64())


def test_whole_records_and_the_same_column_twice(packet):
    raws = [packet(seed, version=("3.3", "4.01")[seed % 2]) for seed in range(6)]
    columns = ["candidate", "*", "prv_candidates", "jd", "fp_hists.jd", "cutoutTemplate", "fp_hists"]
    table = PacketReader(columns).read(raws).table
    for row, raw in zip(table.to_pylist(), raws, strict=True):
        (record,) = oracle.records_of(raw)
        for name in ("candidate", "prv_candidates", "fp_hists", "cutoutTemplate"):
            theirs = filled(record.get(name), table.schema.field(name).type)
            assert oracle.same(row[name], theirs), name
            assert oracle.same(row["*"][name], theirs), name
        assert oracle.same(row["jd"], record["candidate"]["jd"])


def filled(value, kind):
    """A value with None for the fields that the newest version has and this one has not."""
    if value is None:
        return None
    if pa.types.is_large_list(kind):
        return [filled(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {f.name: filled(value.get(f.name), f.type) for f in kind}
    return value


def test_columns_of_one_history_have_the_same_offsets(packet):
    raws = [packet(seed, version=("3.3", "4.01")[seed % 2], rows=9) for seed in range(20)]
    names = [n for n in ZTF.stored_names() if n.startswith("prv_candidates.")]
    table = PacketReader(names).read(raws).table
    first = table.column(names[0])
    for name in names[1:]:
        assert table.column(name).offsets.equals(first.offsets)
        assert table.column(name).is_null().equals(first.is_null())


def test_a_refused_packet_leaves_its_neighbours_alone(packet):
    good = [packet(seed, rows=6) for seed in range(4)]
    bad = bytearray(packet(9, rows=6))
    bad[-400] ^= 0xFF  # within the body, may be anything
    cut, empty, noise = good[0][:-100], b"", b"\xffnoise"
    alone = PacketReader(COLUMNS).read(good).table.to_pylist()
    for place in range(5):
        raws = [*good[:place], cut, empty, noise, *good[place:]]
        batch = PacketReader(COLUMNS).read(raws)
        assert oracle.same(batch.table.to_pylist(), alone)
        assert [(r.index - place, r.error.reason) for r in batch.refused] == [
            (0, "truncated"),
            (1, "not-avro"),
            (2, "not-avro"),
        ]


def test_one_corrupt_record_refuses_its_whole_packet(packet):
    """Several records in several blocks; the second is corrupt: none of the packet's rows are delivered."""
    records = ztf_records(5, 3)
    records[1]["schemavsn"] = "find me"
    for block in (1, 1 << 20):
        raw = container(ztf_schema(), records, "null", block).replace(b"\x0efind me", b"\x0efind \xff\xff")
        neighbour = packet(6)
        batch = PacketReader(COLUMNS).read([neighbour, raw, neighbour])
        assert [(r.index, r.error.reason) for r in batch.refused] == [(1, "corrupt-value")]
        assert "schemavsn" in str(batch.refused[0].error)
        check(batch, {i: oracle.records_of(neighbour) for i in (0, 2)})


def test_a_reader_can_be_pickled(packet):
    reader = PacketReader(["candid", "jd"])
    again = pickle.loads(pickle.dumps(reader))
    assert again.read([packet(1)]).table.equals(reader.read([packet(1)]).table)


def test_unknown_columns_name_the_near_ones():
    with pytest.raises(NoSuchColumn, match="did you mean 'magpsf'"):
        PacketReader(["magpfs"])
    with pytest.raises(NoSuchColumn, match=r"prv_candidates\.magpsf"):
        PacketReader(["prv_candidates.magpfs"])
    with pytest.raises(NoSuchColumn, match="no survey 'zft'"):
        PacketReader(["jd"], survey="zft")


def changed(schema: dict, name: str, kind) -> dict:
    """The ZTF schema with another type for a field of the candidate."""
    schema = json.loads(json.dumps(schema))
    candidate = next(f for f in schema["fields"] if f["name"] == "candidate")["type"]
    field = next(f for f in candidate["fields"] if f["name"] == name)
    field.pop("default", None)
    field["type"] = kind
    return schema


@pytest.mark.parametrize("kind", ["string", ["null", "boolean"], {"type": "array", "items": "int"}])
def test_a_type_that_contradicts_the_survey_is_refused(kind, packet):
    schema = changed(ztf_schema(), "fid", kind)
    raw = container(schema, [oracle.random_record(schema, random.Random(1), 2)])
    batch = PacketReader(["fid", "jd"]).read([raw, packet(2)])
    assert [(r.index, type(r.error)) for r in batch.refused] == [(0, UnsupportedSchema)]
    assert "fid" in str(batch.refused[0].error)
    assert batch.packet.tolist() == [1]
    assert PacketReader(["jd"]).read([raw]).table.num_rows == 1  # nobody asked for it: no harm


@pytest.mark.parametrize(
    ("name", "kind", "value", "ours"),
    [
        ("jd", "float", 1.5, 1.5),
        ("jd", ["int", "null"], 7, 7.0),
        ("pid", "int", 7, 7),
        ("rb", "double", 0.5, 0.5),
        ("rb", ["null"], None, None),
        ("rb", ["float"], 0.25, 0.25),
        ("rb", ["float", "null", "double"], 0.25, 0.25),
        ("rbversion", {"type": "enum", "name": "v", "symbols": ["a", "b"]}, "b", "b"),
    ],
)
def test_types_that_another_writer_chose(name, kind, value, ours, packet):
    """Promotion as Avro has it; what only fastavro can make (unions of many, enums) comes out the same."""
    schema = changed(ztf_schema(), name, kind)
    record = oracle.random_record(schema, random.Random(3), 2)
    record["candidate"][name] = value
    raw = container(schema, [record])
    table = PacketReader([name, "objectId", "prv_candidates.jd"]).read([packet(1), raw, packet(2)]).table
    assert table.schema.field(name).type == ZTF.arrow_type(name)
    row = table.slice(1, 1).to_pylist()[0]
    assert row[name] == ours
    assert row["objectId"] == record["objectId"]


NAMES = st.sampled_from("abcdefgh")


def schemas_and_values():
    """Any schema that a survey may think of, with its values."""
    leaves = st.sampled_from(["boolean", "int", "long", "float", "double", "string", "bytes"])
    fixed = st.just({"type": "fixed", "name": "F", "size": 5})
    enum = st.just({"type": "enum", "name": "E", "symbols": ["x", "y"]})

    def deeper(inner):
        nullable = inner.filter(lambda t: not isinstance(t, list)).flatmap(
            lambda t: st.sampled_from([[t], ["null", t], [t, "null"]])
        )
        array = inner.map(lambda t: {"type": "array", "items": t})
        record = st.dictionaries(NAMES, inner, min_size=1, max_size=4).map(
            lambda d: {
                "type": "record",
                "name": "R",
                "fields": [{"name": k, "type": t} for k, t in d.items()],
            }
        )
        return nullable | array | record

    kinds = st.recursive(leaves | fixed | enum, deeper, max_leaves=12)
    return st.dictionaries(NAMES, kinds, min_size=1, max_size=5).map(
        lambda d: {"type": "record", "name": "top", "fields": [{"name": k, "type": t} for k, t in d.items()]}
    )


def uniquely_named(schema, count):
    """The schema with every named type called otherwise."""
    if isinstance(schema, list):
        return [uniquely_named(branch, count) for branch in schema]
    if isinstance(schema, str):
        return schema
    out = dict(schema)
    if "name" in out:
        count.append(1)
        out["name"] = f"{schema['name']}{len(count)}"
    if "fields" in out:
        out["fields"] = [{**f, "type": uniquely_named(f["type"], count)} for f in schema["fields"]]
    if "items" in out:
        out["items"] = uniquely_named(schema["items"], count)
    return out


@settings(max_examples=200, deadline=None)
@given(schema=schemas_and_values(), seed=st.integers(0, 10**6), codec=st.sampled_from(["null", "deflate"]))
def test_any_schema(schema, seed, codec):
    schema = uniquely_named(schema, [])
    rng = random.Random(seed)
    records = [oracle.random_record(schema, rng) for _ in range(rng.randint(1, 5))]
    raw = container(schema, records, codec, rng.choice([1, 1 << 20]))
    assert oracle.same(decode_all(raw).to_pylist(), oracle.records_of(raw))


def test_decode_all_says_why(real_alerts):
    for path in sorted((real_alerts / "malformed").glob("*")):
        with pytest.raises(PacketError, match="bytes"):
            decode_all(path.read_bytes())
