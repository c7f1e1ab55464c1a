"""Parameters of filters: thresholds with units, changed by value and never by code."""

import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from filters.errors import BadParameter, FilterError
from filters.tables import is_table, read_table
from schemas.errors import near_names

KINDS = (bool, int, float, str)


@dataclass(frozen=True)
class Parameter:
    """One threshold: default, unit ("" for a pure number or a word), and the kind of value."""

    default: Any
    unit: str = ""
    kind: type = float

    def __str__(self) -> str:
        return f"{self.default} {self.unit}".strip()


def parameters_of(function: Callable[..., Any], inherited: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The keyword parameters of a filter's function, after those it inherits.

    Raises FilterError for a signature that is not `f(alerts, *, name: Annotated[kind, "unit"] = default)`.
    """
    name = getattr(function, "__name__", "filter")
    everything = list(inspect.signature(function).parameters.values())
    first, others = everything[:1], everything[1:]
    if not first or first[0].kind not in (first[0].POSITIONAL_ONLY, first[0].POSITIONAL_OR_KEYWORD):
        raise FilterError(f"{name} must take the alerts as its first argument")
    hints = typing.get_type_hints(function, include_extras=True)
    takes_others = any(p.kind is p.VAR_KEYWORD for p in others)
    if takes_others != bool(inherited):
        raise FilterError(f"{name}: **others in the signature and extends=... belong together")
    own = {p.name: _parameter(name, p, hints.get(p.name)) for p in others if p.kind is not p.VAR_KEYWORD}
    for twice in own.keys() & inherited.keys():
        raise FilterError(f"{name}: parameter {twice} is inherited: leave it out, or give it another name")
    return {**inherited, **own}


def _parameter(function: str, p: inspect.Parameter, hint: Any) -> Parameter:
    if p.kind is not p.KEYWORD_ONLY or p.default is p.empty:
        raise FilterError(f"{function}: parameter {p.name} must come after * and have a default")
    unit = ""
    if typing.get_origin(hint) is Annotated:
        hint, unit, *_ = typing.get_args(hint)
    kind = hint if hint in KINDS else type(p.default)
    if kind not in KINDS or not isinstance(unit, str):
        raise FilterError(f'{function}: write {p.name}: Annotated[float, "unit"] = number')
    return Parameter(_value(f"{function}: {p.name}", kind, p.default), unit, kind)


def with_values(
    filter_name: str, parameters: Mapping[str, Parameter], old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    """The old values, replaced by the new ones where there are any; each new one is checked.

    Parameters
    ----------
    filter_name
        For error messages.
    parameters
        The filter's parameters by name.
    old
        Values by name.
    new
        Other values by name; text, as from a command line, is read as the parameter's kind. A table of values
        by a column (`filters.tables`) is one too.

    Raises
    ------
    BadParameter
        For an unknown name or a value of another kind.
    """
    values = dict(old)
    for name, value in new.items():
        if name not in parameters:
            raise BadParameter(f"{filter_name} has no parameter '{name}'; {near_names(name, parameters)}")
        values[name] = _value_or_table(f"{filter_name}: {name}", parameters[name], value)
    return values


def _value_or_table(what: str, parameter: Parameter, value: Any) -> Any:
    if is_table(value) and (parameter.kind is not str or isinstance(value, Mapping)):
        one = partial(_value, what, parameter.kind, unit=parameter.unit)
        return read_table(what, value, parameter.default, one)
    return _value(what, parameter.kind, value, parameter.unit)


def _value(what: str, kind: type, value: Any, unit: str = "") -> Any:
    """The value as its kind; text as from a command line or a configuration is read."""
    wrong = BadParameter(f"{what} is {_KIND_NAMES[kind]}{f' in {unit}' if unit else ''}, not {value!r}")
    if kind is str:
        if not isinstance(value, str):
            raise wrong
        return value
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        found = value if isinstance(value, bool) else words.get(str(value).strip().lower())
        if found is None:
            raise wrong
        return found
    if isinstance(value, bool):
        raise wrong
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise wrong from None
    if math.isnan(number) or (kind is int and not number.is_integer()):
        raise wrong
    return int(number) if kind is int else number


_KIND_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
