"""A sample archive: three simulated nights, made once under ZADS_HOME."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from commands.shared.options import people

if TYPE_CHECKING:
    from archive.read.archive import Archive

ALERTS, NIGHTS, SEED = 3000, 3, 1


def sample_archive(
    alerts: int = ALERTS, nights: int = NIGHTS, seed: int = SEED, survey: str = "ztf"
) -> Archive:
    """The archive of a simulated sky; made at the first call (some ten seconds), opened afterwards.

    Parameters
    ----------
    alerts
        How many, in all.
    nights
        Of so many nights; Rubin's sky is of one.
    seed
        The same arguments give the same alerts on every machine.
    survey
        "ztf" or "lsst".
    """
    from archive.read.archive import Archive
    from cluster.home import zads_home

    name = f"sample-{alerts}-{nights}-{seed}" + ("" if survey == "ztf" else f"-{survey}")
    place = zads_home() / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            _fill(Path(folder), alerts, nights, seed, survey)
            _move(Path(folder) / "archive", place)
    return Archive(place, survey)


def _fill(folder: Path, alerts: int, nights: int, seed: int, survey: str) -> None:
    from archive.write.ingest import ingest
    from simulator import simulate
    from simulator.rubin.stream import simulate_rubin

    packets = folder / "packets"
    packets.mkdir()
    made = simulate(alerts, seed, nights) if survey == "ztf" else simulate_rubin(alerts, seed)
    with _progress(2 * alerts) as show:
        done = 0
        for done, alert in enumerate(made, start=1):
            (packets / f"{alert.candid}.avro").write_bytes(alert.packet)
            show(f"simulating {nights} nights", done)
        ingest(
            packets,
            folder / "archive",
            survey,
            progress=lambda s: show(f"archiving {nights} nights", done + int(alerts * s.done)),
        )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """Shows progress, as text and a number of `total`: a bar, or one line in a notebook's cell."""
    if people.is_jupyter:
        yield _line_of_a_cell(total)
        return
    with Progress(console=people, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda words, done: bar.update(task, description=words, completed=done)


def _line_of_a_cell(total: int) -> Callable[[str, int], None]:
    """One line that changes: rich would print a new output each time, or need a package of widgets."""
    from IPython.display import Pretty, display

    shown = display(Pretty(""), display_id=True)
    last = ""

    def show(words: str, done: int) -> None:
        nonlocal last
        line = f"{words}: {done / max(total, 1):.0%}"
        if line != last:
            shown.update(Pretty(line))
            last = line

    return show


def _move(made: Path, place: Path) -> None:
    """Rename the complete archive into place; if another process was faster, its equal archive stays."""
    try:
        made.rename(place)
    except OSError:
        if not place.exists():
            raise
