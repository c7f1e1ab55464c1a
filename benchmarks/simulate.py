"""How fast simulated packets are made, beside fastavro writing the same packets.

`python -m benchmarks.simulate [--alerts N]`: one core; after compiled code has been loaded.
* fresh: whole packets with fresh stamps, census of the sky included; fresh, steady: without the census.
* fastavro: the same records written by fastavro alone, values and stamps ready.
* load test: numbers varied over prepared packets, in memory.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from typing import Annotated

import fastavro
import typer
from rich.console import Console
from rich.table import Table

from simulator import Staged, simulate
from simulator.packets.load import LoadTest
from simulator.packets.packet import ztf_schema
from simulator.packets.stream import stream_of

_FRESH, _LOAD = 200.0, 20_000.0  # alerts a second that are asked for


def main(
    alerts: Annotated[int, typer.Option(help="Alerts of the simulated night.")] = 2000,
    prepared: Annotated[int, typer.Option(help="Packets prepared for the load test.")] = 200,
    load: Annotated[int, typer.Option(help="Packets of the load test.")] = 40_000,
) -> None:
    """Print the rates, and what they are of fastavro's."""
    list(simulate(10, seed=1))  # loads compiled code
    whole, packets = _timed(lambda: [a.packet for a in simulate(alerts, seed=1)])
    cells = list(Staged(alerts, 1).cells())
    steady, _ = _timed(lambda: [a.packet for a in stream_of(cells, "4.01", True)])
    bare, _ = _timed(lambda: [a.packet for a in stream_of(cells, "4.01", False)])
    records = [next(fastavro.reader(io.BytesIO(p))) for p in packets[:500]]
    parsed = fastavro.parse_schema(ztf_schema("4.01"))
    peer, _ = _timed(lambda: [_written(parsed, record) for record in records])
    ready = LoadTest(prepared)
    varied, _ = _timed(lambda: sum(map(len, ready.packets(load))))
    rates = {
        f"fresh, census of {alerts:,} included": (alerts / whole, _FRESH),
        "fresh, steady": (alerts / steady, _FRESH),
        "without stamps, steady": (alerts / bare, None),
        "load test": (load / varied, _LOAD),
        "fastavro writes given records": (len(records) / peer, None),
    }
    table = Table(
        "packets", "per second", "of fastavro", "asked", title=f"{len(packets[0]) / 1000:.0f} kB packets"
    )
    for name, (rate, asked) in rates.items():
        ratio = rate * peer / len(records)
        table.add_row(name, f"{rate:,.0f}", f"{ratio:.1f}", f"{asked:,.0f}" if asked else "")
    Console().print(table)


def _timed(work: Callable[[], Iterable[bytes] | int]) -> tuple[float, list[bytes]]:
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done if isinstance(done, list) else []


def _written(schema: object, record: dict) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, schema, [record], codec="null")
    return out.getvalue()


if __name__ == "__main__":
    typer.run(main)
