"""`zads model`: ONNX files that the channels of a user ask, read and run in the sandbox."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.external.ask import answered, file_of, readers_in_words, rows_of
from commands.shared.options import Bootstrap, Config
from schemas.errors import ZadsError


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Models: ONNX files that filters use.")
    for command in (check, add, share, remove):
        group.command()(command)
    group.command("list")(list_)
    app.add_typer(group, name="model")


def check(
    file: Annotated[Path, typer.Argument(help="An ONNX file of at most 100 MB.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Read a model in the sandbox: what its graph takes and gives, or why it cannot be used.

    A model whose numbers are in another file, or that wants operators which ONNX does not define, is refused.
    A user's model is read where `zads serve` runs.

    Example: `zads model check stamp_real.onnx`
    """
    answer = answered("check", "", config, bootstrap, **file_of(file))
    rows = rows_of(answer) if answer else _read_here(file)
    table = Table("", "name", "type", "shape", box=None)
    for row in rows:
        table.add_row(*(escape(str(row[name])) for name in ("what", "name", "type", "shape")))
    Console().print(table)


def add(
    table: Annotated[Path, typer.Argument(help="A TOML file that says what goes in and comes out.")],
    name: Annotated[str, typer.Option(help="What your filters call it.")],
    readers: Annotated[
        str | None, typer.Option(help="Who else may use it: ann,ben, everybody or nobody.")
    ] = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Send a model of yours, so that your channels can ask it: its table, and the ONNX file beside it.

    Again under the same name it is a new version; a channel goes on with the one that it was made with.

    Example: `zads model add snn.toml --name snn --as ann.ini`
    """
    try:
        text = table.read_text()
        file = table.parent / str(tomllib.loads(text).get("file", table.with_suffix(".onnx").name))
    except (OSError, ValueError) as error:
        raise ZadsError(f"cannot read {table}: {error}") from None
    _ask("add", name, config, bootstrap, table=text, readers=readers_in_words(readers), **file_of(file))


def list_(config: Config = None, bootstrap: Bootstrap = None) -> None:
    """List the models that your channels may ask, with what they give.

    Example: `zads model list --as ann.ini`
    """
    _ask("list", "", config, bootstrap)


def share(
    name: Annotated[str, typer.Argument(help="Of your model.")],
    readers: Annotated[str, typer.Option(help="Who else may use it: ann,ben, everybody or nobody.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Say who may use a model of yours. Channels of those who no longer may are paused.

    Example: `zads model share snn --readers ben --as ann.ini`
    """
    _ask("share", name, config, bootstrap, readers=readers_in_words(readers))


def remove(
    name: Annotated[str, typer.Argument(help="Of your model.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Take a model of yours away, with all its versions. Channels that ask it are paused.

    Example: `zads model remove snn --as ann.ini`
    """
    _ask("remove", name, config, bootstrap)


def _ask(action: str, name: str, config: Path | None, bootstrap: str | None, **wish: Any) -> None:
    """Ask for it, as a user. Raises ZadsError for whoever is none."""
    if answered(action, name, config, bootstrap, kind="model", **wish) is None:
        raise ZadsError(
            "models are kept for users of a secured broker",
            hint="use it with --as, as that user; a filter in a file of your own names a model by its path",
        )


def _read_here(file: Path) -> list[Mapping[str, Any]]:
    from filters.files.sandboxed import file_room

    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ZadsError(f"cannot read {file}: {error.strerror}") from None
    return list(file_room().model(file.name, raw))
