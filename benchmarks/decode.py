"""Decoding, beside its peers in the same run:

    python -m benchmarks.decode

Batches of 500 packets, made by cycling the real ones (or, where there are none, those of the simulated sky);
framing and, for zads, Arrow arrays included. The ways take turns; CPU time of the whole
process is counted, so the rate is that of one core, whatever else the machine does. The peers:

* fastavro, as everybody writes it: `fastavro.reader` on each container;
* fastavro, careful: schema parsed once and cut behind the last wanted field, body without its container;
* polars-avro: one container spliced in memory from the bodies of all packets, columns projected.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import polars_avro

from benchmarks import stage
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS

BATCH = 500
SLOW_BATCH = 50  # fastavro, milliseconds an alert

HISTORIES = ("prv_candidates", "fp_hists")
TOP = ("schemavsn", "publisher", "objectId", "candid", "candidate", *HISTORIES)
STAMPS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
PREVIOUS = ("jd", "fid", "programid", "magpsf", "sigmapsf", "isdiffpos", "diffmaglim", "ra")
FORCED = ("jd", "fid", "programid", "pid", "forcediffimflux", "forcediffimfluxunc", "magzpsci", "procstatus")

SCOPES: dict[str, tuple[str, ...]] = {
    "everything": (*TOP, *STAMPS),
    "candidate + histories": TOP,
    "candidate": TOP[:5],
    "a live request": (
        *[name for name in SURVEYS["ztf"].stored_names() if "." not in name][:30],
        *[f"prv_candidates.{name}" for name in PREVIOUS],
        *[f"fp_hists.{name}" for name in FORCED],
    ),
}
"""What is asked for; the last: 30 columns of the candidate, 8 of each history."""

Way = Callable[[Sequence[bytes]], Any]


def zads(columns: Sequence[str]) -> Way:
    """Our reader, kept from batch to batch."""
    return PacketReader(columns).read


def plain_fastavro(packets: Sequence[bytes]) -> list[Any]:
    """As in fastavro's documentation."""
    return [record for raw in packets for record in fastavro.reader(io.BytesIO(raw))]


def careful_fastavro(columns: Sequence[str], schema: dict[str, Any]) -> Way:
    """Schemaless, by a schema that ends with the last wanted field."""
    tops = {column.partition(".")[0] for column in columns}
    names = [field["name"] for field in schema["fields"]]
    last = max([names.index(top) for top in tops if top in names], default=0)
    last = max(last, names.index("candidate"))  # columns without a dot
    parsed = fastavro.parse_schema({**schema, "fields": schema["fields"][: last + 1]})
    bodies = Bodies()

    def run(packets: Sequence[bytes]) -> list[Any]:
        return [fastavro.schemaless_reader(io.BytesIO(body), parsed, None) for body in map(bodies, packets)]

    return run


def polars(columns: Sequence[str]) -> Way:
    """All bodies in one container; columns by their top-level name."""
    bodies = Bodies()
    tops = list(dict.fromkeys(c.partition(".")[0] if "." in c else _top(c) for c in columns))

    def run(packets: Sequence[bytes]) -> Any:
        joined = b"".join([bodies(raw) for raw in packets])
        sync = b"0123456789abcdef"
        parts = [bodies.header, sync, _long(len(packets)), _long(len(joined)), joined, sync]
        return polars_avro.read_avro(io.BytesIO(b"".join(parts)), columns=tops)

    return run


def _top(name: str) -> str:
    return SURVEYS["ztf"].path(name).partition(".")[0]


class Bodies:
    """Takes the body out of a container of one plain block whose header is known."""

    def __init__(self) -> None:
        self.header = b""
        self._known: list[bytes] = []

    def __call__(self, raw: bytes) -> bytes:
        for header in self._known:
            if raw.startswith(header):
                at = _behind_long(raw, _behind_long(raw, len(header) + 16))
                return raw[at:-16]
        stream = io.BytesIO(raw)
        fastavro.schemaless_reader(stream, _HEADER)
        self.header = raw[: stream.tell()]
        self._known.append(self.header)
        return self(raw)


_HEADER: Any = fastavro.parse_schema(
    {
        "type": "record",
        "name": "header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        ],
    }
)


def _long(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {"type": "long"}, value)
    return out.getvalue()


def _behind_long(raw: bytes, at: int) -> int:
    while raw[at] & 0x80:
        at += 1
    return at + 1


def packets_of(folder: Path | None) -> list[bytes]:
    """Packets of one schema: those of 4.01 in a folder or below it; without one, of the simulated sky."""
    found, _ = stage.packets_of(folder)
    real = [raw for raw in found if b'"4.01"' in raw[:200_000]]
    return real or [raw for raw in found if schema_of(raw) == schema_of(found[0])]


def schema_of(raw: bytes) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        fastavro.schemaless_reader(io.BytesIO(raw), _HEADER)["meta"]["avro.schema"]
    )
    return schema


def microseconds(way: Way, packets: Sequence[bytes]) -> float:
    """CPU time of the process for each alert."""
    began = time.process_time()
    way(packets)
    return (time.process_time() - began) / len(packets) * 1e6


def ways_to(columns: Sequence[str], schema: dict[str, Any]) -> dict[str, tuple[Way, int]]:
    """Ours and its peers, each with how many packets it is given at once."""
    return {
        "zads": (zads(columns), BATCH),
        "polars-avro": (polars(columns), BATCH),
        "fastavro, careful": (careful_fastavro(columns, schema), SLOW_BATCH),
        "fastavro": (plain_fastavro, SLOW_BATCH),
    }


def measure(
    ways: Mapping[str, tuple[Way, int]], batch: Sequence[bytes], rounds: int
) -> dict[str, list[float]]:
    """Microseconds an alert of the ways in turn, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, (way, count) in ways.items():
            spent = microseconds(way, batch[:count])
            if turn:
                taken[name].append(spent)
    return taken


def show(scope: str, taken: dict[str, list[float]]) -> None:
    """A line for each way: the median, its spread, how many times zads' time it is."""
    ours = statistics.median(taken["zads"])
    print(f"\n{scope}")
    for name, spent in taken.items():
        middle = statistics.median(spent)
        spread = f"{min(spent):8.1f} to {max(spent):8.1f}"
        rate = f"{1e6 / middle:10,.0f} alerts/s{middle / ours:8.1f} x"
        print(f"  {name:18s}{middle:9.1f} us an alert ({spread}){rate}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=Path, help="folder with ZTF 4.01 packets")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    packets = packets_of(options.alerts)
    # Copies: the same object twice would be warmer in the caches than a stream ever is.
    batch = [bytes(bytearray(packets[i % len(packets)])) for i in range(BATCH)]
    mean = sum(map(len, packets)) / len(packets)
    print(f"{len(packets)} packets of {mean / 1000:.0f} kB; batches of {BATCH}; medians of {options.rounds}")
    for scope, columns in SCOPES.items():
        show(scope, measure(ways_to(columns, schema_of(batch[0])), batch, options.rounds))


if __name__ == "__main__":
    main()
