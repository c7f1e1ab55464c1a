"""The surveys that zads knows: each folder here with a `SURVEY`, and the modules that ZADS_SURVEYS names."""

import copyreg
import importlib
import os
import pkgutil
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from schemas.errors import NoSuchColumn
from schemas.surveys import strangers
from schemas.surveys.arrow import root_name
from schemas.surveys.survey import COMMON, Survey

SURVEYS: dict[str, Survey] = {}
"""Name -> survey. `register` adds one."""

_MODULES: dict[str, str] = {}

MORE = "ZADS_SURVEYS"
"""Environment variable: modules with a `SURVEY` that are not in this folder, separated by commas."""


def register(survey: Survey) -> Survey:
    """Make a survey known. Raises NoSuchColumn when it lacks one of the columns that all surveys have."""
    there = set(survey.names())
    for name in COMMON:
        if name not in there:
            raise NoSuchColumn(name, there)
    SURVEYS[survey.name] = survey
    _having.cache_clear()
    return survey


def survey_named(name: str) -> Survey:
    """The survey of this name. Raises NoSuchColumn for one that zads does not know."""
    try:
        return SURVEYS[name]
    except KeyError:
        raise NoSuchColumn(name, SURVEYS, what="survey") from None


def survey_having(names: Iterable[str]) -> str:
    """The survey that has most of these columns; ZTF where several have as many, or none has any.

    names: as filters write them; what is of no survey, such as "galex.sep", says nothing.
    """
    return _having(tuple(names))


@lru_cache(maxsize=4096)
def _having(names: tuple[str, ...]) -> str:
    counts = {name: sum(map(survey.has, names)) for name, survey in SURVEYS.items()}
    return max(counts, key=lambda name: (counts[name], name == "ztf"))


def module_of(name: str) -> str:
    """The module where a survey's room begins; "" for one that was registered by hand."""
    return _MODULES.get(name, "")


def survey_of(schema: Any) -> str:
    """Whose packets have this writer schema: "ztf", "lsst", "pgir", "winter", "turbo", ... or "unknown"."""
    for survey in SURVEYS.values():
        if survey.recognises(schema):
            return survey.name
    root = root_name(schema) if isinstance(schema, Mapping) else ""
    return root if root in strangers.NAMES else "unknown"


def survey_of_packet(packet: Mapping[str, Any]) -> Survey | None:
    """Whose packet this is, as a plain dictionary; None for an unknown survey."""
    for survey in SURVEYS.values():
        if isinstance(packet.get(survey.candidate), Mapping):
            return survey
    return None


def topics_pattern(names: Iterable[str] | None = None) -> str:
    """A regular expression for the topics of these surveys, or of all."""
    chosen = SURVEYS.values() if names is None else [survey_named(name) for name in names]
    return f"^({'|'.join(survey.topics.pattern for survey in chosen)})$"


def survey_of_topic(topic: str) -> str | None:
    """The survey whose topics are called so; None for any other topic."""
    names = (name for name, survey in SURVEYS.items() if re.fullmatch(survey.topics.pattern, topic))
    return next(names, None)


def program_of_topic(topic: str) -> tuple[Survey, int] | None:
    """The survey and program that a topic is named for; None for a topic that names none."""
    for survey in SURVEYS.values():
        program = survey.topics.program_of(topic)
        if program is not None:
            return survey, program
    return None


def _find() -> None:
    rooms = [info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]) if info.ispkg]
    elsewhere = os.environ.get(MORE, "").split(",")
    for module in [*(f"schemas.surveys.{name}" for name in rooms), *filter(None, elsewhere)]:
        survey = register(importlib.import_module(module).SURVEY)
        _MODULES[survey.name] = module


# To another process a survey goes by its name.
copyreg.pickle(Survey, lambda survey: (survey_named, (survey.name,)))
_find()
