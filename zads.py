"""zads: alerts of sky surveys through Kafka, Python filters on Dask, and out again, each exactly once.

The front door. Notebooks say `from zads import ...` and get the few public names; the command `zads`
starts here too. Names are looked up when they are first used, so that `zads --help` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "alert_filter": "filters",
    "add_catalogue": "commands.external.catalogues",
    "add_notices": "filters.external.add",
    "add_region": "filters.external.add",
    "Externals": "filters.external.externals",
    "expression": "filters",
    "history": "filters",
    "registered": "filters",
    "load": "filters",
    "Filter": "filters",
    "images": "filters.stamps",
    "model": "filters.models",
    "point_score": "filters.stamps",
    "read_packet": "schemas.packets.packet",
    "stamp": "schemas.packets.packet",
    "PacketReader": "schemas.packets.reader",
    "stored_columns": "filters.external.externals",
    "to_frame": "filters.external.externals",
    "show": "schemas.pictures.figure",
    "simulate": "simulator",
    "simulate_rubin": "simulator",
    "Archive": "archive.read.archive",
    "replay": "archive.replay.replay",
    "ingest": "archive.write.ingest",
    "plot_nights": "archive.plots.replays",
    "plot_funnel": "archive.plots.replays",
    "plot_sky": "archive.plots.replays",
    "plot_examples": "archive.plots.replays",
    "plot_sweep": "archive.plots.replays",
    "sweep": "archive.replay.sweep",
    "finder_chart": "schemas.pictures.finder",
    "plot_object": "archive.plots.objects",
    "write_table": "schemas.tabular",
    "to_astropy": "schemas.tabular",
    "plot_light_curve": "archive.plots.objects",
    "plot_cutouts": "archive.plots.objects",
    "plot_place": "archive.plots.objects",
    "sample_archive": "commands.shared.sample",
    "publish": "pipeline.clients.publish",
    "listen": "pipeline.broker.listen",
    "profile": "pipeline.broker.profile",
    "ZadsError": "schemas.errors",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"zads has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "main"]


def main() -> None:
    """The command `zads`."""
    from commands import main as run

    run()


if __name__ == "__main__":
    main()
