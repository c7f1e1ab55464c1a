"""Decoding Rubin's packets, beside fastavro in the same run:

    python -m benchmarks.decode_rubin

Packets of the simulated sky (schema 11.0, with stamps, framed as they travel) with 0, 100 and 1,000 rows of
history: a quarter detections, the others forced photometry. Turns and counting are as in `benchmarks.decode`;
the careful way's schema ends before the stamps. With --alerts, the survey's own files too.
"""

import argparse
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro

from benchmarks.decode import SLOW_BATCH, Way, measure, plain_fastavro, show
from filters import registered
from schemas.avro.framing import RoomSource
from schemas.frame import frame_maker
from schemas.packets.packet import read_packet
from schemas.packets.reader import PacketReader
from schemas.surveys.lsst.versions import REFERENCE, schema_id, schema_of
from simulator import simulate_rubin

BATCH = 100
ROWS = (0, 100, 1000)
PAST, FORCED = "prvDiaSources", "prvDiaForcedSources"
STAMPS = ("cutoutDifference", "cutoutScience", "cutoutTemplate")
_HEAD = b"\0" + schema_id(REFERENCE).to_bytes(4, "big")


def asked_for() -> dict[str, list[str]]:
    """What is decoded: all of it; without stamps; what all filters of the survey read."""
    names = [field["name"] for field in schema_of(REFERENCE)["fields"]]
    filters = (one for one in registered().values() if "lsst" in (one.surveys or ()))
    reads = [name for one in filters for name in one.reads or ()]
    return {
        "everything": names,
        "all but stamps": [name for name in names if name not in STAMPS],
        "what the filters read": frame_maker(list(dict.fromkeys(reads)), "lsst").columns,
    }


def with_rows(packet: Mapping[str, Any], rows: int, schema: Any) -> bytes:
    """The packet with so many rows of history, earlier and earlier."""
    source, forced = packet["diaSource"], packet[FORCED][0]
    clock = source["midpointMjdTai"]
    past = [{**source, "midpointMjdTai": clock - 1 - k} for k in reversed(range(rows // 4))]
    measured = [{**forced, "midpointMjdTai": clock - 1 - k / 3} for k in reversed(range(rows - rows // 4))]
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, {**packet, PAST: past, FORCED: measured})
    return _HEAD + stream.getvalue()


def by_fastavro(schema: dict[str, Any]) -> Way:
    """The bare datum of each, by a schema of its first fields or of all."""
    parsed: Any = fastavro.parse_schema(schema)

    def run(packets: Sequence[bytes]) -> list[Any]:
        return [fastavro.schemaless_reader(io.BytesIO(raw[5:]), parsed, None) for raw in packets]

    return run


def ways_to(columns: Sequence[str]) -> dict[str, tuple[Way, int]]:
    """Ours, fastavro as everybody writes it, and with the schema cut where the stamps begin."""
    schema = schema_of(REFERENCE)
    ways: dict[str, tuple[Way, int]] = {
        "zads": (PacketReader(columns, "lsst", RoomSource("lsst")).read, BATCH)
    }
    if not set(columns) & set(STAMPS):
        fields = itertools.takewhile(lambda field: field["name"] not in STAMPS, schema["fields"])
        ways["fastavro, careful"] = (by_fastavro({**schema, "fields": list(fields)}), SLOW_BATCH)
    return {**ways, "fastavro": (by_fastavro(schema), SLOW_BATCH)}


def of_rows(packets: Sequence[Mapping[str, Any]], rows: int, rounds: int) -> None:
    """The lines of packets with so many rows of history."""
    schema = fastavro.parse_schema(schema_of(REFERENCE))
    batch = [with_rows(packet, rows, schema) for packet in itertools.islice(itertools.cycle(packets), BATCH)]
    print(f"\n{rows} rows of history, {sum(map(len, batch)) / BATCH / 1000:.0f} kB a packet")
    for scope, columns in asked_for().items():
        show(scope, measure(ways_to(columns), batch, rounds))


def of_files(folder: Path, rounds: int) -> None:
    """The lines of a folder's files, each with its own schema in it."""
    found = [path.read_bytes() for path in sorted(folder.rglob("*.avro"))]
    batch = [bytes(bytearray(raw)) for raw in itertools.islice(itertools.cycle(found), BATCH)]
    print(f"\n{len(found)} files of {folder.name}")
    for scope, columns in asked_for().items():
        ours = PacketReader(columns, "lsst").read
        show(scope, measure({"zads": (ours, BATCH), "fastavro": (plain_fastavro, SLOW_BATCH)}, batch, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=Path, help="folder with Rubin's packets, containers")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    made = (read_packet(alert.packet)[0] for alert in simulate_rubin(200, seed=1))
    packets = list(itertools.islice((packet for packet in made if packet[FORCED]), 20))
    for rows in ROWS:
        of_rows(packets, rows, options.rounds)
    if options.alerts:
        of_files(options.alerts, options.rounds)


if __name__ == "__main__":
    main()
