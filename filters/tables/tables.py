"""A parameter whose value depends on the alert: `{"by": "band", "g": 0.7, "r": 0.6, "else": 0.65}`.

It is plain data, so that it travels in configuration, headers and the registry like any value. A filter never
sees it: the batch is divided by the values that its alerts get, and the filter judges each part with plain
numbers. By the law of filters, f(a ++ b) = f(a) ++ f(b), that is the same as judging each alert by its own.

A table by several columns at once joins them: `{"by": "rcid+band", "15+g": 31, "else": 30}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from filters.errors import BadParameter
from filters.view import column_of, index_of
from schemas.time import FIRST_NIGHT

BY, ELSE = "by", "else"
MOST = 1_000
"""Entries of a table: what is larger is a catalogue."""

WHOLE_EXPOSURES = ("band", "fid", "field", "rcid", "detector", "night", "exposure")
"""Columns that are the same for all alerts of an exposure."""

_TEXT = re.compile(r"([A-Za-z_][\w.]*(?:\+[A-Za-z_][\w.]*)*):(.*=.*)", re.DOTALL)
_AND = "+"
Values = Mapping[str, Any]


def columns_of(table: Values) -> tuple[str, ...]:
    """The columns by which a table goes."""
    return tuple(str(table[BY]).split(_AND))


def key_of(values: Iterable[Any]) -> str:
    """What a table calls the alerts with these values of its columns."""
    return _AND.join(map(_key, values))


def is_table(value: Any) -> bool:
    """Whether a parameter's value is a table: a mapping, or `band:g=0.7,r=0.6,else=0.65` as text."""
    return isinstance(value, Mapping) or (isinstance(value, str) and _TEXT.fullmatch(value) is not None)


def read_table(what: str, value: Any, default: Any, checked: Callable[[Any], Any]) -> dict[str, Any]:
    """A table as it is kept: `by`, the column; its values as text -> a number; `else`.

    Parameters
    ----------
    what
        Whose, for error messages.
    value
        A mapping, or text as from a command line.
    default
        Stands for `else` where the table has none.
    checked
        What turns an entry into a value of the parameter's kind, or raises BadParameter.

    Raises
    ------
    BadParameter
        For a table without a column or entries, or with too many.
    """
    if isinstance(value, str):
        found = _TEXT.fullmatch(value)
        assert found is not None
        pairs = [pair.partition("=") for pair in found[2].split(",")]
        if any(not key.strip() or not equals for key, equals, _ in pairs):
            raise BadParameter(f"{what}: a table is written band:g=0.7,r=0.6,else=0.65, not {value!r}")
        value = {BY: found[1], **{key.strip(): entry.strip() for key, _, entry in pairs}}
    by = value.get(BY)
    entries = {str(key): entry for key, entry in value.items() if key not in (BY, ELSE)}
    if not isinstance(by, str) or not entries:
        raise BadParameter(f'{what}: a table names its column and has entries: {{by = "band", g = 0.7}}')
    if len(entries) > MOST:
        raise BadParameter(
            f"{what}: {len(entries)} entries, {MOST} are allowed: a larger table is a catalogue"
        )
    keys = {_night(key) if by == "night" else key: checked(entry) for key, entry in entries.items()}
    return {BY: by, **dict(sorted(keys.items())), ELSE: checked(value.get(ELSE, default))}


def _night(key: str) -> str:
    """A night's number; it may be given as its date."""
    try:
        return str((date.fromisoformat(key) - FIRST_NIGHT).days)
    except ValueError:
        return key


def text_of(value: Any) -> str:
    """A value for people and command lines: a table as band:g=0.7,r=0.6,else=0.65."""
    if not isinstance(value, Mapping):
        return str(value)
    entries = [(key, value[key]) for key in sorted(value.keys() - {BY, ELSE})] + [(ELSE, value[ELSE])]
    return f"{value[BY]}:" + ",".join(f"{key}={entry}" for key, entry in entries)


class Group(NamedTuple):
    """Alerts that get the same values. rows: bool (n,); values: plain ones."""

    rows: np.ndarray
    values: dict[str, Any]


def groups(alerts: pd.DataFrame, values: Values) -> list[Group]:
    """The batch divided by the values that its alerts get; one group at least, also of a batch without
    alerts.

    Parameters
    ----------
    alerts
        The batch; it has the columns that the tables name.
    values
        The parameters' values, tables among them.
    """
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    count = len(index_of(alerts))
    found = [Group(np.ones(count, bool), dict(values))]
    for name, table in tables.items():
        keys = _joined([_keys(column_of(alerts, column)) for column in columns_of(table)])
        found = [part for group in found for part in _divided(group, name, table, keys)]
    kept = [group for group in found if group.rows.any()]
    return kept or found[-1:]


def each_value(values: Values) -> list[dict[str, Any]]:
    """The values with each entry of each table in its place, one table at a time; last with all `else`."""
    plain = {name: value[ELSE] if isinstance(value, Mapping) else value for name, value in values.items()}
    found = [
        {**plain, name: entry}
        for name, table in values.items()
        if isinstance(table, Mapping)
        for entry in dict.fromkeys(value for key, value in table.items() if key not in (BY, ELSE))
    ]
    return [*found, plain]


def _divided(group: Group, name: str, table: Values, keys: _Keys) -> list[Group]:
    """A group by the values that one table gives; the last one has what the table does not name."""
    entries = {key: value for key, value in table.items() if key not in (BY, ELSE)}
    rest, parts = group.rows.copy(), []
    for value in dict.fromkeys(entries.values()):
        named = keys.among([key for key, entry in entries.items() if entry == value])
        if value != table[ELSE]:
            parts.append(Group(group.rows & named, {**group.values, name: value}))
            rest &= ~named
    return [*parts, Group(rest, {**group.values, name: table[ELSE]})]


class _Keys(NamedTuple):
    """Each alert's value as text: `words[codes]`; the last word is that of what is missing."""

    codes: np.ndarray
    words: np.ndarray

    def among(self, keys: list[str]) -> np.ndarray:
        """(n,) bool: the alerts whose value is one of these."""
        return np.array([word in keys for word in self.words], bool)[self.codes]


def _joined(columns: list[_Keys]) -> _Keys:
    """The values of several columns as one text each."""
    whole = columns[0]
    for one in columns[1:]:
        last = len(one.words) - 1
        codes = np.where(whole.codes < 0, len(whole.words) - 1, whole.codes) * len(one.words)
        words = [f"{first}{_AND}{second}" for first in whole.words for second in one.words]
        whole = _Keys(codes + np.where(one.codes < 0, last, one.codes), np.array(words, object))
    return whole


def _keys(column: pd.Series) -> _Keys:
    numbers = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    values: Any = column.to_numpy(dtype=float, na_value=np.nan) if numbers else column.astype(object)
    codes, different = pd.factorize(values, use_na_sentinel=True)
    return _Keys(codes, np.array([*map(_key, different), ""], object))


def _key(value: Any) -> str:
    """A value as a table names it."""
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)
