"""Packets written by fastavro from the survey's own schemas."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

import schemas
from tests.schemas.oracle import random_record

ZTF = Path(schemas.__file__).parent / "surveys" / "ztf"


def ztf_schema(version: str = "4.01") -> dict[str, Any]:
    return json.loads((ZTF / f"{version}.avsc").read_text())


def ztf_records(
    seed: int, count: int = 1, version: str = "4.01", rows: int = 4, **candidate: Any
) -> list[dict]:
    """Random records; candid and candidate.candid agree, as they do in the survey."""
    rng = random.Random(seed)
    schema = ztf_schema(version)
    records = [random_record(schema, rng, rows) for _ in range(count)]
    for record in records:
        record["candidate"] |= {"candid": record["candid"], **candidate}
    return records


def container(
    schema: dict[str, Any], records: list[dict], codec: str = "null", block: int = 1 << 20
) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, schema, records, codec=codec, sync_interval=block, sync_marker=b"sixteen bytes ok")
    return out.getvalue()


def bare(schema: dict[str, Any], record: dict) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


@pytest.fixture(scope="session")
def packet() -> Callable[..., bytes]:
    """Makes the container file of one random ZTF alert: packet(seed, version=, codec=, ...)."""

    def make(seed: int, version: str = "4.01", codec: str = "null", **options: Any) -> bytes:
        return container(ztf_schema(version), ztf_records(seed, version=version, **options), codec)

    return make
