"""Yield against threshold: what each set of values of a replay brings, and with the truth how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from archive.read.archive import Versions
from archive.replay.results import Replay
from filters.errors import FilterError
from filters.scoring import Answer, Score, read_truth, score

if TYPE_CHECKING:
    from filters import Filter


def sweep(
    found: Replay, truth: pd.DataFrame | str | Path | None = None, seeks: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row a filter of the replay.

    Parameters
    ----------
    found : Replay
        Of a filter with several values of its parameters.
    truth : pandas.DataFrame or path, optional
        The table that `zads simulate` writes.
    seeks : sequence of str, optional
        Classes that the filter is for; those it is known for where they are left out.

    Returns
    -------
    pandas.DataFrame
        filter (its label), the parameters whose values differ, alerts, objects, share (of all alerts),
        gained and lost (alerts, against the first row), and with the truth completeness and purity
        (of alerts, 0 to 1) and object_completeness (objects of which some alert passes, 0 to 1). The units of
        the parameters are in its `attrs["units"]`.

    Raises
    ------
    FilterError
        With a truth: when nobody says what the filter seeks, for a file that is no truth table, and for a
        replay of parts of nights.
    """
    judged = None if truth is None else scores(found, truth, seeks)
    table = pd.DataFrame([_row(found, number, judged) for number in range(len(found.filters))])
    table.attrs["units"] = {n: p.unit for f in found.filters for n, p in f.parameters.items() if p.unit}
    return table


def scores(
    found: Replay, truth: pd.DataFrame | str | Path, seeks: Sequence[str] | None = None
) -> list[Score]:
    """Each filter of the replay beside the truth.

    Parameters
    ----------
    found : Replay
        Of whole nights.
    truth : pandas.DataFrame or path
        The table that `zads simulate` writes.
    seeks : sequence of str, optional
        Classes that the filters are for; those they are known for where they are left out.

    Raises
    ------
    FilterError
        See `sweep`.
    """
    table = truth if isinstance(truth, pd.DataFrame) else read_truth(truth)
    asked = _asked(found)
    return [
        score(f.name, table, Answer(asked, frozenset(found.of(number)["candid"].tolist())), seeks)
        for number, f in enumerate(found.filters)
    ]


def swept(filters: Sequence[Filter]) -> list[str]:
    """The parameters whose values differ among some filters."""
    names = dict.fromkeys(name for f in filters for name in f.values)
    return [name for name in names if len({repr(f.values.get(name)) for f in filters}) > 1]


def _row(found: Replay, number: int, judged: Sequence[Score] | None) -> dict[str, Any]:
    f, own = found.filters[number], found.of(number)
    change = found.compare(0, number)
    row: dict[str, Any] = {"filter": found.labels[number]}
    row |= {name: f.values.get(name) for name in swept(found.filters)}
    row |= {"alerts": len(own), "objects": own["objectId"].nunique()}
    row |= {"share": len(own) / found.alerts if found.alerts else 0.0}
    row |= {"gained": len(change.gained), "lost": len(change.lost)}
    if judged is not None:
        one = judged[number]
        row |= {"completeness": one.completeness, "purity": one.purity}
        row |= {"object_completeness": one.object_completeness}
    return row


def _asked(found: Replay) -> frozenset[int]:
    """The candids that every filter was asked about. Raises FilterError when it was not the whole nights."""
    nights = sorted({str(one.night) for one in found.sums if one.night is not None})
    versions = cast(Versions, found.versions)
    frame = found.archive.alerts(nights or None, [], public=found.public, versions=versions).compute(
        scheduler="threads"
    )
    if len(frame) != found.alerts:
        raise FilterError(
            f"the filters were asked about {found.alerts:,} of the {len(frame):,} alerts of these nights",
            hint="completeness wants whole nights: without a cone, and not ended early",
        )
    return frozenset(frame["candid"].tolist())
