"""`zads user quota | show`: how much a user may read and write, and how far they have read."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from commands.shared.bootstrap import connection
from commands.shared.options import Bootstrap, Config, people
from commands.user.accounts import Name
from schemas.errors import ZadsError

_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
Rate = Annotated[str | None, typer.Option(metavar="BYTES", help="1MB: a second; none: no limit.")]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command()(quota)
    group.command()(show)


def quota(
    name: Name,
    read: Rate = None,
    write: Rate = None,
    requests: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Of one thread of the broker; none: no limit.")
    ] = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Limit what all clients of a user together read and write a second, on each broker.

    Example: `zads user quota ann --read 1MB --as operator`
    """
    from cluster.kafka.quotas import READ, REQUESTS, WRITE, quotas_of, set_quotas
    from pipeline.access.users import known_user

    broker, kafka = connection(bootstrap, config)
    known_user(name, broker, **kafka)
    client = _client(broker, kafka)
    given = {READ: _bytes(read), WRITE: _bytes(write), REQUESTS: _number(requests)}
    changes = {key: most for key, most in given.items() if most != ""}
    if changes:
        set_quotas(name, changes, client)  # type: ignore[arg-type]
    people.print(_words(quotas_of(name, client)))


def show(name: Name, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Show a user: role, quotas, topics, how far each of their groups has read and how far behind it is.

    Example: `zads user show ann --as operator`
    """
    from cluster.kafka.quotas import quotas_of
    from pipeline.access.usage import groups_of, topics_of
    from pipeline.access.users import known_user

    broker, kafka = connection(bootstrap, config)
    user = known_user(name, broker, **kafka)
    console = Console()
    console.print(f"{user.name}: {user.role}, since {user.when}, by {user.by}")
    console.print(_words(quotas_of(name, _client(broker, kafka))))
    console.print("reads " + (", ".join(topics_of(user, broker, **kafka)) or "no topic"), soft_wrap=True)
    table = Table("group", "topic", "records read", "behind", box=None)
    for one in groups_of(user, broker, **kafka):
        table.add_row(one.group, one.topic, f"{one.read:,}", f"{one.behind:,}")
    console.print(table)


def _client(broker: str, kafka: dict[str, str]) -> dict[str, str]:
    """The operator's settings, for Kafka's own tool."""
    from pipeline.broker.profile import SERVERS, credentials

    return {**credentials(), **kafka, SERVERS: broker}


def _bytes(text: str | None) -> float | str | None:
    """Bytes a second of "1MB"; None for "none"; "" where nothing was said. Raises ZadsError."""
    if text is None or text == "none":
        return "" if text is None else None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMG]?)B?", text)
    if found is None:
        raise ZadsError(f"{text} is no number of bytes", hint="as 500kB, 1MB or none")
    return float(found[1]) * _UNITS[found[2]]


def _number(text: str | None) -> float | str | None:
    if text is None or text == "none":
        return "" if text is None else None
    try:
        return float(text)
    except ValueError:
        raise ZadsError(f"{text} is no percentage", hint="as 50 or none") from None


def _words(quotas: dict[str, float]) -> str:
    from cluster.kafka.quotas import READ, REQUESTS, WRITE

    said = [
        f"{what} {quotas[key] / 1e6:g} MB/s"
        for key, what in ((READ, "reads at most"), (WRITE, "writes at most"))
        if key in quotas
    ]
    if REQUESTS in quotas:
        said.append(f"requests take at most {quotas[REQUESTS]:g} % of a thread")
    return ", ".join(said) or "no quota"
