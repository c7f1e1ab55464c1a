"""From what a filter's function returned to plain booleans: check, evaluate on survivors, count."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from filters.column import Column
from filters.errors import BadCut
from filters.view import AlertView, index_of


def evaluate(name: str, alerts: pd.DataFrame, returned: Any) -> dict[str, np.ndarray]:
    """The cuts as boolean arrays by name, one value an alert of the batch.

    A cut that is a callable is given only the alerts that passed the cuts before it, and is false for all
    others.

    Parameters
    ----------
    name
        Name of the filter, for error messages.
    alerts
        The frame that the filter was given, one row an alert.
    returned
        What the filter returned: a dictionary of named cuts.

    Raises
    ------
    BadCut
        When it is no such dictionary, or for a cut that is not one boolean an alert; names the filter and the
        cut.
    """
    if not isinstance(returned, Mapping):
        raise BadCut(f"{name} must return a dictionary of named cuts, not {type(returned).__name__}")
    index = index_of(alerts)
    alive = np.ones(len(index), bool)
    found: dict[str, np.ndarray] = {}
    for cut, value in returned.items():
        what = f"{name}: the cut '{cut}'"
        if callable(value) and not isinstance(value, Column):
            mask = _of_survivors(what, alerts, alive, value)
        else:
            mask = boolean(what, value, index)
        found[str(cut)] = mask
        alive &= mask
    return found


def _of_survivors(what: str, alerts: pd.DataFrame, alive: np.ndarray, cut: Callable[..., Any]) -> np.ndarray:
    mask = np.zeros(len(alerts), bool)
    if alive.any():
        survivors = alerts if alive.all() else AlertView(alerts[alive], map(str, alerts))
        mask[alive] = boolean(what, cut(survivors), index_of(survivors))
    return mask


def boolean(what: str, value: Any, index: pd.Index) -> np.ndarray:
    """A cut as a plain boolean array; a missing value is false.

    Parameters
    ----------
    what
        Name of the filter and the cut, for error messages.
    value
        The cut: a boolean Series on the batch's index, or a boolean array, (n,).
    index
        The batch's index, n rows.

    Raises
    ------
    BadCut
        For anything but true and false on the batch's index.
    """
    if isinstance(value, Column):
        raise BadCut(
            f"{what} has one value an epoch, not one an alert: end it with .any(), .all() or .count()"
        )
    if isinstance(value, pd.Series):
        if value.index is not index and not value.index.equals(index):
            raise BadCut(
                f"{what} has an index of its own ({len(value)} rows), not that of the {len(index)} alerts"
            )
        values: Any = value.to_numpy() if value.dtype == bool else value.array
    elif isinstance(value, np.ndarray):
        values = value
    else:
        raise BadCut(f"{what} is {_described(value)}, not a boolean Series on the alerts' index")
    if values.shape != (len(index),):
        raise BadCut(f"{what} has shape {values.shape} for {len(index)} alerts")
    if isinstance(values, np.ndarray) and values.dtype == bool:
        return values
    return _with_missing(what, values)


def _with_missing(what: str, values: Any) -> np.ndarray:
    """Booleans of a type that also has NA: missing is false."""
    try:
        nullable = pd.array(values, dtype="boolean") if str(values.dtype) == "object" else values
        if str(nullable.dtype) in ("boolean", "bool[pyarrow]", "bool"):
            return np.asarray(nullable.to_numpy(dtype=bool, na_value=False))
    except (TypeError, ValueError) as error:
        raise BadCut(f"{what} is not boolean: {error}") from error
    raise BadCut(f"{what} is {values.dtype}, not boolean: end it with a comparison")


def _described(value: Any) -> str:
    return f"one value ({value!r})" if np.isscalar(value) else type(value).__name__


def funnel(alerts: pd.DataFrame, cuts: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Rows "all" and each cut; columns cut, alerts, objects (distinct objectId) left after it."""
    left = np.ones(len(alerts), bool)
    rows = [("all", *_counts(alerts, left))]
    for cut, mask in cuts.items():
        left = left & mask
        rows.append((cut, *_counts(alerts, left)))
    return pd.DataFrame(rows, columns=["cut", "alerts", "objects"])


def _counts(alerts: pd.DataFrame, mask: np.ndarray) -> tuple[int, int]:
    return int(mask.sum()), int(alerts["objectId"][mask].nunique())
