"""Writers that chose other types than the survey: what fits is read, as fastavro reads it; what does not
refuses its packet, and that one alone."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avro.rewrite import rewrite
from schemas.errors import CorruptValue
from schemas.packets.packet import read_packet
from schemas.packets.reader import PacketReader, decode_all
from schemas.surveys.registry import SURVEYS
from tests.schemas import oracle
from tests.schemas.conftest import container, ztf_records, ztf_schema

ZTF = SURVEYS["ztf"]
RECORDS = ("", "candidate", "prv_candidates", "fp_hists")
MOST = float(np.finfo(np.float32).max)
VALUES = {
    "int": [0, 1, -999, 2**31 - 1, -(2**31)],
    "long": [0, -999, 2**31 - 1, -(2**31), 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1],
    "float": [0.0, 0.5, -999.0, math.inf, math.nan],
    "double": [0.0, 0.1, -999.0, 2460000.5, MOST, -MOST, 1e39, -1e300, math.inf, -math.inf, math.nan],
    "string": ["", "t", "null", "星"],
    "bytes": [b"", b"t", "星".encode(), b"\xff\xfe"],
}
OTHERS = {
    "int": ["int", "long"],
    "long": ["long", "int"],
    "float": ["float", "double", "int", "long"],
    "double": ["double", "float", "int", "long"],
    "string": ["string", "bytes"],
}
WRAPPINGS = [
    lambda kind: kind,
    lambda kind: [kind],
    lambda kind: ["null", kind],
    lambda kind: [kind, "null"],
    lambda kind: ["null", kind, {"type": "array", "items": "long"}],
    lambda kind: [kind, "null", "boolean"],
]


def fields_of(schema: dict[str, Any], record: str) -> list[dict[str, Any]]:
    """The fields of the packet itself, of the candidate, or of a history's rows."""
    if not record:
        return schema["fields"]
    kind = next(f for f in schema["fields"] if f["name"] == record)["type"]
    kind = next(k for k in kind if k != "null") if isinstance(kind, list) else kind
    return (kind["items"] if kind["type"] == "array" else kind)["fields"]


def plain(kind: Any) -> str | None:
    """The primitive type of a field, if it has one."""
    kinds = [k for k in kind if k != "null"] if isinstance(kind, list) else [kind]
    return kinds[0] if len(kinds) == 1 and isinstance(kinds[0], str) else None


@st.composite
def variants(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, bool]]:
    """A ZTF schema with other types for some fields, a record, and column -> whether all its values fit."""
    schema = json.loads(json.dumps(ztf_schema()))
    record = ztf_records(draw(st.integers(0, 10**6)), 1, rows=3)[0]
    fit: dict[str, bool] = {}
    for where in RECORDS:
        fields = fields_of(schema, where)
        chosen = draw(st.lists(st.sampled_from([f["name"] for f in fields]), max_size=4, unique=True))
        rows = [record] if not where else [record[where]] if where == "candidate" else record[where] or []
        for field in [f for f in fields if f["name"] in chosen and f["name"] != "candid"]:
            own = plain(field["type"])
            if own not in OTHERS:
                continue
            name = f"{where}.{field['name']}" if where.endswith("s") else field["name"]
            if name not in ZTF.names():
                continue
            fit[name] = change(draw, field, own, rows)
        if draw(st.booleans()):
            fields.append({"name": "news", "type": draw(st.sampled_from(["null", empty(where), "string"]))})
            for row in rows:
                row["news"] = {"null": None, "string": "x"}.get(str(fields[-1]["type"]), {})
    return schema, record, fit


def empty(name: str) -> dict[str, Any]:
    return {"type": "record", "name": f"Empty_{name}", "fields": []}


def change(draw: st.DrawFn, field: dict[str, Any], own: str, rows: list[dict[str, Any]]) -> bool:
    """Give a field another type and its rows values of it; whether all of them fit the field's own."""
    field.pop("default", None)
    if draw(st.integers(0, 5)) == 0:
        field["type"] = draw(st.sampled_from(["null", ["null"]]))
        for row in rows:
            row[field["name"]] = None
        return True
    kind = draw(st.sampled_from(OTHERS[own]))
    field["type"] = draw(st.sampled_from(WRAPPINGS))(kind)
    fits = []
    for row in rows:
        none = isinstance(field["type"], list) and "null" in field["type"] and draw(st.booleans())
        value = None if none else draw(st.sampled_from(VALUES[kind]))
        row[field["name"]] = value
        fits.append(value is None or has_place(value, own))
    return all(fits)


def has_place(value: Any, kind: str) -> bool:
    if kind == "int":
        return -(2**31) <= value < 2**31
    if kind == "float":
        return isinstance(value, int) or not math.isfinite(value) or abs(value) <= MOST
    if kind == "string" and isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    return True


def as_own(value: Any, kind: pa.DataType) -> Any:
    """What fastavro gives, in the column's type."""
    if isinstance(value, list):
        return [as_own(item, kind.value_type) for item in value]
    if value is None:
        return None
    if pa.types.is_floating(kind):
        return float(np.float32(value)) if kind == pa.float32() else float(value)
    return value.decode() if isinstance(value, bytes) and pa.types.is_string(kind) else value


@settings(max_examples=120, deadline=None)
@given(variant=variants(), codec=st.sampled_from(["null", "deflate"]))
def test_what_fits_is_read_and_what_does_not_refuses_its_packet_alone(
    variant: tuple[dict[str, Any], dict[str, Any], dict[str, bool]], codec: str
) -> None:
    schema, record, fit = variant
    raw = container(schema, [record], codec)
    [told] = oracle.records_of(raw)
    neighbour = container(ztf_schema(), ztf_records(3))
    columns = sorted({*fit, "candid", "objectId", "jd", "prv_candidates.jd", "fp_hists.jd"})
    batch = PacketReader(columns).read([neighbour, raw, neighbour])
    if all(fit.values()):
        assert batch.refused == [], str(batch.refused[0].error)
        row = batch.table.slice(1, 1).to_pylist()[0]
        for name in columns:
            kind, theirs = ZTF.arrow_type(name), oracle.value_at(told, ZTF.path(name))
            if theirs is None and name.partition(".")[0] in ZTF.histories:
                continue  # a history that is null
            assert oracle.same(row[name], as_own(theirs, kind)), name
    else:
        assert [(r.index, type(r.error)) for r in batch.refused] == [(1, CorruptValue)]
        assert any(name in str(batch.refused[0].error) for name, good in fit.items() if not good)
        assert batch.packet.tolist() == [0, 2]
    alone = PacketReader(columns).read([neighbour]).table.to_pylist()[0]
    rows = batch.table.to_pylist()
    assert oracle.same(rows[0], alone)
    assert oracle.same(rows[-1], alone)


def test_many_packets_of_which_some_do_not_fit() -> None:
    """Each is refused by itself, whatever its neighbours of the same schema hold."""
    schema = json.loads(json.dumps(ztf_schema()))
    for where in ("candidate", "prv_candidates"):
        next(f for f in fields_of(schema, where) if f["name"] == "fid")["type"] = "long"
    rng, packets, bad = random.Random(1), [], []
    for number in range(200):
        [record] = ztf_records(number)
        wide = rng.choice([None, "candidate", "prv_candidates"]) if record["prv_candidates"] else None
        if wide == "candidate":
            record["candidate"]["fid"] = 2**40
        elif wide:
            rng.choice(record["prv_candidates"])["fid"] = -(2**40)
        bad += [number] if wide else []
        packets.append(container(schema, [record]))
    batch = PacketReader(["fid", "prv_candidates.fid", "candid"]).read(packets)
    assert [r.index for r in batch.refused] == bad
    assert 50 < len(bad) < 150
    assert batch.packet.tolist() == [n for n in range(200) if n not in bad]
    assert PacketReader(["candid"]).read(packets).refused == [], "nobody asked for it: no harm"


@pytest.mark.parametrize("kind", ["null", {"type": "record", "name": "Nothing", "fields": []}])
def test_an_array_of_nothing_is_refused(kind: Any) -> None:
    """A few bytes would stand for any number of items."""
    schema = ztf_schema()
    schema["fields"].append({"name": "news", "type": {"type": "array", "items": kind}})
    [record] = ztf_records(1)
    raw = container(schema, [record | {"news": []}])
    batch = PacketReader(["candid"]).read([raw])
    assert [r.error.reason for r in batch.refused] == ["unsupported-schema"]


def test_every_real_packet_has_its_programid(real_alerts: Path) -> None:
    paths = [path for folder in sorted(real_alerts.glob("ztf_*")) for path in sorted(folder.iterdir())]
    columns = [name for name in ZTF.stored_names() if not name.startswith("fp_hists")]
    batch = PacketReader(columns).read([path.read_bytes() for path in paths])
    assert batch.refused == []
    told = [read_packet(path)[0]["candidate"]["programid"] for path in paths]
    assert batch.table["programid"].to_pylist() == told
    kinds = {str(plain_kind(path)) for path in paths}
    assert len(kinds) > 1, "no packet of another type: nothing is proved"


def plain_kind(path: Path) -> Any:
    with path.open("rb") as file:
        schema = fastavro.reader(file).writer_schema
    return next(f for f in fields_of(schema, "candidate") if f["name"] == "programid")["type"]


@pytest.mark.parametrize("kind", ["null", "record"])
def test_fields_without_bytes_are_kept_and_cut_like_others(kind: str) -> None:
    """What a public channel passes on and what `drop` leaves out."""
    schema = json.loads(json.dumps(ztf_schema()))
    for where in RECORDS:
        fields_of(schema, where).insert(1, {"name": "news", "type": kind if kind == "null" else empty(where)})
    [record] = ztf_records(7, rows=3, programid=1)
    value = None if kind == "null" else {}
    for row in [record, record["candidate"], *(record["prv_candidates"] or []), *(record["fp_hists"] or [])]:
        row["news"] = value
    raw = container(schema, [record])
    [told] = oracle.records_of(raw)
    assert read_packet(raw) == [told] or oracle.same(read_packet(raw), [told])
    for drop in (["cutoutScience"], ["news"], ["candidate.news", "prv_candidates.news"]):
        assert oracle.same(oracle.records_of(rewrite(raw, drop=drop)), [oracle.without(told, set(drop))])
    assert oracle.same(decode_all(raw).to_pylist(), [told])
