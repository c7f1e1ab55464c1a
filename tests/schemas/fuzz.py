"""Damaged packets by the thousand: python -m tests.schemas.fuzz --seed 1 --count 3000

Each damaged packet is read between healthy ones. It must be refused, or give what fastavro says it holds; the
healthy ones must come out as ever. Bodies are also walked at the very end of readable memory, so that reading
one byte too many is a crash. Run as a process of its own (test_fuzz.py does), where a crash can be seen.
"""

import argparse
import ctypes
import mmap
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from schemas.avro.batches import Walked
from schemas.avro.plan import Plan
from schemas.avro.rewrite import rewrite
from schemas.avro.writer import writer_schema
from schemas.errors import PacketError
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS
from tests.schemas import oracle
from tests.schemas.conftest import bare, container, ztf_records, ztf_schema

ZTF = SURVEYS["ztf"]
COLUMNS = [
    *ZTF.stored_names(),
    *(f"{stamp}.{field}" for stamp in ZTF.stamps.fields.values() for field in ("fileName", "stampData")),
]
NASTY = (
    b"\x00",
    b"\x01",
    b"\x02",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff" * 10,
    b"\x80" * 9 + b"\x01",
    b"\xfe" * 5 + b"\x0f",
)


def damaged(raw: bytes, rng: random.Random, start: int) -> bytes:
    """The bytes with one to three things wrong after `start`: bits, bytes, numbers, cuts, copies, holes."""
    data = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(min(start, len(data) - 1), len(data))
        match rng.randrange(7):
            case 0 | 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at] = rng.randrange(256)
            case 3:
                data[at : at + rng.choice([0, 1, 4])] = rng.choice(NASTY)
            case 4:
                del data[at:]
            case 5:
                del data[at : at + rng.randint(1, 40)]
            case _:
                data[at:at] = data[at : at + rng.randint(1, 60)]
        if len(data) < 2:
            break
    return bytes(data)


def column(records: list[dict], name: str) -> list[Any]:
    """What a column must hold, from fastavro's dictionaries alone."""
    out = []
    for record in records:
        if name == "candid" and "candid" not in record:
            out.append(oracle.value_at(record, "candidate.candid"))
            continue
        value, top = oracle.value_at(record, ZTF.path(name)), name.partition(".")[0]
        rows = record.get(top) if top in ZTF.histories else None
        out.append([None] * len(rows) if value is None and rows is not None else value)
    return out


def check(reader: PacketReader, healthy: list[bytes], bad: list[bytes], counts: Counter) -> None:
    """One batch, healthy packets between damaged ones."""
    raws = [raw for pair in zip(healthy, bad, strict=True) for raw in pair]
    batch = reader.read(raws)
    refused = {r.index: r.error for r in batch.refused}
    rows = batch.table.to_pylist()
    for index, raw in enumerate(raws):
        ours = [row for row, packet in zip(rows, batch.packet, strict=True) if packet == index]
        if index in refused or index in batch.other_packets:
            assert index % 2, f"a healthy packet was refused: {refused.get(index)}"
            assert not ours
            counts[refused[index].reason if index in refused else "other survey"] += 1
            continue
        counts["read"] += index % 2
        records = oracle.records_of(raw)
        for name in COLUMNS:
            assert oracle.same([row[name] for row in ours], column(records, name)), (name, index, raw)


def check_rewrite(bad: list[bytes], counts: Counter) -> None:
    """Cutting a damaged packet: refused, or fastavro finds what it found before."""
    for raw in bad:
        try:
            out = rewrite(raw, drop=("cutoutScience", "rb", "prv_candidates.jd"), public_only=True)
        except PacketError as error:
            counts[f"rewrite: {error.reason}"] += 1
            continue
        counts["rewritten"] += 1
        dropped = {"cutoutScience", "candidate.rb", "prv_candidates.jd"}
        assert len(oracle.records_of(out)) == len(oracle.records_of(raw))
        for ours, theirs in zip(
            oracle.records_of(out), oracle.without(oracle.records_of(raw), dropped), strict=True
        ):
            assert oracle.same(ours["candidate"], theirs["candidate"])


class EdgeOfMemory:
    """Bytes whose end is the end of readable memory."""

    def __init__(self, pages: int = 32) -> None:
        self._map = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        self._begin = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.end = self._begin + pages * mmap.PAGESIZE
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self.end), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def put(self, body: bytes) -> int:
        """The address of a copy that ends where memory ends."""
        address = self.end - len(body)
        ctypes.memmove(address, body, len(body))
        return address


def check_edge(plan: Plan, bodies: list[bytes], edge: EdgeOfMemory, counts: Counter) -> None:
    """Walk bodies at the edge of memory; touch all that comes out."""
    for body in bodies:
        messages = np.array([[edge.put(body), len(body), 1, 0]], np.uint64)
        walked = Walked(plan, messages)
        for builder in plan.builders:
            if builder is not None:
                walked.columns.array(builder).validate(full=True)
        counts["edge: refused" if walked.refused else "edge: read"] += 1


def originals(seed: int, alerts: Path | None) -> list[bytes]:
    """Healthy packets of both versions and every codec, some of several records; real ones if there are."""
    made = []
    for number in range(12):
        version, codec = ("3.3", "4.01")[number % 2], ("null", "null", "deflate", "snappy")[number % 4]
        records = ztf_records(seed + number, 1 + number % 3, version, 3, programid=1)
        made.append(container(ztf_schema(version), records, codec, (1, 1 << 20)[number % 2]))
    return (
        made + [path.read_bytes() for path in sorted(alerts.glob("ztf_*/*.avro"))[::40]] if alerts else made
    )


def batches(
    packets: list[bytes], rng: random.Random, count: int
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Healthy and damaged packets; three of four are damaged behind their header."""
    for _ in range(-(-count // 20)):
        healthy = rng.choices(packets[:12], k=20)
        chosen = rng.choices(packets, k=20)
        starts = [raw.find(b"\0sixteen") + 17 if rng.random() < 0.75 else 0 for raw in chosen]
        yield healthy, [damaged(raw, rng, max(start, 0)) for raw, start in zip(chosen, starts, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--alerts", type=Path, help="folder of real packets")
    options = parser.parse_args()
    rng, counts = random.Random(options.seed), Counter()
    reader, packets = PacketReader(COLUMNS), originals(options.seed, options.alerts)
    for healthy, bad in batches(packets, rng, options.count // 2):
        check(reader, healthy, bad, counts)
        check_rewrite(bad[:4], counts)
    plan, edge = Plan(writer_schema(ztf_schema()), [ZTF.column(name) for name in COLUMNS]), EdgeOfMemory()
    for number in range(options.count // 2):
        body = bare(ztf_schema(), ztf_records(options.seed + number % 50, rows=3)[0])
        check_edge(plan, [body[: rng.randrange(len(body))], damaged(body, rng, 0)], edge, counts)
    for what, many in sorted(counts.items()):
        print(f"{many:7,} {what}")


if __name__ == "__main__":
    sys.exit(main())
