"""`zads model check`: what an ONNX file takes and gives, read in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.external.ask import answered, file_of, rows_of
from commands.shared.options import Bootstrap, Config
from schemas.errors import ZadsError


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Models: ONNX files that filters use.")
    group.command("check")(check)
    app.add_typer(group, name="model")


def check(
    file: Annotated[Path, typer.Argument(help="An ONNX file of at most 100 MB.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Read a model in the sandbox: what its graph takes and gives, or why it cannot be used.

    A model whose numbers are in another file, or that wants operators which ONNX does not define, is refused.
    A user's model is read where `zads serve` runs. An operator makes a filter of it.

    Example: `zads model check stamp_real.onnx`
    """
    answer = answered("check", "", config, bootstrap, **file_of(file))
    rows = rows_of(answer) if answer else _read_here(file)
    table = Table("", "name", "type", "shape", box=None)
    for row in rows:
        table.add_row(*(escape(str(row[name])) for name in ("what", "name", "type", "shape")))
    Console().print(table)


def _read_here(file: Path) -> list[Mapping[str, Any]]:
    from filters.files.sandboxed import file_room

    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ZadsError(f"cannot read {file}: {error.strerror}") from None
    return list(file_room().model(file.name, raw))
