"""`zads columns`: every column that a filter may read, and the page of all of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.shared.options import Json, people
from schemas.json_text import to_json

if TYPE_CHECKING:
    from schemas.dictionary import Word

_SHORTEST = {"computed from": "computed"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("columns")(columns)


def columns(
    pattern: Annotated[
        str,
        typer.Argument(help="A regular expression: in names first, then in meanings.", show_default="all"),
    ] = "",
    survey: Annotated[str | None, typer.Option(help="ztf, lsst.", show_default="every survey")] = None,
    as_json: Json = False,
    page: Annotated[
        Path | None, typer.Option(help="Write the page of all columns to this file (docs/columns.md).")
    ] = None,
) -> None:
    """List the columns that a filter may read: unit, meaning, how it is missing.

    Those of catalogues, regions and sky maps that are there (ZADS_EXTERNAL) are among them.

    Example: `zads columns sgscore`
    """
    from filters.external.externals import Externals
    from schemas.dictionary import matching, near_words

    if page is not None:
        page.write_text(whole_page())
        people.print(f"{page} written", highlight=False)
        return
    found = matching(pattern, survey, Externals().words())
    if as_json:
        print(to_json([asdict(word) for word in found], indent=2))
    elif found:
        Console().print(_table(found, one_survey=len({word.survey for word in found}) == 1))
    else:
        people.print(
            f"no column has {pattern!r} in its name or meaning; {near_words(pattern, survey or 'ztf')}"
        )
        raise typer.Exit(1)


def _table(words: list[Word], one_survey: bool) -> Table:
    table = Table(*(() if one_survey else ("survey",)), "column", "unit", "meaning", "missing", box=None)
    for word in words:
        meaning = word.meaning + ("" if word.origin == "stored" else f" [dim]({word.origin})[/]")
        cells = (f"[bold]{word.name}", escape(word.unit), meaning.strip(), escape(word.missing))
        table.add_row(*(() if one_survey else (word.survey,)), *cells)
    return table


def whole_page() -> str:
    """docs/columns.md: every survey's columns, and what histories can be asked."""
    from schemas.dictionary import dictionary
    from schemas.surveys.registry import SURVEYS

    parts = [_HEAD]
    for name, survey in SURVEYS.items():
        parts.append(f"## {survey.title}\n")
        parts.append(_rows([word for word in dictionary(name) if not word.history]))
        for history in survey.histories:
            parts.append(f"### `{history}`: one row an epoch\n")
            parts.append(_rows([word for word in dictionary(name) if word.history == history]))
    parts.append(_HISTORIES)
    return "\n".join(parts)


def _rows(words: list[Word]) -> str:
    lines = ["| column | kind | unit | meaning | missing |", "|---|---|---|---|---|"]
    for word in words:
        origin = "" if word.origin == "stored" else f" ({word.origin})"
        cells = (f"`{word.name}`", word.kind, word.unit, word.meaning + origin, word.missing)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


_HEAD = """# Every column that a filter may read

Made by `zads columns --page docs/columns.md`; `zads columns PATTERN` looks one up. Meanings are those of the
surveys' schemas. "Missing" is how a filter sees that there is no value: a comparison with it is false. What a
survey stores as -999 or the like is missing too. Whole numbers of 32 bits are shown as numbers with NaN.

`night` means one thing: whole days since 2017-01-01 of the observing night, for ZTF the UT date (`nid`), for
Rubin the date of UTC - 12 h. As a date it names topics, partitions of the archive and `--nights`.
"""

_HISTORIES = """## What histories can be asked

`past = history(alerts, "prv_candidates")` has a row an epoch before the alert. A name gives a column, a mask
chooses rows, and these give one value an alert:

| what | gives |
|---|---|
| `past["magpsf"]` | the column, one value an epoch |
| `past[past["magpsf"].notna()]` | the epochs that were detected |
| `past.alert["jd"]` | the alert's own value on each of its epochs |
| `past.count()` | how many epochs |
| `past.any()` | whether there is one |
| `past["magpsf"].min()`, `.max()`, `.mean()`, `.std()` | of each alert's epochs; NaN without one |
| `past["jd"].first()`, `.last()` | at the earliest and the latest epoch |
| `past.once_an_exposure()` | one row an exposure |
| `past.by_time()` | each alert's epochs in the order of time |
| `past.frame()` | plain pandas, indexed by (candid, row) |
"""
