"""`zads sandbox check`: what this machine has to run strangers' Python in, and what it lacks."""

from __future__ import annotations

import time
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.shared.options import Json, people
from schemas.json_text import to_json


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Where the Python of users runs.")
    group.command("check")(check)
    app.add_typer(group, name="sandbox")


def check(as_json: Json = False) -> None:
    """Say what this machine confines users' Python with, and try it; exit code 1 where it is refused.

    Example: `zads sandbox check`
    """
    from filters.sandbox.inside.modules import STANDARD, USEFUL
    from filters.sandbox.ladder import parts

    found = parts()
    refused, seconds = _tried()
    if as_json:
        told: dict[str, Any] = {"parts": [part._asdict() for part in found], "refused": refused}
        print(to_json({**told, "seconds": seconds, "modules": [*STANDARD, *USEFUL]}, indent=2))
    else:
        table = Table("", "means", "", "what", box=None)
        for part in found:
            mark = "[green]✓[/]" if part.there else "[red]✗[/]" if part.needed else "–"
            needed = "needed" if part.needed else "one more wall"
            table.add_row(mark, part.name, needed, escape(part.what))
        Console().print(table)
        people.print(f"it may import {', '.join((*STANDARD, *USEFUL))}", style="dim")
    if refused:
        people.print(f"[red]users' Python is refused here:[/] {escape(refused)}")
        raise typer.Exit(1)
    people.print(f"users' Python runs here; the sandbox was ready in {seconds:.1f} s")


def _tried() -> tuple[str, float]:
    """Why no filter can be judged ("": one was), and the seconds that it took."""
    from filters.sandbox.keeper import sandbox
    from filters.sandbox.question import Program
    from schemas.errors import ZadsError

    text = (
        "from filters import alert_filter\n\n@alert_filter(reads=['rb'])\ndef one(alerts):\n    return {}\n"
    )
    began = time.monotonic()
    try:
        sandbox().load(Program("check", text, "check.py", ""))
    except ZadsError as error:
        return str(error), 0.0
    finally:
        sandbox().close()
    return "", time.monotonic() - began
