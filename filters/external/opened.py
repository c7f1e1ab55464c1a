"""One catalogue, region or collection of sky maps, ready to be asked about alerts.

What a kind needs is imported where one is opened: astropy, mocpy and scipy take 0.6 s, a third of what a
command or a worker takes to begin, and most use none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from filters.external.store import FILE, ExternalError
from filters.external.types import TYPES
from schemas.errors import NoSuchColumn


class Opened(Protocol):
    """What each kind can do."""

    @property
    def kinds(self) -> Mapping[str, tuple[str, str, str]]:
        """Column -> kind of its values, unit, meaning."""

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray
    ) -> Mapping[str, Any]:
        """Columns of some alerts, by name.

        Parameters
        ----------
        names
            Columns of `kinds`.
        ra
            Right ascension of the alerts, (n,) degrees.
        dec
            Declination, (n,) degrees.
        jd
            Time, (n,) days UTC.
        """


class _Catalogue:
    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        from filters.catalogues.columns import Crossmatch
        from filters.catalogues.description import read_description

        self._matcher = Crossmatch(read_description(folder, about))
        described = self._matcher.about
        columns = {name: described.column(name) for name in described.names()}
        self.kinds = {
            name: (c.kind, c.unit, c.meaning or f"{name} of {described.source}")
            for name, c in columns.items()
        }

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray
    ) -> Mapping[str, Any]:
        return self._matcher.columns(names, ra, dec, jd)


class _Region:
    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        from filters.regions import area

        self.kinds = area.COLUMNS
        self._columns, self._area = area.columns, area.Area(np.load(folder / about["ranges"]))

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray
    ) -> Mapping[str, Any]:
        return self._columns(self._area, names, ra, dec)


class _SkyMaps:
    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        from filters.regions import skymaps
        from filters.regions.skymap import read_fits

        self.kinds = skymaps.COLUMNS
        maps = [
            read_fits((folder / one["file"]).read_bytes(), one["event"], one["number"], one.get("jd"))
            for one in about["maps"]
        ]
        self._maps = skymaps.SkyMaps(maps, about["window"])

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray
    ) -> Mapping[str, Any]:
        return self._maps.columns(names, ra, dec, jd)


class _Objects:
    """A list of objects by name: its columns are of the alert's object, wherever that is."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        from filters.catalogues.objects import ObjectList

        self._list = ObjectList(folder, about)
        self.kinds = self._list.kinds

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray
    ) -> Mapping[str, Any]:
        return self.of_objects(names, pd.array([None] * len(ra), "str"))

    def of_objects(self, names: Sequence[str], objects: Any) -> Mapping[str, Any]:
        return self._list.columns(names, objects)


_KINDS: dict[str, Callable[[Path, dict[str, Any]], Opened]] = {
    "catalogue": _Catalogue,
    "objects": _Objects,
    "region": _Region,
    "skymaps": _SkyMaps,
}
"""What -> how it is opened. Another kind is another line."""


@lru_cache(maxsize=64)
def opened(folder: str) -> Opened:
    """A version, opened once a process: it never changes. Raises ExternalError."""
    try:
        about = json.loads((Path(folder) / FILE).read_text())
        return _KINDS[about["what"]](Path(folder), about)
    except (OSError, ValueError, KeyError) as error:
        raise ExternalError(f"{folder} cannot be read: {error!r}") from error


def series(
    name: str, one: Opened, names: Sequence[str], place: Sequence[np.ndarray], objects: Any = None
) -> dict[str, Any]:
    """Columns of a catalogue, region or sky map by dotted name; types are the same in every batch.

    Parameters
    ----------
    name
        Its name, the part before the dot.
    one
        The catalogue, region or sky map.
    names
        Columns to make, without its name.
    place
        Right ascension and declination ((n,) degrees each) and time ((n,) days UTC) of the alerts.
    objects
        Their objectId, (n,) text; None: they are of none.

    Raises
    ------
    NoSuchColumn
        For a column that it does not have.
    """
    for column in names:
        if column not in one.kinds:
            raise NoSuchColumn(f"{name}.{column}", [f"{name}.{known}" for known in one.kinds])
    if isinstance(one, _Objects) and objects is not None:
        made = one.of_objects(names, objects)
    else:
        made = one.columns(names, *place)
    return {
        f"{name}.{column}": pd.Series(made[column], dtype=TYPES[one.kinds[column][0]]).array
        for column in names
    }
