"""What a catalogue is: its place, radius, columns with units and null values, footprint, proper motion."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filters.errors import FilterError

FILE = "zads.json"
NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
Kind = Literal["number", "integer", "text", "flag"]
MADE = {
    "sep": ("number", "arcsec", "distance to the nearest source within the radius"),
    "count": ("integer", "", "how many sources are within the radius"),
    "match": ("flag", "", "whether a source is within the radius"),
    "covered": ("flag", "", "whether the place is inside the catalogue's footprint"),
}
"""Columns that every catalogue has beside its own: kind, unit, meaning."""


class CatalogueError(FilterError):
    """A catalogue cannot be read, or not be used as asked."""


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
    farther than the radius do not match, the margin cache reaches as far as the margin. primary, margins:
    HATS folders below the catalogue's own. radius_column: each source's own radius in arcsec ("" for none).
    footprint: "all" or a file of HEALPix ranges. source: where it came from.
    """

    name: str
    version: str
    rows: int
    radius: float
    margin: float
    primary: str
    margins: str
    ra: str
    dec: str
    columns: dict[str, CatalogueColumn]
    motion: Motion | None = None
    radius_column: str = ""
    footprint: str = "all"
    source: str = ""
    added: str = ""
    owner: str = ""
    folder: str = field(default="", compare=False)

    def path(self, part: str) -> Path:
        """A file or folder of the catalogue."""
        return Path(self.folder) / part

    def column(self, name: str) -> CatalogueColumn:
        """A column, its own or made ("sep"). Raises KeyError."""
        if name in MADE:
            kind, unit, meaning = MADE[name]
            return CatalogueColumn(kind, unit, meaning)  # type: ignore[arg-type]
        return self.columns[name]

    def names(self) -> list[str]:
        """Every column that a filter may read of it, without the catalogue's name."""
        return [*MADE, *self.columns]

    def write(self, folder: Path) -> None:
        """Write the description beside the data."""
        plain = {key: value for key, value in asdict(self).items() if key != "folder"}
        (folder / FILE).write_text(json.dumps(plain, indent=1))


def read_description(folder: Path) -> Description:
    """The description in a catalogue's folder. Raises CatalogueError."""
    try:
        plain = json.loads((folder / FILE).read_text())
    except (OSError, ValueError) as error:
        raise CatalogueError(f"the catalogue at {folder} cannot be read: {error}") from None
    plain["columns"] = {
        name: CatalogueColumn(**{**column, "nulls": tuple(column["nulls"])})
        for name, column in plain["columns"].items()
    }
    plain["motion"] = Motion(**plain["motion"]) if plain["motion"] else None
    return Description(**plain, folder=str(folder))
