"""The matches of a replay that the limits of a channel let through.

A sample and a throttle find what they find live: the one goes by the alert, the other by its record's
partition, offset and timestamp. An object's first alert is here the first observed one; live it is the first
that came.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from archive.replay.trial import RECEIVED
from filters.errors import FilterError
from filters.limits import Limits, Passing, let_through


def limited(matches: pd.DataFrame, limits: Limits, channel: str) -> pd.DataFrame:
    """The rows that go through all limits, in their order.

    Parameters
    ----------
    matches
        Of one filter.
    limits
        Of the channel.
    channel
        Its name: a sample depends on it.

    Raises
    ------
    FilterError
        For a throttle of what is not known by its records, or limits that need two orders.
    """
    of = limits.of(channel)
    throttled = limits.throttle_per_hour is not None
    if throttled and (RECEIVED not in matches or matches[RECEIVED].isna().any()):
        raise FilterError(
            "a throttle goes by Kafka's records",
            hint='replay with versions="all" what came through Kafka, not from files',
        )
    if throttled and limits.once:
        raise FilterError(
            "once and throttle_per_hour together go by the order in which the channel's input came,"
            " which no archive has",
            hint="try them one after the other",
        )
    keys = ["_topic", "_partition", "_offset"] if throttled else ["jd", "candid"]
    ordered = matches.sort_values(keys, kind="stable")
    parts = [ordered]
    if throttled:
        parts = [part for _, part in ordered.groupby(["_topic", "_partition"], sort=False)]
    through = [part.index[let_through(of, _passing(part))] for part in parts]
    kept = np.concatenate([np.asarray(index, np.int64) for index in through] or [np.empty(0, np.int64)])
    return matches.loc[np.sort(kept)].reset_index(drop=True)


def _passing(part: pd.DataFrame) -> list[Passing]:
    received = part[RECEIVED].fillna(0).tolist() if RECEIVED in part else [0] * len(part)
    rows = zip(part["candid"].tolist(), part["objectId"], received, part["jd"].tolist(), strict=True)
    return [Passing(candid, name, int(when), jd) for candid, name, when, jd in rows]
