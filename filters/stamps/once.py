"""What is calculated of alerts once, though a cut and a value want it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from filters.traced import answer
from filters.view import index_of


@contextmanager
def _noting(alerts: pd.DataFrame) -> Iterator[set[str]]:
    """The columns that are read meanwhile of alerts that note it (`filters.traced`), read before or not."""
    used: set[str] | None = getattr(alerts, "used", None)
    found: set[str] = set()
    before = set(used or ())
    if used is not None:
        used.clear()
    yield found
    if used is not None:
        found |= used
        used |= before


class Remembered:
    """Numbers of each alert, calculated when they are asked for, and once only; for one batch.

    Parameters
    ----------
    function
        Gets some alerts (a frame) and gives a float for each, or a frame with a row for each.
    """

    def __init__(self, function: Callable[[pd.DataFrame], Any]) -> None:
        self._function = function
        self._known: pd.DataFrame | None = None
        self._sources: frozenset[str] = frozenset()

    def __call__(self, alerts: pd.DataFrame, name: Any = 0) -> pd.Series:
        """The numbers of these alerts, on their index; those already known are not calculated again.

        name: which column of the function's frame.
        """
        index = index_of(alerts)
        if not index.is_unique:  # labels do not tell these alerts apart
            return pd.Series(self._calculated(alerts, index)[name].to_numpy(), index=index)
        known = self._known
        new = np.ones(len(index), bool) if known is None else ~np.asarray(index.isin(known.index))
        if new.any() or known is None:
            with _noting(alerts) as used:
                fresh = self._calculated(alerts if new.all() else alerts[new], index[new])
            known = self._known = fresh if known is None or known.empty else pd.concat([known, fresh])
            self._sources |= used
        return answer(alerts, known.loc[index, name].to_numpy(), self._sources)

    def _calculated(self, alerts: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
        values = self._function(alerts)
        if isinstance(values, pd.DataFrame):
            return values.set_axis(index, axis=0)
        return pd.DataFrame({0: np.asarray(values, float)}, index=index)
