"""An archive to try things on: three simulated nights, made once under ZADS_HOME."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import track

from commands.options import people

if TYPE_CHECKING:
    from archive.reading import Archive

ALERTS, NIGHTS, SEED = 3000, 3, 1


def sample_archive(alerts: int = ALERTS, nights: int = NIGHTS, seed: int = SEED) -> Archive:
    """The archive of a simulated sky; made at the first call (some ten seconds), opened afterwards.

    alerts: in all. The same arguments give the same archive on every machine.
    """
    from archive.reading import Archive
    from cluster.home import zads_home

    place = zads_home() / f"sample-{alerts}-{nights}-{seed}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            _fill(Path(folder), alerts, nights, seed)
            shutil.move(Path(folder) / "archive", place)
    return Archive(place)


def _fill(folder: Path, alerts: int, nights: int, seed: int) -> None:
    from archive.ingest import ingest
    from schemas.simulated import simulate

    packets = folder / "packets"
    packets.mkdir()
    simulated = simulate(alerts, seed, nights)
    for alert in track(simulated, f"simulating {nights} nights", total=alerts, console=people):
        (packets / f"{alert.candid}.avro").write_bytes(alert.packet)
    ingest(packets, folder / "archive")
