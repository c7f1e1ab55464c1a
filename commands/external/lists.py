"""Lists that people own, in the folder of external information: added, edited, shared, looked at.

A list is a catalogue of places, or a list of objects. Both are small; an edit makes a new version of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from commands.external.catalogues import (
    DEC_NAMES,
    RA_NAMES,
    add_catalogue,
    column_meanings,
    exact,
    in_words_left_out,
    plain_name,
    version_of,
    without_place,
    without_radius,
)
from filters.catalogues.description import Description, describe
from filters.catalogues.objects import ROWS
from filters.external import Store
from filters.external.store import ExternalError, kinds_of
from schemas.errors import near_names

NAME, OBJECT = "name", "objectid"
"""Columns by which rows are known, in small letters."""
Row = Mapping[str, Any]


class Content(NamedTuple):
    """A list's rows, the column by which they are known, where they came from, and how it was added."""

    rows: pd.DataFrame
    key: str
    origin: str
    options: dict[str, Any]


def add_list(
    frame: pd.DataFrame,
    name: str,
    store: Store,
    *,
    described: Mapping[str, tuple[str, str]] | None = None,
    object_column: str = "",
    origin: str = "",
    owner: str = "",
    **options: Any,
) -> str:
    """Add a list, or a new version of one; in words what it is now.

    Parameters
    ----------
    frame
        Its rows. Without positions it is a list of objects.
    name
        What filters call it.
    store
        Where it is kept.
    described
        Column -> unit and meaning.
    object_column
        The column of objectIds; "" where the list has positions, or a column `objectId`.
    origin
        Where the rows came from.
    owner
        Whom to ask about it.
    options
        As for `add_catalogue`.

    Raises
    ------
    ExternalError
        For a table that is no list.
    """
    by, told = object_column or _object_column(frame, options), list[str]()
    if not by:
        options = {"radius": 3.0, "listed": True, **options}
        options |= {"described": described, "origin": origin, "owner": owner, "root": store.root}
        options["tell"] = told.append
        about = add_catalogue(frame, name, **options)
        said = f"{about.rows:,} source{'s' * (about.rows != 1)}, {reach(about)}, version {about.version}"
        return "; ".join([said, *told])
    store.refuse_other(name, {"watchlist"})
    rows = _objects(frame, by, name, told)
    said = _write_objects(rows, plain_name(by), name, store, described or {}, origin, owner)
    return "; ".join([said, *told])


def content(store: Store, name: str) -> Content:
    """What is in a list. Raises NoSuchExternal, ExternalError."""
    about, folder = store.about(name), store.folder(name)
    if about["what"] == "objects":
        rows = pd.read_parquet(folder / ROWS, dtype_backend="numpy_nullable")
        return Content(
            rows,
            about["key"],
            about["source"],
            {"object_column": about["key"], "described": _described(about)},
        )
    known = describe(store, name)
    where = folder / known.primary / "dataset"
    rows = exact(pd.read_parquet(where, columns=list(known.columns), dtype_backend="numpy_nullable"))
    key = next((column for column in rows.columns if column.lower() == NAME), "")
    return Content(rows, key, known.source, _options(known) | {"described": _described(about)})


def edit_list(
    name: str,
    store: Store,
    rows: Sequence[Row] = (),
    drop: Sequence[str] = (),
    *,
    owner: str = "",
    check: Callable[[pd.DataFrame, Mapping[str, Any]], None] = lambda *_: None,
) -> str:
    """Put rows into a list, change some, take some out; in words what it is now.

    Parameters
    ----------
    name
        Of the list.
    store
        Where it is kept.
    rows
        Column -> value. A row that the list has by this name is changed in these columns.
    drop
        Names of rows to be taken out.
    owner
        Whom to ask about it.
    check
        Looks at the rows as they will be, and the options; raises what is wrong.

    Raises
    ------
    ExternalError
        For a column or row that it has not, for a name that several rows have, for a row without a place or
        radius, and for a list whose rows have no names.
    """
    _refuse_catalogue(name, store)
    store.refuse_other(name, {"watchlist"})
    now = content(store, name)
    if not now.key:
        raise ExternalError(f"the rows of {name} have no column '{NAME}' by which they could be told")
    kept = now.rows.set_index(now.rows[now.key].astype(str), drop=False)
    for gone in drop:
        if gone not in kept.index:
            raise ExternalError(f"{name} has no row {gone}; {near_names(gone, kept.index)}")
        _refuse_several(kept, gone, name)
        kept = kept.drop(index=gone)
    for row in rows:
        kept = _with_row(kept, row, now.key, name)
    if kept.empty:
        raise ExternalError(f"nothing would be left of {name}: remove it instead")
    _refuse_incomplete(kept, now.options, name)
    whole = kept.reset_index(drop=True)
    check(whole, now.options)
    return add_list(whole, name, store, origin=now.origin, owner=owner, **now.options)


def _refuse_catalogue(name: str, store: Store) -> None:
    """Raise ExternalError for a catalogue that is no list of targets, and tell how it becomes one."""
    if kinds_of(store.about(name)) == {"catalogue"}:
        raise ExternalError(
            f"'{name}' is a catalogue, not a watchlist, whose rows can be edited; nothing was changed",
            hint="add the file by `zads watchlist add` (in Python: add_catalogue(…, listed=True)),"
            f" under another name or after `zads catalogue remove {name}`",
        )


def reach(about: Description) -> str:
    """How near an alert has to be, in words."""
    if about.radius_column:
        return f"radius of each in {about.radius_column}"
    return f"within {about.radius:g} arcsec"


def _refuse_several(kept: pd.DataFrame, label: str, name: str) -> None:
    """Raise ExternalError where several rows have this name: it does not say which one is meant."""
    if (count := int((kept.index == label).sum())) > 1:
        raise ExternalError(
            f"{count} rows of {name} are called {label}: it cannot be told which one is meant",
            hint="add the list anew, with a name of its own for each row",
        )


def _refuse_incomplete(kept: pd.DataFrame, options: Mapping[str, Any], name: str) -> None:
    """Raise ExternalError for a row without a place or a radius, which no alert would ever match."""
    if "ra" not in options:
        return  # a list of objects
    ra, dec, radius = options["ra"], options["dec"], options["radius_column"]
    if (wrong := without_place(kept, ra, dec)).any():
        raise ExternalError(
            f"{kept.index[wrong][0]} of {name} has no place: {ra}=… from 0 to 360, {dec}=… from -90 to 90"
        )
    if radius and (wrong := without_radius(kept, radius)).any():
        raise ExternalError(
            f"{kept.index[wrong][0]} of {name} has no radius: {radius}=… in arcsec, above 0",
            hint="each row of this list has a radius of its own",
        )


def _with_row(kept: pd.DataFrame, row: Row, key: str, name: str) -> pd.DataFrame:
    if row.get(key) is None:
        raise ExternalError(f"a row of {name} is told by its {key}: {key}=…")
    for column in row:
        if column not in kept.columns:
            raise ExternalError(f"{name} has no column '{column}'; {near_names(column, kept.columns)}")
    label = str(row[key])
    if label not in kept.index:
        fresh = pd.DataFrame([{column: row.get(column) for column in kept.columns}], index=[label])
        fitted = {c: _fitting(fresh[c], kept[c].dtype, name, c, row.get(c)) for c in kept.columns}
        return pd.concat([kept, pd.DataFrame(fitted, index=[label])])
    _refuse_several(kept, label, name)
    changed = kept.copy()
    for column, value in row.items():
        changed[column] = changed[column].astype(object)
        changed.loc[label, column] = value
        changed[column] = _fitting(changed[column], kept[column].dtype, name, column, value)
    return changed


def _fitting(column: pd.Series, kind: Any, name: str, called: str, value: Any) -> pd.Series:
    """A column into which a value has been put, with the type that it had; it may have gaps now."""
    wanted = {"int64": "Int64", "bool": "boolean"}.get(str(kind), kind)
    try:
        return column.astype(wanted)
    except (TypeError, ValueError):
        raise ExternalError(f"{called} of {name} holds {kind}: {value!r} is none") from None


def _object_column(frame: pd.DataFrame, options: Mapping[str, Any]) -> str:
    """The column of objectIds of a table without positions; "" for one with positions."""
    lower = {str(column).lower(): str(column) for column in frame.columns}
    placed = all(any(one in lower for one in names) for names in (RA_NAMES, DEC_NAMES))
    return "" if placed or options.get("ra") else lower.get(OBJECT, "")


def _objects(frame: pd.DataFrame, by: str, name: str, told: list[str]) -> pd.DataFrame:
    """The rows that have an objectId, each once; what is left out is said in `told`."""
    if by not in frame.columns:
        raise ExternalError(f"no column {by!r}; {near_names(by, frame.columns)}")
    rows = frame.rename(columns={c: plain_name(str(c)) for c in frame.columns})
    key = plain_name(by)
    words = rows[key].map(lambda one: None if pd.isna(one) else str(one).strip())
    kept = rows.assign(**{key: words})[words.notna() & (words != "")]
    if kept.empty:
        raise ExternalError(f"no row of {name} has an objectId in {by}")
    once = kept.drop_duplicates(key, keep="last").reset_index(drop=True)
    if said := in_words_left_out(words.isna() | (words == ""), f"an objectId in {by}"):
        told.append(said)
    if again := len(kept) - len(once):
        told.append(f"{again:,} more had the objectId of a later row, which counts")
    return once


def _write_objects(
    rows: pd.DataFrame,
    key: str,
    name: str,
    store: Store,
    described: Mapping[str, tuple[str, str]],
    origin: str,
    owner: str,
) -> str:
    meant = column_meanings(rows, described)
    for column, one in meant.items():
        if one.kind == "text":
            rows[column] = rows[column].map(lambda v: None if pd.isna(v) else str(v)).astype("string")
    version = version_of(rows, repr((name, key, meant)))
    about = {
        "what": "objects",
        "name": name,
        "version": version,
        "rows": len(rows),
        "key": key,
        "columns": {column: asdict(one) for column, one in meant.items()},
        "source": origin,
        "added": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "owner": owner,
    }

    def write(folder: Path) -> None:
        rows.to_parquet(folder / ROWS, index=False)

    store.add(name, version, about, write)
    return f"{len(rows):,} object{'s' * (len(rows) != 1)} by {key}, version {version}"


def _described(about: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {name: (one["unit"], one["meaning"]) for name, one in about["columns"].items()}


def _options(known: Description) -> dict[str, Any]:
    """How a catalogue was added, so that an edit adds it alike. Raises ExternalError."""
    if known.footprint != "all":
        raise ExternalError(f"{known.name} was added with a footprint of its own: add it anew, as a whole")
    motion = known.motion and (known.motion.pmra, known.motion.pmdec, known.motion.epoch)
    return {
        "radius": known.radius,
        "ra": known.ra,
        "dec": known.dec,
        "nulls": {name: list(one.nulls) for name, one in known.columns.items() if one.nulls},
        "radius_column": known.radius_column,
        "motion": motion,
    }
