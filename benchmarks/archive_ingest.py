"""From a nightly tarball into the archive, beside a peer in the same run:

    python -m benchmarks.archive_ingest [--alerts FOLDER_OF_PACKETS] [--number 6000]

The night is made by cycling the packets, each with a candid of its own, into gzipped tarballs as the survey
makes them. zads: `archive.write.ingest.ingest` in one process, and on a Dask cluster of two workers. The
peer, what one writes in an afternoon, in one process: tarfile, `fastavro.reader`, all of the packet as nested
columns into Parquet (zstd) through pyarrow, a file every 1,000 alerts; it tells no repeated packet, no damage
and no version. Also printed, of the packets without cycling: bytes in the archive beside gzip of each packet,
the peer's file, and the packets themselves.
"""

from __future__ import annotations

import argparse
import gzip
import io
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

from archive.write.ingest import Summary, ingest
from benchmarks.stage import packets_of
from cluster.dask.local import local_cluster
from schemas.avro.framing import write_long
from schemas.packets.reader import PacketReader


def night(packets: list[bytes], number: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """(candid, packet): the packets again and again, the candid replaced at all its places."""
    own = PacketReader(["candid"]).read(packets).table["candid"].to_pylist()
    for index, (raw, candid) in enumerate(islice(cycle(zip(packets, own, strict=True)), number)):
        new = candid + 100_000 * ((first + index) // len(packets))
        yield new, raw.replace(write_long(candid), write_long(new))


def tarball(file: Path, packets: list[bytes], number: int, first: int = 0) -> int:
    """Write the night; answers the bytes of its packets."""
    size = 0
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for candid, raw in night(packets, number, first):
            member = tarfile.TarInfo(f"{candid}.avro")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
            size += len(raw)
    return size


def peer(file: Path, folder: Path) -> int:
    """The afternoon's way; answers the alerts written."""
    folder.mkdir()
    rows: list[dict[str, object]] = []
    written = 0
    with tarfile.open(file, "r|gz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            rows += fastavro.reader(content)
            if len(rows) == 1000:
                written += _parquet(rows, folder / f"{written}.parquet")
                rows = []
    return written + (_parquet(rows, folder / f"{written}.parquet") if rows else 0)


def _parquet(rows: list[dict[str, object]], file: Path) -> int:
    pq.write_table(pa.Table.from_pylist(rows), file, compression="zstd")
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alerts", type=Path, help="folder of packets")
    parser.add_argument("--number", type=int, default=6000, help="alerts of the night")
    parser.add_argument("--peer", type=int, default=1000, help="alerts that the peer gets")
    given = parser.parse_args()
    packets, what = packets_of(given.alerts)
    with tempfile.TemporaryDirectory() as place:
        speed(Path(place), packets, given.number, given.peer, what)
        sizes(Path(place), packets)


def speed(folder: Path, packets: list[bytes], number: int, peers: int, what: str) -> None:
    """Alerts a second, from two tarballs of `number` / 2 alerts."""
    nights = [folder / "a.tar.gz", folder / "b.tar.gz"]
    size = sum(
        tarball(file, packets, number // 2, first) for file, first in zip(nights, (0, number), strict=True)
    )
    small = folder / "small.tar.gz"
    tarball(small, packets, peers)
    print(f"{number:,} alerts made of {what}, {size / 1e6:,.0f} MB, in two tarballs", flush=True)
    began = time.monotonic()
    assert peer(small, folder / "peer") == peers
    rate = peers / (time.monotonic() - began)
    print(f"peer: fastavro and pyarrow       {rate:7,.0f} alerts/s", flush=True)
    ingest(small, folder / "warm")  # numba's cache
    told("zads, one process", ingest(nights, folder / "one"), number, rate)
    told("zads, all of it known", ingest(nights, folder / "one"), 0, rate)
    with local_cluster(2) as cluster, Client(cluster) as client:
        ingest([small, small], folder / "warm", client=client)
        told("zads on Dask, two workers", ingest(nights, folder / "two", client=client), number, rate)


def told(way: str, summary: Summary, kept: int, rate: float) -> None:
    assert summary.kept == kept, summary
    own = summary.packets / summary.seconds
    print(f"{way:32} {own:7,.0f} alerts/s, {own / rate:.1f} x the peer", flush=True)


def sizes(folder: Path, packets: list[bytes]) -> None:
    """Bytes on disk of the packets, each once."""
    for number, raw in enumerate(packets):
        (folder / "loose").mkdir(exist_ok=True)
        (folder / "loose" / f"{number}.avro").write_bytes(raw)
    summary = ingest(folder / "loose", folder / "sizes")
    rows = [record for raw in packets for record in fastavro.reader(io.BytesIO(raw))]
    _parquet(rows, folder / "sizes.parquet")
    whole = sum(map(len, packets))
    zipped = sum(len(gzip.compress(raw, 6)) for raw in packets)
    print(f"{summary.kept} packets of {whole / len(packets) / 1e3:.1f} kB, of which remain:")
    print(f"  archive            {summary.stored_bytes / whole:.3f}")
    print(f"  gzip -6 of each    {zipped / whole:.3f}")
    print(f"  peer's Parquet     {(folder / 'sizes.parquet').stat().st_size / whole:.3f}")


if __name__ == "__main__":
    main()
