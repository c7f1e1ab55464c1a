"""Values that a filter computes beside its cuts and that reach the reader: a separation, a score, a rate.

    @alert_filter(reads=["magpsf", "stars.sep"], gives={"sep": "arcsec", "class": "text"})
    def near(alerts):
        return {"near": alerts["stars.sep"] < 2}, {"sep": alerts["stars.sep"], "class": lambda passing: ...}

A value has the same type in every batch: a number (float64, missing as NaN) with a unit, or text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from filters.column import Column
from filters.errors import BadValue, FilterError
from filters.view import AlertView, index_of
from schemas.frame import TEXT

WORDS = "text"
"""Stands for a unit where a value is text."""


class Judged:
    """What a filter says of a batch.

    Parameters
    ----------
    mask
        (n,) bool, true where every cut is.
    values
        Of the alerts that pass: a column for each name in `gives`, a row for each, in their order. None for
        a filter that gives none.
    """

    def __init__(self, mask: np.ndarray, values: pd.DataFrame | None = None) -> None:
        self.mask, self._values = mask, values

    @property
    def values(self) -> pd.DataFrame:
        """A row for each alert that passes, made when it is asked for: it costs more than most filters."""
        if self._values is None:
            self._values = pd.DataFrame(index=pd.RangeIndex(int(self.mask.sum())))
        return self._values


def declared(gives: Mapping[str, str] | None) -> dict[str, str]:
    """`gives` as declared, checked. Raises FilterError."""
    for name, unit in (gives or {}).items():
        if not isinstance(name, str) or not name.isidentifier() or not isinstance(unit, str):
            raise FilterError(
                f'gives={{"{name}": …}}: a name of a value and its unit ("" for none, "text" for words)'
            )
    return dict(gives or {})


def split(name: str, returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """The cuts and the values that a function returned. Raises BadValue."""
    if not isinstance(returned, tuple):
        return returned, {}
    if len(returned) != 2 or not isinstance(returned[1], Mapping):
        raise BadValue(f"{name} must return its cuts, or its cuts and a dictionary of values")
    return returned


def of_passing(
    name: str, alerts: pd.DataFrame, mask: np.ndarray, given: Mapping[str, Any], gives: Mapping[str, str]
) -> pd.DataFrame:
    """The values of the alerts that pass.

    Parameters
    ----------
    name
        Of the filter, for messages.
    alerts
        The batch, (n,) rows.
    mask
        (n,) bool, who passes.
    given
        Value -> a Series on the batch's index, or a callable from the passing alerts to one on theirs.
    gives
        Value -> unit, as declared.

    Raises
    ------
    BadValue
        When what is given is not what was declared, or not one value an alert.
    """
    if given.keys() != gives.keys():
        odd = ", ".join(sorted(given.keys() ^ gives.keys()))
        raise BadValue(f"{name}: gives={{…}} and the values that are returned differ in {odd}")
    passing: AlertView | None = None
    columns: dict[str, Any] = {}
    for value, unit in gives.items():
        one = given[value]
        if is_lazy(one):
            passing = passing if passing is not None else AlertView(alerts[mask], map(str, alerts))
            columns[value] = _typed(name, value, one(passing), index_of(passing), unit)
        else:
            columns[value] = _typed(name, value, one, index_of(alerts), unit)[mask]
    return pd.DataFrame(columns, index=pd.RangeIndex(int(mask.sum())), copy=False)


def is_lazy(given: Any) -> bool:
    """Whether a value is computed of the passing alerts only."""
    return callable(given) and not isinstance(given, pd.Series | Column)


def none_of(gives: Mapping[str, str]) -> pd.DataFrame:
    """The values of no alert."""
    return pd.DataFrame(
        {name: pd.array([], TEXT if unit == WORDS else "float64") for name, unit in gives.items()}
    )


def _typed(name: str, value: str, given: Any, index: pd.Index, unit: str) -> Any:
    what = f"{name}: the value '{value}'"
    if isinstance(given, Column):
        raise BadValue(f"{what} has one value an epoch, not one an alert: end it with .max(), .last(), ...")
    if isinstance(given, pd.Series) and not given.index.equals(index):
        raise BadValue(
            f"{what} has an index of its own ({len(given)} rows), not that of the {len(index)} alerts"
        )
    array: Any = given.array if isinstance(given, pd.Series) else given
    if np.ndim(array) != 1 or len(array) != len(index):
        raise BadValue(f"{what} is not one value for each of the {len(index)} alerts")
    try:
        if unit == WORDS:
            return pd.array(array, dtype=TEXT)
        return pd.Series(array).to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise BadValue(f"{what} is no {'text' if unit == WORDS else 'number'}: {error}") from error


def as_json(values: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row as plain JSON values: what is missing (or infinite) is None."""
    columns = [[_plain(value) for value in values[name].astype(object)] for name in values.columns]
    names = [str(name) for name in values.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, bool | int | str) else None
