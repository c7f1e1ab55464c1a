"""The dictionary: every column that a filter may read, its unit, meaning and how missing values look.

Meanings are those of the surveys' own schemas; those of computed columns are ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.errors import near_names
from schemas.surveys.registry import SURVEYS, survey_named
from schemas.surveys.survey import COMMON, Survey

_UNIT = re.compile(r"\s*\[([^\]]+)\]\s*\.?$")
_UNITS = {"days": "d", "day": "d", "pixels": "pix", "pixel": "pix", "sec": "s", "degrees": "deg", "DN": "DN"}
_COMPUTED = {
    "fluxerr": ("nJy", "error of `flux`"),
    "mag": ("mag", "magnitude of the difference flux, whatever its sign"),
    "magerr": ("mag", "error of `mag`"),
    "usable": ("", "forced photometry that is there and was processed without a warning"),
    "point": ("", "forced photometry as pictures show it: where the signal is three times its error"),
    "pointerr": ("", "error of `point`"),
    "ssdistnr": ("arcsec", "distance to the nearest known solar-system object; missing where there is none"),
}
_COMMON_UNITS = {"jd": "d", "ra": "deg", "dec": "deg", "mag": "mag", "magerr": "mag", "night": "d"}
_MEANINGS = "meanings.json"
EVERY_SURVEY = "every survey"
"""The survey of a word that is the same for all of them."""
_PATTERN_WORDS = {"mag": "magpsf", "magnitude": "magpsf", "error": "sigmapsf", "date": "jd", "time": "jd"}


@dataclass(frozen=True)
class Word:
    """One column. kind: "number", "whole number", "text", "true or false". origin: "stored", what it is
    computed from, or "external". missing: how a filter sees that there is no value. history: where it has a
    row an epoch."""

    name: str
    survey: str
    kind: str
    unit: str
    meaning: str
    origin: str
    missing: str
    history: str = ""


def dictionary(survey: str = "ztf") -> list[Word]:
    """Every column that a filter of this survey may read, in the order of the survey. Raises NoSuchColumn."""
    return list(words_of(survey).values())


@lru_cache(maxsize=8)
def words_of(survey: str) -> Mapping[str, Word]:
    """Name -> word. Raises NoSuchColumn for no survey."""
    of = survey_named(survey)
    meanings = _meanings(of)
    return {name: _word(of, name, meanings) for name in of.names()}


def matching(pattern: str, survey: str | None = None, others: Iterable[Word] = ()) -> list[Word]:
    """The words whose name or meaning has the pattern, letters' case aside; those named so come first.

    Parameters
    ----------
    pattern
        A regular expression.
    survey
        Whose words; every survey's where left out.
    others
        More words to look through.

    Raises
    ------
    NoSuchColumn
        For no survey.
    """
    surveys = SURVEYS if survey is None else [survey]
    wanted = re.compile(pattern, re.IGNORECASE)
    every = [*(word for name in surveys for word in dictionary(name)), *others]
    named = [word for word in every if wanted.search(word.name)]
    return named + [word for word in every if word not in named and wanted.search(word.meaning)]


def near_words(name: str, survey: str = "ztf") -> str:
    """Names that `name` may be a misspelling of, as the end of a sentence."""
    return near_names(_PATTERN_WORDS.get(name, name), words_of(survey))


def _word(of: Survey, name: str, meanings: Mapping[str, str]) -> Word:
    history, column = of.split(name)
    how = of.how(name)
    if how is not None:
        origin = f"computed from {', '.join(f'`{need}`' for need in of.inputs(name))}"
        unit, meaning = _of_computed(of, column)
        kind, missing = _kind_computed(column), _missing_computed(column)
        return Word(name, of.name, kind, unit, meaning, origin, missing, history or "")
    told = meanings.get(of.path(name), "") or meanings.get(f"{of.candidate}.{column}", "")
    found = _UNIT.search(told)
    unit = _UNITS.get(found[1], found[1]) if found and ".." not in found[1] else ""
    meaning = _UNIT.sub("", told) if found else told
    if not meaning and not history and column in COMMON:
        meaning = COMMON[column].rpartition("; ")[2]
    kind = of.arrow_type(name)
    value = kind.value_type if history else kind
    return Word(
        name, of.name, _kind(value), unit, meaning, "stored", _missing(of, name, value), history or ""
    )


def _of_computed(of: Survey, column: str) -> tuple[str, str]:
    if column in COMMON and column not in _COMPUTED:
        meaning = COMMON[column].rpartition("; ")[2]
        if column == "night":
            meaning = "the observing night: whole days since 2017-01-01 of the UT date" + (
                f" {of.night_shift * 24:g} hours earlier" if of.night_shift else ""
            )
        unit = of.flux_unit if column == "flux" else _COMMON_UNITS.get(column, "")
        return unit, meaning
    unit, meaning = _COMPUTED.get(column, ("", ""))
    return _COMMON_UNITS.get(column, unit), meaning


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind):
        return "whole number"
    return "number" if pa.types.is_floating(kind) or pa.types.is_timestamp(kind) else "text"


def _kind_computed(column: str) -> str:
    if column in ("positive", "usable"):
        return "true or false"
    if column in ("band", "objectId"):
        return "text"
    return "whole number" if column in ("exposure", "candid", "night") else "number"


def _missing_computed(column: str) -> str:
    return "false" if column in ("positive", "usable") else "null" if column == "band" else "NaN"


def _missing(of: Survey, name: str, kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "false"
    seen = "null" if _kind(kind) == "text" or (pa.types.is_integer(kind) and kind.bit_width > 32) else "NaN"
    sentinel = of.sentinel(name)
    return seen if sentinel is None else f"{seen} (stored as {sentinel!r})"


def _meanings(of: Survey) -> dict[str, str]:
    """Dotted path -> what the survey's schema says of it."""
    file = Path(__file__).parent / "surveys" / of.name / _MEANINGS
    told: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    return dict(_docs(of.reference, "")) | told


def _docs(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from _docs(branch, path)
    elif isinstance(schema, Mapping):
        for field in schema.get("fields", ()):
            where = f"{path}{field['name']}"
            if isinstance(field.get("doc"), str):
                yield where, " ".join(field["doc"].split())
            yield from _docs(field["type"], f"{where}.")
        for inner in ("items", "type"):
            if isinstance(schema.get(inner), (Mapping, list)):
                yield from _docs(schema[inner], path)
