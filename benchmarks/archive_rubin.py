"""Rubin's alerts in the archive: size, ingest and replay, beside fastavro in the same run:

    python -m benchmarks.archive_rubin [--number 2000] [--rows 0,100,1000]

Packets of the simulated sky (schema 11.0, stamps included, framed as they travel) with so many rows of
history, each with a diaSourceId of its own. Size: beside gzip of each packet. Replay: `new_transient` (few
columns of history) and `rising` (forced photometry), on two threads; the peer asks the same rules in plain
Python of packets decoded with fastavro, its schema cut where the stamps begin, and is given both cores: its
rate is twice that of one process.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appender import Appender
from benchmarks.decode_rubin import STAMPS, with_rows
from schemas.avro.framing import RoomSource
from schemas.packets.packet import read_packet
from schemas.surveys.lsst.versions import REFERENCE, schema_of
from simulator import simulate_rubin
from tests.filters.lsst_oracle import ORACLE


class _Record(NamedTuple):
    """A packet as a stream gives it."""

    raw: bytes
    offset: int
    topic: str = "lsst-alerts-v11"
    partition: int = 0
    timestamp: int | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def position(self) -> int:
        return self.offset


FILTERS = ("new_transient", "rising")
CORES, _TIMES, _BATCH, _PEERS = 2, 3, 500, 300


def packets_with(rows: int, number: int) -> list[bytes]:
    """So many packets with so many rows of history."""
    schema: Any = fastavro.parse_schema(schema_of(REFERENCE))
    made = (read_packet(alert.packet)[0] for alert in simulate_rubin(400, seed=1))
    some = [packet for packet in made if packet["prvDiaForcedSources"]]
    return [with_rows(_as(one, n), rows, schema) for n, one in zip(range(number), itertools.cycle(some))]


def _as(packet: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The packet of another source."""
    own = packet["diaSourceId"] + number * 1_000_000
    return {**packet, "diaSourceId": own, "diaSource": {**packet["diaSource"], "diaSourceId": own}}


def stored(folder: Path, packets: Sequence[bytes]) -> tuple[int, float]:
    """Bytes on disk, and alerts a second, of an archive made of the packets."""
    began = time.perf_counter()
    appender = Appender(str(folder), survey="lsst", schemas=RoomSource("lsst"))
    for start in range(0, len(packets), _BATCH):
        some = [_Record(raw, start + n) for n, raw in enumerate(packets[start : start + _BATCH])]
        appender.append("benchmark", some, start + len(some))
        appender.flush()
    seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    return size, len(packets) / seconds


def rate_of(archive: Archive, name: str) -> float:
    """Alerts a second that are judged, the best of some passes."""
    rates = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        found = replay(name, archive, threads=CORES)
        rates.append(found.alerts / (time.perf_counter() - began))
    return max(rates)


def rate_of_peer(packets: Sequence[bytes], name: str) -> float:
    """Alerts a second of the plain loop in one process."""
    whole = schema_of(REFERENCE)
    fields = itertools.takewhile(lambda field: field["name"] not in STAMPS, whole["fields"])
    schema: Any = fastavro.parse_schema({**whole, "fields": list(fields)})
    began = time.perf_counter()
    for raw in packets:
        ORACLE[name](fastavro.schemaless_reader(io.BytesIO(raw[5:]), schema, None))
    return len(packets) / (time.perf_counter() - began)


def of_rows(rows: int, number: int, folder: Path) -> None:
    """The lines of packets with so many rows of history."""
    packets = packets_with(rows, number)
    whole = sum(map(len, packets))
    print(f"\n{rows} rows of history, {whole / number / 1e3:.0f} kB a packet, {number:,} packets", flush=True)
    size, rate = stored(folder, packets)
    some = packets[:_PEERS]
    zipped = sum(len(gzip.compress(raw, 6)) for raw in some) / sum(map(len, some))
    print(f"  size: archive {size / whole:.3f} of the packets, gzip -6 of each {zipped:.3f}")
    print(f"  ingest, one process: {rate:,.0f} alerts/s", flush=True)
    for name in FILTERS:
        ours, peer = rate_of(Archive(folder, survey="lsst"), name), CORES * rate_of_peer(some, name)
        print(f"  replay {name}: {ours:,.0f} alerts/s, peer {peer:,.0f}, {ours / peer:.0f} x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=2000, help="alerts")
    parser.add_argument("--rows", default="0,100,1000", help="rows of history, separated by commas")
    given = parser.parse_args()
    for rows in map(int, given.rows.split(",")):
        with tempfile.TemporaryDirectory() as place:
            of_rows(rows, given.number if rows < 1000 else given.number // 4, Path(place) / "archive")


if __name__ == "__main__":
    main()
