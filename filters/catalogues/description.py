"""What a catalogue is: its place, radius, columns with units and null values, footprint, proper motion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from filters.external.store import ExternalError, Store

Kind = Literal["number", "integer", "text", "flag"]
MADE = {
    "sep": ("number", "arcsec", "distance to the nearest source within the radius"),
    "count": ("integer", "", "how many sources are within the radius"),
    "match": ("flag", "", "whether a source is within the radius"),
    "covered": ("flag", "", "whether the place is inside the catalogue's footprint"),
}
"""Columns that every catalogue has beside its own: kind, unit, meaning."""


@dataclass(frozen=True)
class CatalogueColumn:
    """A column: kind of its values, unit, meaning, and the numbers or words that stand for "missing"."""

    kind: Kind
    unit: str = ""
    meaning: str = ""
    nulls: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Motion:
    """Proper motion: columns in mas/yr (pmra times cos dec), and the epoch of the positions (Julian year)."""

    pmra: str
    pmdec: str
    epoch: float


@dataclass(frozen=True)
class Description:
    """A version of a catalogue.

    name, version: "galex" and twelve digits of a hash over its content. radius, margin: arcsec; sources
    farther than the radius do not match, the margin cache reaches as far as the margin. primary: the HATS
    folder below the catalogue's own. radius_column: each source's own radius in arcsec ("" for none).
    footprint: "all" or a file of HEALPix ranges. source: where it came from. listed: whether it is a
    watchlist, which people edit row by row; None where nobody has said.
    """

    name: str
    version: str
    rows: int
    radius: float
    margin: float
    primary: str
    ra: str
    dec: str
    columns: dict[str, CatalogueColumn]
    motion: Motion | None = None
    radius_column: str = ""
    footprint: str = "all"
    source: str = ""
    added: str = ""
    owner: str = ""
    listed: bool | None = None
    folder: str = field(default="", compare=False)

    def path(self, part: str) -> Path:
        """A file or folder of the catalogue."""
        return Path(self.folder) / part

    @property
    def margins(self) -> Path | None:
        """The folder of the margin cache; None where no source is near a cell's edge."""
        every = (path.parent for path in Path(self.folder).glob("*/hats.properties"))
        return next((folder for folder in every if folder.name != self.primary), None)

    def column(self, name: str) -> CatalogueColumn:
        """A column, its own or made ("sep"). Raises KeyError."""
        if name in MADE:
            kind, unit, meaning = MADE[name]
            return CatalogueColumn(kind, unit, meaning)  # type: ignore[arg-type]
        own = self.columns[name]
        place = {self.ra: "right ascension, ICRS", self.dec: "declination, ICRS"}.get(name)
        if place is None:
            return own
        return replace(own, unit=own.unit or "deg", meaning=own.meaning or place)

    def names(self) -> list[str]:
        """Every column that a filter may read of it, without the catalogue's name."""
        return [*MADE, *self.columns]

    def plain(self) -> dict[str, Any]:
        """As plain values, for the file beside the data."""
        plain = {key: value for key, value in asdict(self).items() if key != "folder"}
        return {"what": "catalogue", **plain}


def read_description(folder: Path, plain: Mapping[str, Any]) -> Description:
    """The description that a catalogue's file in `folder` holds as plain values."""
    values = {key: value for key, value in plain.items() if key != "what"}
    values["columns"] = {
        name: CatalogueColumn(**{**column, "nulls": tuple(column["nulls"])})
        for name, column in plain["columns"].items()
    }
    values["motion"] = Motion(**plain["motion"]) if plain["motion"] else None
    return Description(**values, folder=str(folder))


def describe(store: Store, name: str, version: str = "") -> Description:
    """The description of a catalogue of the store.

    Parameters
    ----------
    store
        Where catalogues are kept.
    name
        Name of the catalogue.
    version
        Its version; "" for the one in use.

    Raises
    ------
    NoSuchExternal
        When the store has no such name or version.
    ExternalError
        When the name belongs to something else than a catalogue.
    """
    about = store.about(name, version)
    if about["what"] != "catalogue":
        raise ExternalError(f"'{name}' is a {about['what']}, not a catalogue")
    return read_description(store.folder(name, version), about)
