"""Finding filters: those that come with zads (filters/<survey>/*.py), and anybody's file or module."""

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import cloudpickle

from filters.contract import BROKEN, Filter
from filters.errors import BadFile, FilterError, UnknownFilter
from filters.expressions.filter import expression, is_expression
from filters.external.externals import Externals, external_names
from filters.external.store import NoSuchExternal
from schemas.errors import ZadsError, near_names
from schemas.surveys.registry import SURVEYS


def registered(survey: str | None = None) -> dict[str, Filter]:
    """Name -> filter, for those that come with zads, in the order of their names.

    survey: only those for its alerts.
    """
    return {name: f for name, f in _built_in().items() if survey is None or survey in f.surveys}


@cache
def _built_in() -> dict[str, Filter]:
    """The filters in filters/<survey>/*.py."""
    every: dict[str, Filter] = {}
    here = Path(__file__).parent
    for survey in SURVEYS:
        for info in pkgutil.iter_modules([str(here / survey)], f"filters.{survey}."):
            every |= filters_of(importlib.import_module(info.name))
    return dict(sorted(every.items()))


def filters_of(module: ModuleType) -> dict[str, Filter]:
    """The filters that a module defines (not those that it imports)."""
    every = {f.name: f for f in vars(module).values() if isinstance(f, Filter)}
    return {name: f for name, f in every.items() if f.function.__module__ == module.__name__}


def load(where: str) -> Filter:
    """A filter by "name", "path/to/file.py:function", "package.module:function", or an expression.

    The function's name may be left out of a file or module that defines one filter only. A name that is no
    filter and no module, but a column, is an expression of this flag alone: `positive`, `targets.match`.
    Raises UnknownFilter, which lists the names that are near, BadExpression, and BadFile for what a user's
    file raises, with its line; a function of the file that is no filter does not harm the others.
    """
    if is_expression(where):
        return expression(where)
    place, _, name = where.rpartition(":") if ":" in where else (where, "", "")
    if place.endswith(".py"):
        module, broken = _module_of_file(Path(place))
        return pick(where, filters_of(module), name, broken)
    if name:
        return pick(where, filters_of(_module(where, place)), name)
    try:
        return pick(where, filters_of(_module(where, place)), "") if "." in place else _registered(where)
    except UnknownFilter:
        if not _is_column(where):
            raise
    return expression(f"({where})")


def _registered(name: str) -> Filter:
    known = registered()
    if name not in known:
        raise UnknownFilter(
            f"no filter '{name}'; {near_names(name, known)}",
            hint="`zads filters` lists them; a filter of your own is path/to/file.py:function",
        )
    return known[name]


def _is_column(name: str) -> bool:
    """Whether a survey has this column, or a list, catalogue, region or sky map that is here.

    Raises NoSuchColumn for a column that a list or catalogue of this name does not have.
    """
    if any(name in survey.names() for survey in SURVEYS.values()):
        return True
    if not external_names([name]):
        return False
    try:
        Externals().check([name])
    except NoSuchExternal:
        return False
    return True


def filter_or_expression(named: str, where: str) -> str:
    """What a person chose: a filter by name or an expression, "" for neither. Raises FilterError for both.

    A flag alone, such as `targets.match`, comes back in brackets: nobody takes it for the name of a filter.
    """
    if named and where:
        raise FilterError(f"choose one: the filter {named}, or the expression {where!r}")
    if where and not is_expression(where):
        expression(where)  # says what is wrong with it
        return f"({where})"
    return named or where


def pick(
    where: str, found: dict[str, Filter], name: str, broken: Mapping[str, Exception] | None = None
) -> Filter:
    """The filter that is asked for, of those of a file or module.

    Parameters
    ----------
    where
        The file or module, for messages; "FILE:FUNCTION" too.
    found
        Its filters by name.
    name
        The one that is asked for; "" for the only one.
    broken
        Those that could not be made, and why.

    Raises
    ------
    UnknownFilter
        When there is no such filter, or no name and not just one; else what `broken` says of it.
    """
    if broken and (name in broken or not (name or found)):
        raise broken[name] if name else next(iter(broken.values()))
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        asked = f"no filter '{name}'" if name else f"{len(found)} filters"
        raise UnknownFilter(f"{asked} in '{where.rpartition(':')[0] or where}'; {near_names(name, found)}")
    return found[name]


def _module(where: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # the module is there, and imports one that is not
        hint = None if ":" in where else f"nor is there a list or catalogue for a flag ({where}) here"
        raise UnknownFilter(f"no module '{name}' for the filter '{where}'", hint=hint) from error


def _module_of_file(path: Path) -> tuple[ModuleType, dict[str, ZadsError]]:
    """The module of a user's file, executed again; its filters travel to other processes by value.

    With it its functions that should be filters and are none, and why. Raises BadFile for what it raises.
    """
    if not path.is_file():
        raise UnknownFilter(f"no file {path} to load a filter from")
    name = f"zads_user_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    broken: dict[str, ZadsError] = {}
    token = BROKEN.set(broken)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ZadsError) or not isinstance(error, Exception):
            raise
        raise _located(path, error) from error
    finally:
        BROKEN.reset(token)
    cloudpickle.register_pickle_by_value(module)
    for f in filters_of(module).values():
        f.version  # noqa: B018  # of the text and the constants as they are now
    return module, broken


def _located(path: Path, error: Exception) -> BadFile:
    """What a user's file raised, with the line of the file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename) == path]
    line = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
    where = f"{path}, line {line}" if line is not None else str(path)
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return BadFile(f"{where}: {type(error).__name__}: {words}")
