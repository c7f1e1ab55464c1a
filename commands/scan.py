"""`zads scan`: is all of a topic or an archive public?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from commands.shared.options import Bootstrap, Config, people

EXIT_NOT_CLEAN = 6
"""Something is not public, or cannot be read."""
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("scan")(scan)


def scan(
    what: Annotated[str, typer.Argument(help="A topic, a pattern of topics (^…), or an archive's address.")],
    public: Annotated[
        bool, typer.Option("--public", help="Of an archive: what its public view shows, instead of all.")
    ] = False,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Read all of a topic or an archive, and name what is not public.

    By the lists of the surveys; what cannot be read counts as not public. Exit code 0: all of it is public;
    6: it is not.

    Example: `zads scan channel.young_supernova`
    """
    is_archive = "://" in what or Path(what).is_dir()
    found = _of_archive(what, public) if is_archive else _of_topic(what, bootstrap, config)
    packets = wrong = 0
    for place, reasons in found:
        packets += 1
        if reasons:
            wrong += 1
            if wrong <= _SHOWN:
                print(f"{place}: {'; '.join(reasons)}")
    if wrong:
        people.print(f"{wrong:,} of {packets:,} packets are not public", style="red")
        raise typer.Exit(EXIT_NOT_CLEAN)
    people.print(f"all of {packets:,} packets are public")


def _of_topic(topic: str, bootstrap: str | None, config: Path | None) -> Iterator[tuple[str, list[str]]]:
    from commands.shared.bootstrap import connection, schemas
    from pipeline.broker.listen import listen
    from schemas.errors import PacketError
    from schemas.packets.leaks import not_public
    from schemas.packets.packet import read_packet

    broker, kafka = connection(bootstrap, config)
    source = schemas(None, config)
    for alert in listen(topic, broker, until_drained=True, **kafka):
        place = f"{alert.topic}/{alert.partition}/{alert.offset}"
        try:
            packets = read_packet(alert.raw, source)
        except PacketError as error:
            yield place, [f"cannot be read: {error}"]
            continue
        yield place, [reason for packet in packets for reason in not_public(packet)]


def _of_archive(address: str, public: bool) -> Iterator[tuple[str, list[str]]]:
    from archive.read.archive import Archive
    from schemas.frame import value_in_packet
    from schemas.packets.leaks import not_public

    for part in Archive(address).bag(versions="all", public=public).to_delayed():
        for packet in part.compute(scheduler="synchronous"):
            yield f"candid {value_in_packet(packet, 'candid')}", not_public(packet)
