"""A Rubin visit arrives at once: from the moment an alert is offered until a consumer of a channel holds it.

10,000 alerts are offered within three seconds over 45 partitions while eleven channels run: the filters of
Rubin that read no stamps (--stamps: all) and `watched`, which passes every alert without its stamps, so that
each one can be timed and counted (none twice, none missing). Packets: the survey's own where they are at
hand, framed as they travel; else of the simulated sky, 11.0, stamps included; --rows adds history. As in
`benchmarks.latency`, the start is the record's CreateTime. Beside it the plain loop of two Python processes,
which decodes each alert with fastavro, and passes it on as it came, one channel (it promises nothing). On two
cores half of the CPU is the broker's, which writes and sends 2 to 3 GB: that limits both.

Example: `python -m benchmarks.burst --rows 300`
"""

from __future__ import annotations

import io
import itertools
import logging
from pathlib import Path
from typing import Annotated, Any

import fastavro
import numpy as np
import typer
from rich.console import Console

from benchmarks.decode_rubin import with_rows
from benchmarks.latency import Load, Watch, Wire, prepare, table_of
from benchmarks.peers import Peer, Task
from benchmarks.stage import make_targets, timed_run
from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from filters import registered
from pipeline.channels.config import ChannelConfig, channel_set, read_config
from schemas.packets.packet import read_packet
from schemas.surveys.lsst.versions import REFERENCE, schema_id, schema_of
from simulator import simulate_rubin

BAR = 5.0  # seconds, 99 % of the alerts
PARTITIONS = 45  # of the survey's own topic
STAMPS = ["cutoutDifference", "cutoutScience", "cutoutTemplate"]
REAL = Path(__file__).resolve().parents[2] / "shared" / "alerts" / "lsst_9.0"
_TOPIC, _DISTINCT, _WORKERS = "lsst-alerts-v11", 60, 3
people = Console()


def packets_of(rows: int | None) -> tuple[list[bytes], str]:
    """Packets as they travel, and what they are. rows: of history; None: the survey's own as they came."""
    if rows is None and REAL.is_dir():
        found = [_travelling(path, REAL.name.removeprefix("lsst_")) for path in sorted(REAL.rglob("*.avro"))]
        return found, f"{len(found)} packets of {REAL.name}"
    schema: Any = fastavro.parse_schema(schema_of(REFERENCE))
    made = (read_packet(alert.packet)[0] for alert in simulate_rubin(400, seed=1))
    full = list(itertools.islice((one for one in made if one["prvDiaForcedSources"]), _DISTINCT))
    found = [with_rows(one, rows or 0, schema) for one in full]
    return found, f"{len(found)} simulated packets with {rows or 0} rows of history"


def _travelling(path: Path, version: str) -> bytes:
    """A container's packet with the five bytes that Rubin's stream has before each."""
    with path.open("rb") as stream:
        (packet,) = fastavro.reader(stream)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema_of(version)), packet)
    return b"\0" + schema_id(version).to_bytes(4, "big") + body.getvalue()


def zads(bootstrap: str, load: Load, stamps: bool) -> np.ndarray:
    """The latencies of a live run with these channels. stamps: with the filters that read stamps, too."""
    wire = Wire(bootstrap, _TOPIC, "channel.watched")
    prepare(wire, load)
    filters = registered("lsst").values()
    wanted = [f.name for f in filters if stamps or not {*STAMPS} & {*(f.reads or ())}]
    chosen = {name: ChannelConfig(filter=name) for name in wanted}
    chosen["watched"] = ChannelConfig(where="candid > 0", drop=STAMPS)
    config = read_config(
        bootstrap_servers=bootstrap, group="zads", topics=wire.topic, schemas="lsst", channels=chosen
    )
    with local_cluster(workers=_WORKERS) as cluster, Watch(wire) as watch:
        address = cluster.scheduler_address
        timed_run(config, channel_set(config), address, feed=lambda stopped: watch.send(load))
        offered = f"offered within {watch.offered_seconds:.1f} s"
        people.print(f"{wire.channel} beside {len(wanted)} filters: {offered}")
        return watch.latencies()


def plain(bootstrap: str, load: Load) -> np.ndarray:
    """The latencies of the plain loop in two processes, one channel."""
    wire = Wire(bootstrap, "plain_in", "plain_watched")
    prepare(wire, load)
    targets = {"everything": wire.channel}
    make_targets(bootstrap, targets.values())
    with (
        Watch(wire) as watch,
        Peer(Task("rubin", bootstrap, "plain", wire.topic, targets), PARTITIONS) as peer,
    ):
        peer.begin()
        watch.send(load)
        peer.finish()
        people.print(f"{wire.channel}: offered within {watch.offered_seconds:.1f} s")
        return watch.latencies()


def main(
    rows: Annotated[
        int | None, typer.Option(min=0, help="Rows of history.", show_default="real packets as they came")
    ] = None,
    alerts: Annotated[int, typer.Option(min=1, help="How many.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Offered within so long.")] = 3,
    stamps: Annotated[bool, typer.Option(help="Run the filters that look at stamps, too.")] = False,
) -> None:
    """Seconds from an alert of a burst to a consumer of a channel, zads beside the plain loop."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    packets, described = packets_of(rows)
    load = Load(packets, alerts / seconds, seconds, PARTITIONS)
    size = sum(map(len, packets)) / len(packets) / 1000
    people.print(
        f"{described}, {size:.0f} kB each; {load.alerts:,} in {seconds:g} s, {PARTITIONS} partitions"
    )
    with Broker() as broker:
        latencies = {
            "zads": zads(broker.bootstrap_servers, load, stamps),
            "plain": plain(broker.bootstrap_servers, load),
        }
    people.print(table_of(latencies, load.rate))
    value = float(np.percentile(latencies["zads"], 99))
    people.print(
        f"{'met' if value < BAR else 'MISSED'}: 99 % within {value:.2f} s (bar {BAR:g} s), once each"
    )


if __name__ == "__main__":
    typer.run(main)
