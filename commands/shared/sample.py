"""An archive to try things on: three simulated nights, made once under ZADS_HOME."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from commands.shared.options import people

if TYPE_CHECKING:
    from archive.read.archive import Archive

ALERTS, NIGHTS, SEED = 3000, 3, 1


def sample_archive(alerts: int = ALERTS, nights: int = NIGHTS, seed: int = SEED) -> Archive:
    """The archive of a simulated sky; made at the first call (some ten seconds), opened afterwards.

    Parameters
    ----------
    alerts
        In all.
    nights
        How many nights they are of.
    seed
        Of the sky. The same arguments give the same alerts on every machine.
    """
    from archive.read.archive import Archive
    from cluster.home import zads_home

    place = zads_home() / f"sample-{alerts}-{nights}-{seed}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            _fill(Path(folder), alerts, nights, seed)
            _move(Path(folder) / "archive", place)
    return Archive(place)


def _fill(folder: Path, alerts: int, nights: int, seed: int) -> None:
    from archive.write.ingest import ingest
    from simulator import simulate

    packets = folder / "packets"
    packets.mkdir()
    with Progress(console=_console(), transient=True) as bar:
        task = bar.add_task(f"simulating {nights} nights", total=2 * alerts)
        for alert in simulate(alerts, seed, nights):
            (packets / f"{alert.candid}.avro").write_bytes(alert.packet)
            bar.advance(task)
        bar.update(task, description=f"archiving {nights} nights")
        ingest(
            packets, folder / "archive", progress=lambda s: bar.update(task, completed=alerts * (1 + s.done))
        )


def _move(made: Path, place: Path) -> None:
    """The archive appears whole; when somebody else was faster, theirs stays: it is the same."""
    try:
        made.rename(place)
    except OSError:
        if not place.exists():
            raise


def _console() -> Console:
    """Standard error; in a notebook too, where rich's own display needs a package of widgets."""
    return Console(stderr=True, force_jupyter=False, force_terminal=people.is_jupyter or None)
