"""A folder of catalogues: ROOT/NAME/VERSION/…, and ROOT/NAME/current, which names the version in use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from filters.catalogues.description import FILE, CatalogueError, Description, read_description
from schemas.errors import near_names

_CURRENT = "current"


class NoSuchCatalogue(CatalogueError):
    """No catalogue of that name, or no such version of it."""


def default_root() -> Path:
    """ZADS_CATALOGUES, else `catalogues` in ZADS_HOME (~/.zads)."""
    home = Path(os.environ.get("ZADS_HOME") or Path.home() / ".zads")
    return Path(os.environ.get("ZADS_CATALOGUES") or home / "catalogues")


class Catalogues:
    """The catalogues of a folder. root: ZADS_CATALOGUES or ~/.zads/catalogues where it is left out."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = default_root() if root is None else Path(root)

    def names(self) -> list[str]:
        """Those that are in use, sorted."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{_CURRENT}"))

    def versions(self, name: str) -> list[str]:
        """The versions of a catalogue that are there, the oldest first."""
        made = [path.parent for path in (self.root / name).glob(f"*/{FILE}")]
        return [path.name for path in sorted(made, key=lambda path: (path / FILE).stat().st_mtime_ns)]

    def describe(self, name: str, version: str = "") -> Description:
        """A catalogue, the version in use or the one named. Raises NoSuchCatalogue, CatalogueError."""
        if not (self.root / name / _CURRENT).is_file():
            raise NoSuchCatalogue(
                f"no catalogue '{name}' in {self.root}; {near_names(name, self.names())}",
                hint="`zads catalogue add FILE --name NAME` adds one",
            )
        chosen = version or (self.root / name / _CURRENT).read_text().strip()
        if not (self.root / name / chosen / FILE).is_file():
            known = ", ".join(self.versions(name))
            raise NoSuchCatalogue(f"the catalogue '{name}' has no version {chosen} (there are {known})")
        return read_description(self.root / name / chosen)

    def use(self, name: str, version: str) -> None:
        """Make a version the one in use, at once for everybody who asks from now on."""
        pointer = self.root / name / _CURRENT
        fresh = pointer.with_suffix(f".{os.getpid()}")
        fresh.write_text(version + "\n")
        fresh.replace(pointer)

    def remove(self, name: str) -> None:
        """Take a catalogue away with all its versions. Raises NoSuchCatalogue."""
        self.describe(name)
        (self.root / name / _CURRENT).unlink()
        shutil.rmtree(self.root / name)
