"""The matches of a replay as one table: which alert, where and when, by which filter, on which values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa

from archive.layout import table_schema
from archive.replay.funnels import NightSum
from archive.replay.trial import RECEIVED, SOURCE, facts_maker, value_columns
from filters import Filter
from filters.external.externals import Externals, external_names
from filters.external.store import NoSuchExternal
from filters.values import WORDS, none_of
from schemas.dictionary import Word
from schemas.surveys.registry import survey_named
from schemas.time import SECONDS, UNIX_0

_MEANINGS = {
    "filter": "the filter that the alert passes",
    "version": "of the filter: changes when its verdict may",
    "parameters": "of the filter, JSON",
}
_WHOLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
"""Integers with missing values stay integers: as floats, candids would lose their last digits."""


def match_columns(survey: str) -> list[str]:
    """Columns of the matches, before the values that the filters read; replayed with versions="all" there are
    also those of the source record."""
    field = survey_named(survey).public.field
    program = [] if field is None else [field]
    where = ["ra", "dec", "jd", "utc", "band", "mag", "magerr"]
    return ["candid", "objectId", *where, "night", *program, "filter", "version", "parameters"]


def matches_of(
    filters: Sequence[Filter],
    nights: Sequence[NightSum],
    sources: bool,
    survey: str,
    values: Sequence[str] = (),
) -> pd.DataFrame:
    """One row an alert and filter, ordered by filter, night and candid.

    Parameters
    ----------
    filters
        Numbered as the column `variant` of the nights' matches does.
    nights
        What each night came to.
    sources
        With the columns that name the source record.
    survey
        Whose alerts these are.
    values
        Columns that they carry beside what the filters read and give.
    """
    tables = [
        table.append_column("night", pa.repeat(pa.scalar(one.night, pa.date32()), table.num_rows))
        for one in nights
        for table in one.matches
    ]
    own = (*SOURCE, RECEIVED) if sources else ()
    field = survey_named(survey).public.field
    program = () if field is None else (field,)
    types = table_schema(survey)
    kinds = {n: types.field(n).type for n in ("candid", "objectId", *program, *own)}
    kinds |= {RECEIVED: pa.int64()} if sources else {}
    kinds |= {"variant": pa.int32(), "night": pa.date32()}
    nothing = [_nothing(f, survey, kinds, values) for f in filters]  # so that every column is there
    whole = pa.concat_tables([*tables, *nothing], promote_options="permissive").combine_chunks()
    number = whole["variant"].to_numpy()
    frame = whole.drop_columns(["night"]).to_pandas(types_mapper=_WHOLE.get)
    frame = frame.astype({"candid": "int64", "variant": "int32", **dict.fromkeys(program, "Int32")})
    frame["night"] = whole["night"].cast(pa.timestamp("s")).to_numpy()
    frame["utc"] = _moments(frame["jd"])
    for name, texts in (
        ("filter", [f.name for f in filters]),
        ("version", [f.version for f in filters]),
        ("parameters", [json.dumps(dict(f.values), sort_keys=True) for f in filters]),
    ):
        frame[name] = pd.array(texts, dtype="str").take(number)
    order = np.lexsort([frame["candid"], frame["night"], frame["variant"]])
    first = match_columns(survey)
    others = {name for name in frame.columns if name not in (*first, *own, "variant")}
    read = (name for f in filters for name in (*(f.reads or ()), *value_columns(f)))
    shown = [name for name in dict.fromkeys((*read, *values)) if name in others]
    return frame[[*first, *shown, *own, "variant"]].iloc[order].reset_index(drop=True)


def _nothing(f: Filter, survey: str, kinds: Mapping[str, pa.DataType], values: Sequence[str]) -> pa.Table:
    """The matches of a filter that none passes: no row, and all columns with their types."""
    try:
        facts = facts_maker(f, survey, values=values).of_packets([])
    except NoSuchExternal:  # removed since
        facts = pd.DataFrame()
    given = none_of(f.gives).set_axis(value_columns(f), axis=1)
    own = [pa.Table.from_pandas(one, preserve_index=False) for one in (facts, given)]
    columns = {name: table[name] for table in own for name in table.column_names}
    return pa.table({**columns, **{name: pa.array([], kind) for name, kind in kinds.items()}})


def match_words(filters: Sequence[Filter], survey: str, values: Sequence[str] = ()) -> dict[str, Word]:
    """What the columns of the matches are that no survey has: those of the replay, the filters' values, and
    those of catalogues, regions and sky maps.

    Parameters
    ----------
    filters
        Of the replay.
    survey
        Whose alerts.
    values
        Columns that the matches carry beside what the filters read and give.
    """
    told = [Word(name, survey, "text", "", meaning, "replay", "") for name, meaning in _MEANINGS.items()]
    for f in filters:
        for name, (given, unit) in zip(value_columns(f), f.gives.items(), strict=True):
            kind, missing = ("text", "null") if unit == WORDS else ("number", "NaN")
            meaning = f"value {given} of {f.name}"
            told.append(Word(name, survey, kind, "" if unit == WORDS else unit, meaning, "value", missing))
    read = (name for f in filters for name in (f.reads or ()))
    for head in dict.fromkeys(name.partition(".")[0] for name in external_names((*read, *values))):
        with suppress(NoSuchExternal):  # removed since
            told += Externals().words([head])
    return {word.name: word for word in told}


def _moments(jd: pd.Series) -> pd.Series:
    """Julian dates (days, UTC) as moments, to a millisecond."""
    milliseconds = ((jd - UNIX_0) * SECONDS * 1000).round()
    return pd.to_datetime(milliseconds, unit="ms", errors="coerce").astype("datetime64[ms]")
