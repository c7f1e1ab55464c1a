"""What a public channel passes on: nothing unlisted, whatever a packet holds; by fastavro alone.

The list here is written down again: a change of the survey's room must not change what is tested.
"""

import copy
import io
import json
import random
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avro.public import DropsProgramid, refuse_dropping_programid
from schemas.avro.rewrite import rewrite
from schemas.errors import UnsupportedSchema
from schemas.packets.reader import PacketReader
from tests.schemas import oracle
from tests.schemas.conftest import bare, container, ztf_records, ztf_schema

HISTORIES = ("prv_candidates", "fp_hists")
STAMPS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
LISTED = {"candidate", *HISTORIES, *STAMPS, *(f"{stamp}.stampData" for stamp in STAMPS)}

programid = {"name": "programid", "type": "int"}
KINDS: dict[str, Any] = {
    "rows": {
        "type": "array",
        "items": {"type": "record", "fields": [programid, {"name": "x", "type": "float"}]},
    },
    "rows without programid": {
        "type": "array",
        "items": {"type": "record", "fields": [{"name": "x", "type": "float"}]},
    },
    "numbers": {"type": "array", "items": "double"},
    "arrays": {"type": "array", "items": {"type": "array", "items": "long"}},
    "record": {
        "type": "record",
        "fields": [programid, {"name": "inner", "type": {"type": "array", "items": "int"}}],
    },
    "map": {"type": "map", "values": "string"},
    "map of arrays": {"type": "map", "values": {"type": "array", "items": "int"}},
    "bytes": "bytes",
    "fixed": {"type": "fixed", "size": 4},
    "either": ["null", "string", {"type": "array", "items": "int"}],
    "number": ["null", "float"],
    "word": "string",
}
COMPLEX = {"record", "array", "map", "bytes", "fixed"}
WHERE = ("", "candidate", "prv_candidates", "fp_hists", "cutoutScience")


def named(kind: Any, number: int, nullable: bool) -> Any:
    """The type with names of its own."""
    kind = copy.deepcopy(kind)
    if isinstance(kind, dict):
        for tree in (kind, kind.get("items")):
            if isinstance(tree, dict) and tree["type"] in ("record", "fixed"):
                tree["name"] = f"added{number}"
    return ["null", kind] if nullable and not isinstance(kind, list) else kind


def fields_at(schema: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The fields of the record at a top-level field, through arrays and unions."""
    if not where:
        return schema["fields"]
    tree = next(field["type"] for field in schema["fields"] if field["name"] == where)
    while not (isinstance(tree, dict) and tree["type"] == "record"):
        tree = (
            next(branch for branch in tree if branch != "null") if isinstance(tree, list) else tree["items"]
        )
    return tree["fields"]


def public_copy(value: Any, tree: Any, path: str, types: dict[str, Any]) -> Any:
    """What may be public of a value, from the rule's words: listed or single, and rows of programid 1."""
    tree = types.get(tree, tree) if isinstance(tree, str) else tree
    if isinstance(tree, list):
        if value is None:
            return None
        (tree,) = [branch for branch in tree if branch != "null"]
        return public_copy(value, tree, path, types)
    if isinstance(value, list):
        rows = [row for row in value if row.get("programid") == 1]
        return [public_copy(row, tree["items"], path, types) for row in rows]
    if not isinstance(value, dict):
        return value
    copied = {}
    for field in tree["fields"]:
        where = f"{path}.{field['name']}" if path else field["name"]
        if where in LISTED or not is_complex(field["type"], types):
            copied[field["name"]] = public_copy(value[field["name"]], field["type"], where, types)
    return copied


def is_complex(tree: Any, types: dict[str, Any]) -> bool:
    if isinstance(tree, list):
        return any(is_complex(branch, types) for branch in tree)
    tree = types.get(tree, tree) if isinstance(tree, str) else tree
    return (tree["type"] if isinstance(tree, dict) else tree) in COMPLEX


added = st.tuples(st.sampled_from(WHERE), st.sampled_from(sorted(KINDS)), st.booleans(), st.integers(0, 100))


@settings(max_examples=150)
@given(seed=st.integers(0, 10**6), additions=st.lists(added, min_size=1, max_size=4), again=st.booleans())
def test_nothing_that_is_not_listed_leaves(
    seed: int, additions: list[tuple[str, str, bool, int]], again: bool
) -> None:
    """Fields of any kind, at any place of the packet, and a named type of the survey's used once more."""
    schema, rng = ztf_schema(), random.Random(seed)
    for number, (where, kind, nullable, at) in enumerate(additions):
        fields = fields_at(schema, where)
        fields.insert(
            at % (len(fields) + 1), {"name": f"added{number}", "type": named(KINDS[kind], number, nullable)}
        )
    if again:
        schema["fields"].append({"name": "last_candidate", "type": ["null", "ztf.alert.candidate"]})
    records = [oracle.random_record(schema, rng) for _ in range(rng.randint(1, 3))]
    for record in records:
        record["candidate"]["programid"] = 1
        for history in HISTORIES:
            for row in record[history] or ():
                row["programid"] = rng.choice([1, 1, 2, 3, 0])
    raw = container(schema, records)
    refusable = {w for w, kind, _, _ in additions if is_complex(KINDS[kind], {})} & (
        {"cutoutScience"} | ({"candidate"} if again else set())
    )
    try:
        out = rewrite(raw, public_only=True)
    except UnsupportedSchema:
        assert refusable, "what can be taken out is no reason to refuse the packet"
        return
    types = oracle.named_types(schema)
    expected = [public_copy(record, schema, "", types) for record in oracle.records_of(raw)]
    assert oracle.same(oracle.records_of(out), expected)
    fastavro.parse_schema(json.loads(json.dumps(oracle.written_with(out))), _force=True, named_schemas={})
    assert rewrite(out, public_only=True) == out


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fp_hists2", KINDS["rows"]),
        ("last_candidate", KINDS["record"]),
        ("sources", KINDS["rows without programid"]),
    ],
)
def test_a_new_field_is_cut_out_and_named(name: str, kind: Any) -> None:
    schema = ztf_schema()
    schema["fields"].append({"name": name, "type": named(kind, 1, False)})
    records = [oracle.random_record(schema, random.Random(3)) for _ in range(2)]
    for record in records:
        record["candidate"]["programid"] = 1
    raw = container(schema, records)
    assert all(name not in record for record in oracle.records_of(rewrite(raw, public_only=True)))
    clean = container(ztf_schema(), ztf_records(1, programid=1))
    assert PacketReader(["jd"]).read([clean, raw]).unlisted == {1: frozenset({name})}


def test_a_listed_field_of_another_shape_is_not_looked_into() -> None:
    """A history that has become a map, stamps that hold arrays: their rows cannot be told public."""
    schema = ztf_schema()
    for field in schema["fields"]:
        if field["name"] == "fp_hists":
            field["type"] = {"type": "map", "values": "int"}
            del field["default"]
    record = oracle.random_record(schema, random.Random(4))
    record["candidate"]["programid"] = 1
    (out,) = oracle.records_of(rewrite(container(schema, [record]), public_only=True))
    assert "fp_hists" not in out
    assert "prv_candidates" in out


def test_two_fields_of_one_name_are_refused() -> None:
    """Which of them the schema would lose cannot be told; WINTER's packets have such records."""
    twice = [{"name": "extra", "type": {"type": "array", "items": "int"}}, {"name": "extra", "type": "int"}]
    schema = ztf_schema()
    body = bare(schema, ztf_records(5, programid=1)[0]) + b"\0\2"
    schema["fields"] += twice
    out = io.BytesIO()
    meta = {"avro.schema": json.dumps(schema).encode(), "avro.codec": b"null"}
    head = {"magic": b"Obj\x01", "meta": meta, "sync": b"sixteen bytes ok"}
    fastavro.schemaless_writer(out, oracle.HEADER, head)
    for number in (1, len(body)):
        fastavro.schemaless_writer(out, "long", number)
    raw = out.getvalue() + body + b"sixteen bytes ok"
    assert oracle.records_of(raw)[0]["extra_2"] == 1
    with pytest.raises(UnsupportedSchema, match="cannot be distinguished"):
        rewrite(raw, public_only=True)


@pytest.mark.parametrize("drop", ["programid", "candidate", "candidate.programid", "fp_hists.programid"])
def test_a_public_channel_cannot_drop_what_the_rule_needs(drop: str) -> None:
    with pytest.raises(DropsProgramid):
        refuse_dropping_programid(["cutoutScience", drop])


def test_a_public_channel_can_drop_whole_histories() -> None:
    refuse_dropping_programid(["fp_hists", "fp_hists.programid", "prv_candidates", "rb"])
