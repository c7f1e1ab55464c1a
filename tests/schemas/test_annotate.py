"""Packets with annotations: every Avro reader sees them, and what was there keeps its bytes."""

from __future__ import annotations

import io
import math
from functools import cache
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import expression
from filters.external.externals import stored_columns, to_frame
from schemas.avro.annotate import BadAnnotation, annotated, check_annotation
from schemas.avro.framing import frame
from schemas.avro.public import unlisted
from schemas.avro.rewrite import rewrite
from schemas.errors import UnsupportedSchema
from schemas.packets.reader import PacketReader
from simulator import simulate

UNITS = {"galex.sep": "arcsec", "kind": "text", "score": ""}
values = st.fixed_dictionaries(
    {
        "galex.sep": st.none() | st.floats(allow_nan=False),
        "kind": st.none() | st.text(max_size=20),
        "score": st.none() | st.floats(0, 1),
    }
)


@cache
def packets() -> list[bytes]:
    return [alert.packet for alert in simulate(40, seed=9)]


def read(raw: bytes) -> dict[str, Any]:
    (record,) = fastavro.reader(io.BytesIO(raw))
    assert isinstance(record, dict)
    return record


@given(st.integers(0, 39), values, values)
def test_another_reader_sees_them_and_all_that_was_there(
    number: int, first: dict[str, Any], second: dict[str, Any]
) -> None:
    raw = packets()[number]
    once = annotated(raw, "near", first, UNITS)
    twice = annotated(once, "far", second, UNITS)
    for packet, wanted in ((once, {"near": first}), (twice, {"near": first, "far": second})):
        found = read(packet)
        noted = found.pop("annotations")
        plainly = {
            channel: {name.replace(".", "_"): value for name, value in given.items()}
            for channel, given in wanted.items()
        }
        assert noted == plainly
        assert repr(found) == repr(read(raw))
    assert bytes(frame(twice).blocks[0].body).startswith(bytes(frame(raw).blocks[0].body))


@given(st.lists(st.tuples(st.integers(0, 39), values | st.none()), max_size=8))
def test_they_are_columns_like_any_other(chosen: list[tuple[int, dict[str, Any] | None]]) -> None:
    """None: a packet that nobody has annotated."""
    raw = [
        packets()[number] if given is None else annotated(packets()[number], "near", given, UNITS)
        for number, given in chosen
    ]
    f = expression("annotations.near.score > 0.5 and rb >= 0")
    frame = to_frame(PacketReader(stored_columns(f.require_reads())).read(raw).table, f.require_reads())
    slowly = [
        given is not None and given["score"] is not None and given["score"] > 0.5 for _, given in chosen
    ]
    assert f.passes(frame).tolist() == slowly
    assert frame["annotations.near.score"].dtype == float
    assert [bool(f.one(read(packet))) for packet in raw] == slowly


def test_they_are_public_and_what_only_looks_like_them_is_not() -> None:
    alert = next(alert for alert in simulate(40, seed=9, stamps=False) if alert.programid == 1)
    ours = annotated(alert.packet, "near", {"score": 0.5}, {"score": ""})
    assert unlisted(frame(ours).writer) == frozenset()
    assert read(rewrite(ours, public_only=True))["annotations"] == {"near": {"score": 0.5}}
    framed = frame(alert.packet)
    theirs = {
        **framed.writer.schema,
        "fields": [
            *framed.writer.schema["fields"],
            {
                "name": "annotations",
                "type": {
                    "type": "record",
                    "name": "Notes",
                    "fields": [{"name": "score", "type": "double"}],
                },
            },
        ],
    }
    file = io.BytesIO()
    fastavro.writer(
        file, fastavro.parse_schema(theirs), [{**read(alert.packet), "annotations": {"score": 1}}]
    )
    assert unlisted(frame(file.getvalue()).writer) == {"annotations"}
    with pytest.raises(UnsupportedSchema, match="none of zads"):
        annotated(file.getvalue(), "near", {}, {"score": ""})


def test_what_cannot_be_annotated_is_refused_in_a_sentence() -> None:
    once = annotated(packets()[0], "near", {}, {"score": ""})
    with pytest.raises(UnsupportedSchema, match="by channel near already"):
        annotated(once, "near", {}, {"score": ""})
    for channel, value in (("2mass", "sep"), ("a-b", "sep"), ("near", "sep-2")):
        with pytest.raises(BadAnnotation, match="name of an Avro field"):
            check_annotation(channel, {value: ""})
    for values_of_one_name in ({}, {"a.b": "", "a_b": ""}):
        with pytest.raises(BadAnnotation, match="no values to annotate, or two of one name"):
            check_annotation("near", values_of_one_name)
    check_annotation("near", {"galex.sep": "arcsec"})


def test_numbers_keep_their_value_and_flags_are_numbers() -> None:
    given = {"a": True, "b": 1e300, "c": -0.0}
    found = read(annotated(packets()[1], "c", given, dict.fromkeys(given, "")))["annotations"]["c"]
    assert found == {"a": 1.0, "b": 1e300, "c": 0.0}
    assert math.copysign(1, found["c"]) == -1
