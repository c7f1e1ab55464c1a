"""`zads user add | rotate | remove | role | list`: who may use a secured broker, and as what."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from commands.shared.bootstrap import connection
from commands.shared.options import Bootstrap, Config, paper, people

Name = Annotated[str, typer.Argument(help="Name of the user.")]
RoleOption = Annotated[
    str,
    typer.Option(help="operator, pipeline, broker, collaboration-broker, collaboration or public."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="File to write, for its owner only.", show_default="standard output", dir_okay=False),
]
Address = Annotated[
    str | None,
    typer.Option(help="host:port for this user.", show_default="that of the broker on this machine"),
]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    for function in (add, remove, rotate, role):
        group.command()(function)
    group.command("list")(show_users)
    group.command("roles")(show_roles)


def add(
    name: Name,
    role: RoleOption = "public",
    out: Out = None,
    address: Address = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Make a user, and give the client configuration, with the password: it is shown this once.

    Example: `zads user add ann --role public --out ann.ini --as operator`
    """
    from pipeline.access.users import add_user, checked_role

    broker, kafka = connection(bootstrap, config)
    password = add_user(name, checked_role(role), broker, by=me(), **kafka)
    _hand_over(name, password, out, address)


def rotate(
    name: Name,
    out: Out = None,
    address: Address = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Give a user a new password; the old one is void, within seconds also where it is in use.

    Example: `zads user rotate ann --out ann.ini --as operator`
    """
    from pipeline.access.users import rotate_password

    broker, kafka = connection(bootstrap, config)
    password = rotate_password(name, broker, **kafka)
    people.print(f"the old password of {name} is void")
    _hand_over(name, password, out, address)


def remove(name: Name, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Remove a user: out within seconds, also on connections that are open. The name is not used again.

    Example: `zads user remove ann --as operator`
    """
    from pipeline.access.users import remove_user

    broker, kafka = connection(bootstrap, config)
    remove_user(name, broker, by=me(), **kafka)
    people.print(f"{name} is removed")


def role(
    name: Name,
    role: Annotated[str, typer.Argument(help="The new role, see `zads user roles`.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Give a user another role.

    Example: `zads user role ann collaboration --as operator`
    """
    from pipeline.access.users import change_role, checked_role

    broker, kafka = connection(bootstrap, config)
    change_role(name, checked_role(role), broker, by=me(), **kafka)
    people.print(f"{name} is {role} now")


def show_users(config: Config = None, bootstrap: Bootstrap = None) -> None:
    """List the users, those that were removed too.

    Example: `zads user list --as operator`
    """
    from pipeline.access.users import read_users

    broker, kafka = connection(bootstrap, config)
    table = Table("user", "role", "since", "by", box=None)
    users = read_users(broker, **kafka)
    if not users:
        people.print("there are no users that you may see: operators see them (--as operator)")
        return
    for user in users.values():
        table.add_row(user.name, f"removed ({user.role})" if user.removed else user.role, user.when, user.by)
    paper().print(table)


def show_roles() -> None:
    """List the roles and what they are for.

    Example: `zads user roles`
    """
    from pipeline.access.roles import ROLES

    table = Table("role", "what it is for", box=None)
    for name, what in ROLES.items():
        table.add_row(name, what)
    paper().print(table)


def me() -> str:
    """Who changes things: the user of the profile, else of this machine."""
    from pipeline.broker.profile import user_name

    return user_name() or getpass.getuser()


def _hand_over(name: str, password: str, out: Path | None, address: str | None) -> None:
    """The user's profile, and how it is used."""
    from cluster.kafka.security import profile_text, write_profile

    settings = _client(name, password, address)
    if out is not None:
        write_profile(out, settings)
        people.print(f"wrote {out}, with the password: for {name} alone", soft_wrap=True)
    else:
        print(profile_text(settings), end="")
    file = out or f"{name}.ini"
    if out is None:
        people.print(f"shown this once: keep it as {file}, and `chmod 600 {file}`")
    people.print(f"command line: zads listen channel.NAME --as {file}", soft_wrap=True)
    people.print(f"environment:  export ZADS_PROFILE={file}", soft_wrap=True)
    people.print(f'Python:       zads.listen("channel.NAME", **zads.profile("{file}"))', soft_wrap=True)
    people.print(r"other Kafka clients: the lines of \[kafka] are librdkafka's own keys", soft_wrap=True)


def _client(name: str, password: str, address: str | None) -> dict[str, str]:
    """librdkafka's keys for a user of the broker."""
    from pipeline.broker.profile import profile

    mine = profile()
    trusted = mine.get("ssl.ca.pem")
    if trusted is None and "ssl.ca.location" in mine:
        trusted = Path(mine["ssl.ca.location"]).read_text()
    return {
        "bootstrap.servers": address or _address(mine),
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": name,
        "sasl.password": password,
        **({"ssl.ca.pem": trusted} if trusted else {}),
    }


def _address(mine: dict[str, str]) -> str:
    """Where users find the broker: where we do, unless we have the operator's listener for ourselves."""
    if mine.get("security.protocol") == "SASL_SSL":
        return mine["bootstrap.servers"]
    from cluster.kafka.broker import status

    return status().bootstrap_servers or "HOST:PORT"
