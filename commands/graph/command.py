"""`zads graph`: what a run is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.shared.options import Bootstrap, Channels, Config, names_of, people, settings_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("graph")(graph)


def graph(
    out: Annotated[
        Path | None, typer.Option("--out", help="Draw it into this file: .png, .svg or .pdf.")
    ] = None,
    channels: Channels = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Show the live graph: from the nightly topics through the workers to each channel's topic.

    The text goes to standard output. Neither a broker nor a cluster is needed.

    Example: `zads graph --channels young_supernova --out graph.png`
    """
    from commands.graph.drawing import as_figure, as_text
    from pipeline.channels.config import channel_set

    settings = settings_of(config, bootstrap_servers=bootstrap)
    chosen = channel_set(settings, names_of(channels))
    print(as_text(settings, chosen), end="")
    if out is not None:
        from schemas.pictures.figure import write_figure

        people.print(f"drawn into {write_figure(as_figure(settings, chosen), out)}", soft_wrap=True)
