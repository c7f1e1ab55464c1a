"""Reading an archive with nothing of ours: deltalake, pyarrow and fastavro."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
from deltalake import DeltaTable

from simulator import SimulatedAlert, simulate


@cache
def night(alerts: int = 300, seed: int = 11, nights: int = 2) -> tuple[SimulatedAlert, ...]:
    """Simulated alerts without stamps."""
    return tuple(simulate(alerts, seed, nights, stamps=False))


def rows_of(archive: Path | str, columns: list[str] | None = None, table: str = "ztf") -> pa.Table:
    """The rows of one of an archive's tables."""
    return DeltaTable(f"{archive}/{table}").to_pyarrow_table(columns=columns)


def packets_in(archive: Path | str) -> list[dict[str, Any]]:
    """Every packet, decoded from its body with the schema that the archive keeps for it."""
    schemas = {
        row["fingerprint"]: fastavro.parse_schema(json.loads(row["schema"]))
        for row in rows_of(archive, table="schemas").to_pylist()
    }
    rows = rows_of(archive, ["_body", "_schema"])
    return [
        fastavro.schemaless_reader(io.BytesIO(body), schemas[name], None)  # type: ignore[misc]
        for body, name in zip(rows["_body"].to_pylist(), rows["_schema"].to_pylist(), strict=True)
    ]


def records_in(raw: bytes) -> list[dict[str, Any]]:
    """The packets of a container file."""
    return list(fastavro.reader(io.BytesIO(raw)))  # type: ignore[arg-type]


def as_words(packets: Iterable[dict[str, Any]]) -> list[str]:
    """Packets in a form that can be sorted and compared: equal values, equal words (NaN too)."""
    return sorted(repr(sorted(packet.items())) for packet in packets)


def write_packets(folder: Path, packets: Iterable[bytes]) -> Path:
    """A folder of packet files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(packets):
        (folder / f"{number:06d}.avro").write_bytes(raw)
    return folder


def write_tarball(file: Path, packets: Iterable[bytes]) -> Path:
    """A nightly tarball."""
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for number, raw in enumerate(packets):
            member = tarfile.TarInfo(f"night/{number:06d}.avro")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return file
