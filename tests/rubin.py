"""Rubin packets of every version for tests, by fastavro from the survey's schemas, and a schema registry."""

from __future__ import annotations

import http.server
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import fastavro

from schemas.surveys.lsst.versions import schema_id, schema_of, versions

VERSIONS = versions()
NOW = 60924.33
"""MJD, TAI: 2025-09-06, 7:55 UTC, in the night of 2025-09-05."""


@cache
def parsed(version: str) -> Any:
    return fastavro.parse_schema(json.loads(json.dumps(schema_of(version))))


def blank(kind: Any, named: dict[str, Any] | None = None) -> Any:
    """The emptiest value of an Avro type: null where it may be, else zeros."""
    named = {} if named is None else named
    if isinstance(kind, list):
        return None if "null" in kind else blank(kind[0], named)
    if isinstance(kind, str):
        zeros = {
            "boolean": False,
            "int": 0,
            "long": 0,
            "float": 0.0,
            "double": 0.0,
            "string": "",
            "bytes": b"",
        }
        return zeros[kind] if kind in zeros else blank(named[kind], named)
    if kind["type"] == "record":
        named[kind.get("namespace", "") + "." + kind["name"]] = kind
        return {f["name"]: blank(f["type"], named) for f in kind["fields"]}
    return [] if kind["type"] == "array" else blank(kind["type"], named)


@cache
def _records(version: str) -> dict[str, Any]:
    """Top-level field -> the record that it holds, plainly, in an array or unless null."""
    named: dict[str, Any] = {}

    def find(kind: Any) -> Any:
        if isinstance(kind, list):
            return next((found for branch in kind if (found := find(branch)) is not None), None)
        if isinstance(kind, str):
            return named.get(kind)
        if kind["type"] == "record":
            named[f"{kind.get('namespace')}.{kind['name']}"] = kind
            for part in kind["fields"]:
                find(part["type"])
            return kind
        return find(kind["items"]) if kind["type"] == "array" else None

    return {part["name"]: find(part["type"]) for part in schema_of(version)["fields"]}


def row(version: str, of: str, **values: Any) -> dict[str, Any]:
    """One record of a top-level field ("diaSource", "prvDiaSources", "diaObject"), values set by name.

    A name that the version does not have raises KeyError.
    """
    made = blank(_records(version)[of])
    for name, value in values.items():
        if name not in made:
            raise KeyError(f"{of} of {version} has no {name}")
        made[name] = value
    return made


def alert(
    version: str = "11.0",
    candid: int = 1,
    past: Sequence[Mapping[str, Any]] = (),
    forced: Sequence[Mapping[str, Any]] = (),
    records: Mapping[str, Mapping[str, Any]] | None = None,
    **source: Any,
) -> dict[str, Any]:
    """A packet as a dictionary. past, forced: values of the rows; records: of other records; source: of
    diaSource."""
    told = {"midpointMjdTai": NOW, "diaSourceId": candid, "ra": 10.0, "dec": -30.0, "band": "r"}
    made = blank(schema_of(version))
    made["diaSource"] = row(version, "diaSource", **told | source)
    for name in ("diaSourceId", "alertId"):
        if name in made:
            made[name] = candid
    made["prvDiaSources"] = [row(version, "prvDiaSources", **one) for one in past]
    made["prvDiaForcedSources"] = [row(version, "prvDiaForcedSources", **one) for one in forced]
    for name, values in (records or {}).items():
        made[name] = row(version, name, **values)
    return made


def ocf(record: Mapping[str, Any], version: str = "11.0") -> bytes:
    """As a container file."""
    stream = io.BytesIO()
    fastavro.writer(stream, parsed(version), [record])
    return stream.getvalue()


def confluent(record: Mapping[str, Any], version: str = "11.0") -> bytes:
    """As it travels: byte 0, the schema's id, the bare datum."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed(version), record)
    return b"\0" + schema_id(version).to_bytes(4, "big") + stream.getvalue()


def read(raw: bytes) -> dict[str, Any]:
    """A packet of either framing by fastavro alone, with the schema that it was written with."""
    if raw.startswith(b"Obj"):
        return next(iter(fastavro.reader(io.BytesIO(raw))))  # type: ignore[return-value]
    number = int.from_bytes(raw[1:5], "big")
    schema = parsed(f"{number // 100}.{number % 100}")
    return fastavro.schemaless_reader(io.BytesIO(raw[5:]), schema, None)  # type: ignore[return-value]


@dataclass
class Registry:
    """How the registry behaves: slow (seconds), broken (a status for every answer), missing (ids)."""

    url: str = ""
    seconds: float = 0
    status: int = 200
    missing: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)


@contextmanager
def registry() -> Iterator[Registry]:
    """A server that speaks the schema registry's API: GET /schemas/ids/<id>."""
    told = Registry()
    known = {schema_id(version): schema_of(version) for version in VERSIONS}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = int(self.path.rpartition("/")[2])
            told.asked.append(number)
            time.sleep(told.seconds)
            there = number in known and number not in told.missing
            status = told.status if told.status != 200 else 200 if there else 404
            self.send_response(status)
            self.end_headers()
            body = {"schema": json.dumps(known[number])} if status == 200 else {"error_code": 40403}
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
