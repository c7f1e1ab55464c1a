"""What a process of `zads simulate --workers` does: some quadrants, written into the folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from simulator import Part, SimulatedAlert, damaged


@dataclass(frozen=True)
class Made:
    """What a part gave: alerts without their packets, and the static sources around them."""

    alerts: list[SimulatedAlert]
    bytes: int
    catalogue: pa.Table


def write_alert(alert: SimulatedAlert, folder: Path) -> None:
    """One file an alert; a packet that comes twice has two files."""
    file = folder / f"{alert.candid}.avro"
    if alert.damage == "repeated" and file.exists():
        file = folder / f"{alert.candid}_again.avro"
    file.write_bytes(alert.packet)


def write_part(part: Part, damage: float, folder: Path) -> Made:
    """Simulate a part of a month, quadrant by quadrant, and write its packets.

    Parameters
    ----------
    part
        The quadrants.
    damage
        Share of the packets to damage, 0 to 1.
    folder
        Where the packets go.
    """
    alerts, size, tables = [], 0, []
    for cell, stream in part.by_quadrant():
        for alert in damaged(stream, damage, part.month.seed):
            write_alert(alert, folder)
            size += len(alert.packet)
            alerts.append(replace(alert, packet=b""))
        tables.append(cell.catalogue.table())
    return Made(alerts, size, pa.concat_tables(tables) if tables else pa.table({}))
