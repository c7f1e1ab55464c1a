"""What a channel's backtest predicts: the share of the alerts that pass.

What is compared is the share of the alerts that pass, since a night that is not over, or clouds, change
how many there are. The share has left the backtest's when it is beyond those of all its nights by a factor
and by more than chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FACTOR = 3
CHANCE = 0.00135
"""The probability beyond three standard deviations, on one side."""


@dataclass(frozen=True)
class Expected:
    """The least and the greatest share of alerts that passed in a night of a backtest made at `when`."""

    least: float
    most: float
    when: str = ""

    @classmethod
    def of(cls, nights: Iterable[Mapping[str, Any]], when: str = "") -> Expected | None:
        """From the nights of a backtest's report; None when it had no alerts.

        A night of N alerts in which nothing passed does not rule out one in N.
        """
        counts = [(night["alerts"], night["of"]) for night in nights if night["of"]]
        if not counts:
            return None
        return cls(min(n / of for n, of in counts), max(max(n, 1) / of for n, of in counts), when)

    def surprise(self, passed: int, of: int) -> str:
        """What there is to say about `passed` of `of` alerts; "" when that was to be expected."""
        low, high = self.least * of, self.most * of
        many = passed > FACTOR * high and _chance(passed, high) < CHANCE
        few = passed < low / FACTOR and _chance(passed, low) < CHANCE
        if not (many or few):
            return ""
        likely = f"{low:,.3g}" if low == high else f"{low:,.3g} to {high:,.3g}"
        return f"{passed:,} of {of:,} alerts passed, by its backtest {likely} would"


def _chance(counted: int, mean: float) -> float:
    """At most this is the chance of a Poisson count as far from its mean, or farther (Chernoff's bound)."""
    return math.exp(counted - mean - (counted * math.log(counted / mean) if counted else 0.0))
