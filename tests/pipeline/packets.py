"""Small ZTF packets made with fastavro: valid by the survey's schema, no stamps, every value chosen here."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastavro

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "schemas" / "surveys" / "ztf" / "4.01.avsc"
JD = 2460229.9338542  # 2023-10-12 10:24:45 UTC
NIGHTLY = "ztf_20231012_programid1"


@lru_cache
def schema() -> Any:
    return fastavro.parse_schema(json.loads(SCHEMA_FILE.read_text()))


def alert(candid: int, **candidate: Any) -> dict[str, Any]:
    """An alert whose `candidate` fields are zero, empty or null unless they are given."""
    kinds = {f["name"]: f["type"] for f in schema()["fields"]}
    values: dict[str, Any] = {f["name"]: _nothing(f["type"]) for f in kinds["candidate"]["fields"]}
    values |= {
        "candid": candid,
        "jd": JD,
        "pid": candid // 1_000_000,
        "programid": 1,
        "fid": 1,
        "isdiffpos": "t",
    }
    values |= {"magpsf": 18.5, "rb": 0.75}
    record = {name: _nothing(kind) for name, kind in kinds.items()}
    return record | {"objectId": f"ZTF{candid % 7:09d}", "candid": candid, "candidate": values | candidate}


def without_programid(candid: int) -> bytes:
    """A packet of a broker that made each field nullable and lost the programid."""
    loose = json.loads(SCHEMA_FILE.read_text())
    candidate = next(f["type"] for f in loose["fields"] if f["name"] == "candidate")
    next(f for f in candidate["fields"] if f["name"] == "programid")["type"] = ["null", "int"]
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(loose), [alert(candid, programid=None)])
    return file.getvalue()


def nameless(number: int, **missing: None) -> bytes:
    """A packet of a broker that made each field nullable and lost the alert's name."""
    loose = json.loads(SCHEMA_FILE.read_text())
    for field in loose["fields"]:
        if field["name"] in missing:
            field["type"] = ["null", field["type"]]
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(loose), [alert(number) | missing])
    return file.getvalue()


def _nothing(kind: Any) -> Any:
    if not isinstance(kind, str):
        return None
    return {"string": "", "float": 0.0, "double": 0.0, "int": 0, "long": 0}.get(kind)


def container(records: Iterable[dict[str, Any]], codec: str = "null", **options: Any) -> bytes:
    """An Avro container file of these records."""
    file = io.BytesIO()
    fastavro.writer(file, schema(), records, codec=codec, **options)
    return file.getvalue()


def packet(candid: int, **candidate: Any) -> bytes:
    """A packet as the survey sends it: a container file of one alert."""
    return container([alert(candid, **candidate)])


def read(raw: bytes) -> list[dict[str, Any]]:
    """A packet's records by fastavro, which is the oracle here."""
    return [record for record in fastavro.reader(io.BytesIO(raw)) if isinstance(record, dict)]
