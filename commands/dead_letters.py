"""`zads dead-letters`: what could not be delivered, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from commands.shared.options import Bootstrap, Config, counted, paper, people
from schemas.json_text import to_json

if TYPE_CHECKING:
    from pipeline.broker.dead_letters import DeadLetter
    from schemas.packets.anatomy import Anatomy

_LONGEST = 60


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        name="dead-letters", help="What could not be delivered, and why.", no_args_is_help=True
    )
    group.command("list")(list_)
    group.command("show")(show)
    app.add_typer(group)


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a dead letter and line.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the last so many.")] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """List what could not be delivered: why, and where the original is.

    Example: `zads dead-letters list --json | jq .reason`
    """
    # A night of refused packets is gigabytes: the list does without their bytes.
    letters = [replace(letter, value=b"") for letter in _letters(bootstrap, config)]
    shown = letters if limit is None else letters[-limit:]
    if as_json:
        for letter in shown:
            print(to_json(letter.as_json()))
        return
    if not letters:
        people.print("no dead letters")
        return
    _print_table(shown)
    people.print(_counts(letters))


def show(
    where: Annotated[
        str, typer.Argument(help="TOPIC/PARTITION/OFFSET, a file's name, or the number in the list.")
    ],
    save: Annotated[Path | None, typer.Option(help="File to write the original's bytes to.")] = None,
    schema_source: Annotated[
        str | None,
        typer.Option(
            "--schemas", help="Folder or registry URL with the schemas of Confluent-framed packets."
        ),
    ] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Show one dead letter: everything that is known of it, and what of its packet can be read.

    Example: `zads dead-letters show ztf_20231012_programid1/3/4711 --save bad.avro`
    """
    from commands.shared.bootstrap import schemas
    from pipeline.broker.dead_letters import find
    from schemas.packets.anatomy import dissect

    source = schemas(schema_source, config)
    found = find(_letters(bootstrap, config), where)
    for letter in found:
        _print_headers(letter)
    # Letters from one place hold the same packet, whatever channels it failed in.
    original = _original(found[0], bootstrap, config)
    if original:
        _print_anatomy(dissect(original, source), len(original))
    if save is not None:
        save.write_bytes(original)
        people.print(f"{len(original):,} bytes in {save}")


def _letters(bootstrap: str | None, config: Path | None) -> Iterator[DeadLetter]:
    from commands.shared.bootstrap import connection
    from pipeline.broker.dead_letters import dead_letters

    broker, kafka = connection(bootstrap, config)
    return dead_letters(broker, **kafka)


def _original(letter: DeadLetter, bootstrap: str | None, config: Path | None) -> bytes:
    """The packet's bytes: in the letter, or for one that was too large where it came from."""
    from commands.shared.bootstrap import connection
    from pipeline.broker.dead_letters import original

    broker, kafka = connection(bootstrap, config)
    return original(letter, broker, **kafka)


def _print_table(letters: list[DeadLetter]) -> None:
    table = Table(
        "no.", "reason", "stage", "channel", "where it is", "candid", "objectId", "detail", box=None
    )
    for letter in letters:
        detail = letter.detail if len(letter.detail) <= _LONGEST else letter.detail[: _LONGEST - 1] + "…"
        cells = (letter.number, letter.reason, letter.stage, letter.channel, letter.source)
        texts = [
            "" if cell is None else str(cell) for cell in (*cells, letter.candid, letter.objectId, detail)
        ]
        table.add_row(*texts)
    paper(markup=False, highlight=False).print(table)


def _counts(letters: list[DeadLetter]) -> str:
    reasons = Counter(letter.reason for letter in letters)
    return f"{len(letters):,} dead letters: " + ", ".join(
        f"{n:,} {reason}" for reason, n in reasons.most_common()
    )


def _print_headers(letter: DeadLetter) -> None:
    known = {name: value for name, value in letter.as_json().items() if value is not None}
    for name, value in (known | letter.headers).items():
        print(f"{name:<10} {value}")
    print()


def _print_anatomy(anatomy: Anatomy, size: int) -> None:
    print(f"packet     {size:,} bytes, framing: {anatomy.framing}")
    print(
        f"schema     {anatomy.schema or 'cannot be read'}"
        + (f", {anatomy.fields} fields" if anatomy.schema else "")
    )
    print(f"stopped    {anatomy.stopped or 'nowhere: the whole packet can be read'}")
    for name, value in anatomy.leading.items():
        print(f"  {name:<28} {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list):
        return counted(len(value), "row")
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
