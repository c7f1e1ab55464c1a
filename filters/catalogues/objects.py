"""A list of objects by their objectId, for who follows objects and not places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from filters.catalogues.description import CatalogueColumn
from filters.external.types import TYPES

ROWS = "rows.parquet"
MATCH = "match"


class ObjectList:
    """A version of a list, in memory.

    Parameters
    ----------
    folder
        Where its rows are.
    about
        What the file beside them says: the column of names, `key`, and what all columns mean.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.key = str(about["key"])
        columns = {
            name: CatalogueColumn(**{**one, "nulls": tuple(one["nulls"])})
            for name, one in about["columns"].items()
        }
        source = about.get("source", "")
        self.kinds: dict[str, tuple[str, str, str]] = {
            MATCH: ("flag", "", "whether the alert's object is in the list")
        }
        for name, one in columns.items():
            self.kinds[name] = one.kind, one.unit, one.meaning or f"{name} of {source}"
        self.rows = pd.read_parquet(folder / ROWS, dtype_backend="numpy_nullable")
        self._of = pd.Index(self.rows[self.key].astype(object))

    def columns(self, names: Sequence[str], objects: Any) -> dict[str, pd.Series]:
        """Columns of the list's rows about some objects, missing where it has none.

        Parameters
        ----------
        names
            Of `kinds`.
        objects
            (n,) objectIds.
        """
        wanted = pd.Series(objects).astype(object)
        row = self._of.get_indexer(wanted.where(wanted.notna(), None))
        there = row >= 0
        made: dict[str, pd.Series] = {}
        for name in names:
            if name == MATCH:
                made[name] = pd.Series(there)
                continue
            kind = self.kinds[name][0]
            values = self.rows[name].take(row.clip(0)).reset_index(drop=True).mask(~there)
            values = values.fillna(False) if kind == "flag" else values
            made[name] = values.astype("Float64" if kind == "number" else TYPES[kind])
        return made
