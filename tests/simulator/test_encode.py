"""The encoder of simulated records writes what fastavro writes, byte for byte."""

import io

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.packets.encode import Nullable, RecordEncoder, joined
from simulator.packets.packet import known_versions, ztf_schema

VALUES = {
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "string": st.text(max_size=12),
}
DTYPES = {"float": np.float32, "double": np.float64, "int": np.int64, "long": np.int64}


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict, list[dict]]:
    """A record schema of plain and nullable fields, and some records of it."""
    fields = []
    for number in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(sorted(VALUES)))
        union = draw(st.sampled_from([kind, ["null", kind], [kind, "null"]]))
        fields.append({"name": f"f{number}", "type": union})
    count = draw(st.integers(1, 6))
    records = []
    for _ in range(count):
        record = {}
        for field in fields:
            union = isinstance(field["type"], list)
            kind = next(t for t in field["type"] if t != "null") if union else field["type"]
            record[field["name"]] = draw(st.one_of(st.none(), VALUES[kind]) if union else VALUES[kind])
        records.append(record)
    return {"type": "record", "name": "row", "fields": fields}, records


def columns_of(schema: dict, records: list[dict]) -> dict:
    found = {}
    for field in schema["fields"]:
        union = isinstance(field["type"], list)
        kind = next(t for t in field["type"] if t != "null") if union else field["type"]
        values = [record[field["name"]] for record in records]
        missing = np.array([v is None for v in values])
        filled = ["" if kind == "string" else 0] * len(values)
        filled = [f if v is None else v for f, v in zip(filled, values, strict=True)]
        column = filled if kind == "string" else np.array(filled, DTYPES[kind])
        found[field["name"]] = Nullable(column, missing) if union else column
    return found


@settings(deadline=None)
@given(tables())
def test_rows_are_what_fastavro_writes(table: tuple[dict, list[dict]]) -> None:
    schema, records = table
    encoder = RecordEncoder(schema)
    rows = encoder.rows(columns_of(schema, records), len(records))
    parsed = fastavro.parse_schema(schema)
    expected = []
    for record in records:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, record)
        expected.append(out.getvalue())
    assert encoder.write_each(rows) == expected
    last = len(records) - 1
    backwards, _ = encoder.write(rows, np.arange(last, -1, -1))
    assert bytes(backwards) == b"".join(reversed(expected))
    for field in encoder.names:
        at = encoder.offset(rows, last, field)
        assert 0 <= at <= len(expected[last])
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {"type": "array", "items": parsed}, records)
    assert joined(expected) == out.getvalue()


def test_a_missing_value_without_null_is_refused() -> None:
    encoder = RecordEncoder({"type": "record", "name": "r", "fields": [{"name": "jd", "type": "double"}]})
    with pytest.raises(ValueError, match="jd"):
        encoder.rows({}, 2)


def test_one_value_serves_all_rows() -> None:
    fields = [{"name": "field", "type": ["null", "int"]}, {"name": "who", "type": "string"}]
    encoder = RecordEncoder({"type": "record", "name": "r", "fields": fields})
    assert encoder.write_each(encoder.rows({"field": 505, "who": "zads"}, 3)) == [b"\x02\xf2\x07\x08zads"] * 3


@pytest.mark.parametrize("version", known_versions())
def test_a_schema_says_its_version(version: str) -> None:
    schema = ztf_schema(version)
    assert schema["version"] == version
    fastavro.parse_schema(schema)
