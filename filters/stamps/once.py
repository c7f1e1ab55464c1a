"""What is calculated of alerts once, though a cut and a value want it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from filters.traced import answer
from filters.view import index_of


class Remembered:
    """A number for each alert, calculated when it is asked for, and once only; for one batch.

    Parameters
    ----------
    function
        Gets some alerts (a frame) and gives a float for each.
    """

    def __init__(self, function: Callable[[pd.DataFrame], Any]) -> None:
        self._function = function
        self._known = pd.Series(dtype=float)
        self._sources: frozenset[str] = frozenset()

    def __call__(self, alerts: pd.DataFrame) -> pd.Series:
        """The numbers of these alerts, on their index; those already known are not calculated again."""
        index = index_of(alerts)
        if not index.is_unique:  # labels do not tell these alerts apart
            return pd.Series(np.asarray(self._function(alerts), float), index=index)
        new = ~np.asarray(index.isin(self._known.index))
        if new.any():
            before = set(getattr(alerts, "used", ()))
            values = np.asarray(self._function(alerts if new.all() else alerts[new]), float)
            fresh = pd.Series(values, index=index[new])
            self._known = fresh if self._known.empty else pd.concat([self._known, fresh])
            self._sources |= set(getattr(alerts, "used", ())) - before
        return answer(alerts, self._known.loc[index].to_numpy(), self._sources)
