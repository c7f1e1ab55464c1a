"""Yield against threshold: what each set of values of a replay brings, and with the truth how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from archive.replay.results import Replay
from filters.scoring import Answer, score

if TYPE_CHECKING:
    from filters import Filter


def sweep(
    found: Replay, truth: pd.DataFrame | None = None, seeks: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row a filter of the replay.

    Parameters
    ----------
    found : Replay
        Of a filter with several values of its parameters.
    truth : pandas.DataFrame, optional
        The table that `zads simulate` writes.
    seeks : sequence of str, optional
        Classes that the filter is for; those it is known for where they are left out.

    Returns
    -------
    pandas.DataFrame
        filter (its label), the parameters whose values differ, alerts, objects, share (of all alerts),
        gained and lost (alerts, against the first row), and with the truth completeness and purity
        (of alerts, 0 to 1).

    Raises
    ------
    FilterError
        With a truth, when nobody says what the filter seeks.
    """
    asked = None if truth is None else _asked(found)
    rows = [_row(found, number, truth, asked, seeks) for number in range(len(found.filters))]
    return pd.DataFrame(rows)


def swept(filters: Sequence[Filter]) -> list[str]:
    """The parameters whose values differ among some filters."""
    names = dict.fromkeys(name for f in filters for name in f.values)
    return [name for name in names if len({repr(f.values.get(name)) for f in filters}) > 1]


def _row(
    found: Replay,
    number: int,
    truth: pd.DataFrame | None,
    asked: frozenset[int] | None,
    seeks: Sequence[str] | None,
) -> dict[str, Any]:
    f, own = found.filters[number], found.of(number)
    change = found.compare(0, number)
    row: dict[str, Any] = {"filter": found.labels[number]}
    row |= {name: f.values.get(name) for name in swept(found.filters)}
    row |= {"alerts": len(own), "objects": own["objectId"].nunique()}
    row |= {"share": len(own) / found.alerts if found.alerts else 0.0}
    row |= {"gained": len(change.gained), "lost": len(change.lost)}
    if truth is not None and asked is not None:
        passed = frozenset(own["candid"].tolist())
        result = score(f.name, truth, Answer(asked, passed), seeks)
        row |= {"completeness": result.completeness, "purity": result.purity}
    return row


def _asked(found: Replay) -> frozenset[int]:
    """The candids that every filter was asked about."""
    nights = sorted({str(one.night) for one in found.sums if one.night is not None})
    frame = found.archive.alerts(nights or None, [], public=found.public).compute(scheduler="threads")
    return frozenset(frame["candid"].tolist())
