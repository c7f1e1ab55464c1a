"""`zads user quota | limit | show`: how much a user may read, write and have delivered, and what they do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from commands.shared.bootstrap import connection
from commands.shared.options import Bootstrap, Config, paper, people
from commands.user.accounts import Name, me
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from pipeline.access.limits import UserLimits
    from pipeline.access.users import User

_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
Rate = Annotated[str | None, typer.Option(metavar="BYTES", help="1MB: a second; none: no limit.")]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command()(quota)
    group.command()(limit)
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


def limit(
    name: Name,
    channels: Annotated[int | None, typer.Option(help="That are not retired.")] = None,
    alerts_a_night: Annotated[int | None, typer.Option(help="Of all channels together.")] = None,
    bytes_a_day: Annotated[str | None, typer.Option(metavar="BYTES", help="Of all together: 500MB.")] = None,
    microseconds: Annotated[
        float | None, typer.Option(help="That an alert may cost, over all filters, by their backtests.")
    ] = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Limit what the channels of a user together may take; without an option, tell the limits.

    What exceeds them waits for an operator: `zads channel list` shows it.

    Example: `zads user limit ann --channels 50 --alerts-a-night 20000 --as operator`
    """
    from pipeline.access.users import change_limits, known_user

    broker, kafka = connection(bootstrap, config)
    size = _bytes(bytes_a_day)
    if size is None:
        raise ZadsError("bytes_a_day none: there is always a limit", hint="name a large one: 1000GB")
    given = {"channels": channels, "alerts_a_night": alerts_a_night, "microseconds": microseconds}
    changes = {key: value for key, value in given.items() if value is not None}
    changes |= {} if size == "" else {"bytes_a_day": round(float(size))}
    user = known_user(name, broker, **kafka)
    if changes:
        user = change_limits(name, changes, broker, by=me(), **kafka)
    people.print(_limits_words(user.limits))


def show(name: Name, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Show a user: role, quotas, use beside the limits, topics, how far each of their groups has read.

    Example: `zads user show ann --as operator`
    """
    from cluster.kafka.quotas import quotas_of
    from pipeline.access.usage import groups_of, topics_of
    from pipeline.access.users import known_user

    broker, kafka = connection(bootstrap, config)
    user = known_user(name, broker, **kafka)
    console = paper()
    console.print(f"{user.name}: {user.role}, since {user.when}, by {user.by}")
    console.print(_words(quotas_of(name, _client(broker, kafka))))
    console.print(_use(user, broker, kafka), soft_wrap=True)
    console.print("reads " + (", ".join(topics_of(user, broker, **kafka)) or "no topic"), soft_wrap=True)
    table = Table("group", "topic", "records read", "behind", box=None)
    for one in groups_of(user, broker, **kafka):
        table.add_row(one.group, one.topic, f"{one.read:,}", f"{one.behind:,}")
    console.print(table)


def _use(user: User, broker: str, kafka: dict[str, str]) -> str:
    """What the user's channels take, beside the limits."""
    from pipeline.access.limits import use_of
    from pipeline.channels.registry import read_registry
    from pipeline.clients.delivered import delivered_now

    registry = read_registry(broker, **kafka)
    use = use_of(user.name, registry.definitions.values(), delivered_now(broker, **kafka))
    return use.beside(user.limits)


def _limits_words(limits: UserLimits) -> str:
    return (
        f"at most {limits.channels:,} channels, {limits.alerts_a_night:,} alerts a night,"
        f" {limits.bytes_a_day / 1e6:,.1f} MB a day, {limits.microseconds:,.0f} µs an alert"
    )


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
