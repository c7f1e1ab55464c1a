"""The matches of a replay as the channel ran: each record judged by the parameters that were in force at
its offset.

`replay` tries every set of parameters that was in force on all records; here each record keeps the verdict of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from archive.read.archive import Archive
from archive.read.fragments import WHOLE
from archive.replay.records import Records
from archive.replay.trial import SOURCE
from filters.errors import FilterError


@dataclass(frozen=True)
class Span(Records):
    """Records of a partition that were judged by one filter.

    variant: its number among those of the replay; None: the channel was off. high: None, it is in force
    still.
    """

    variant: int | None


def as_ran(matches: pd.DataFrame, spans: Sequence[Span]) -> pd.DataFrame:
    """The rows whose filter was in force where their record is, in their order.

    Parameters
    ----------
    matches
        Of all filters of a replay with versions="all".
    spans
        Which filter was in force where; none overlap.

    Raises
    ------
    FilterError
        For matches that do not say which records they are.
    """
    if not {*SOURCE} <= set(matches.columns):
        raise FilterError("a replay as it ran goes by Kafka's records", hint='replay with versions="all"')
    keep = np.zeros(len(matches), bool)
    offset, variant = matches["_offset"].to_numpy(float, na_value=np.nan), matches["variant"].to_numpy()
    for span in spans:
        if span.variant is None:
            continue
        keep |= span.among(matches["_topic"], matches["_partition"], offset) & (variant == span.variant)
    return matches[keep].reset_index(drop=True)


@dataclass(frozen=True)
class Night:
    """Of the records of a night the topics, how many alerts there are, and of how many only a file's record.

    night: None for alerts without a date.
    """

    night: date | None
    topics: frozenset[str]
    alerts: int
    from_files: int


def recorded(archive: Archive, nights: Any, public: bool) -> list[Night]:
    """Where the records of each night came from: a topic of Kafka, or files.

    Parameters
    ----------
    archive
        The archive.
    nights
        As of a replay.
    public
        Only of alerts that are public.
    """
    view = archive.view(("_topic",), public=public)
    found = []
    for night, pieces in groupby(archive.select(view, nights, "all", WHOLE), lambda piece: piece.night):
        table = pd.concat([frame for piece in pieces for frame, *_ in view.batches(piece)])
        told = table["_topic"].notna()
        kept = set(table["candid"][told].tolist())
        every = set(table["candid"].tolist())
        topics = frozenset(table["_topic"][told].unique().tolist())
        found.append(Night(night, topics, len(every), len(every - kept)))
    return found
