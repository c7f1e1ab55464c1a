"""A folder of external information: ROOT/NAME/VERSION/…, and ROOT/NAME/current: the version in use.

A version never changes: its name is a hash over its content. So whoever has read one may keep it.

What a user owns is called OWNER__LIST, and ROOT/NAME/access.json says who may read it. Within `seen_by` the
lists that a user may not read are as if they were not there; elsewhere (an operator, the pipeline) all are.
Within `kept_in` everything that names no folder looks into that one.
"""

from __future__ import annotations

import json
import keyword
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from filters.errors import FilterError
from schemas.errors import near_names
from schemas.frame import may_be_external
from schemas.surveys.registry import SURVEYS

FILE = "zads.json"
NAME = re.compile(r"[a-z][a-z0-9_]{0,90}")
_CURRENT, _ACCESS, _LEFT = "current", "access.json", ".left-"
KEPT_DAYS = 30
"""So long a version of a user's list or model is kept that is not in use, and that no channel names."""
_RESERVED = {"coords": "", "annotations": "", "skymaps": "skymaps"}
"""Names that filters know without anybody adding them -> the only kind that may have one."""
_IN_WORDS = {"skymaps": "collection of sky maps"}
_APART = "__"
"""Between a user and the name of a list; a list's own name has none."""
_READER: ContextVar[str | None] = ContextVar("reader", default=None)
_FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)


class ExternalError(FilterError):
    """External information cannot be read, or not be used as asked."""


class NoSuchExternal(ExternalError):
    """No catalogue, region or sky maps of that name, or no such version."""


class Access(NamedTuple):
    """Whose list it is, and who may read it besides; "*" for everybody."""

    owner: str
    readers: tuple[str, ...] = ()

    def allows(self, user: str) -> bool:
        """Whether a user may read it."""
        return bool({user, "*"} & {self.owner, *self.readers})

    def told(self, verb: str = "read") -> str:
        """Who may read it besides, in words. verb: what they do with it."""
        if not self.readers:
            return "private"
        return f"{verb} by everybody" if "*" in self.readers else f"{verb} by {', '.join(self.readers)}"


@contextmanager
def seen_by(user: str) -> Iterator[None]:
    """Within the block, of the lists that users own only those are there that this one may read.

    user: "" for whoever may read all.
    """
    token = _READER.set(user or None)
    try:
        yield
    finally:
        _READER.reset(token)


@contextmanager
def kept_in(root: str | Path) -> Iterator[None]:
    """Within the block, this is the folder wherever none is named: the one that a configuration names.

    root: the folder.
    """
    token = _FOLDER.set(Path(root))
    try:
        yield
    finally:
        _FOLDER.reset(token)


def owned(owner: str, name: str) -> str:
    """What a user's list is called: users' names have a "-" where others have a "_"."""
    return f"{owner.replace('-', '_')}{_APART}{name}"


def is_owned(name: str) -> bool:
    """Whether a name is that of a user's list."""
    return _APART in name


def refuse_name(name: str, kind: str) -> None:
    """Raise ExternalError for a name that filters could not tell from what alerts have.

    name: of the list, without its owner's. kind: as `kinds_of` calls it.
    """
    if not NAME.fullmatch(name):
        raise ExternalError(f"the name {name!r}: a lower-case letter, then letters, digits and _")
    alike = {column.lower() for survey in SURVEYS.values() for column in survey.names()}
    taken = name in alike or keyword.iskeyword(name) or not may_be_external(f"{name}.x")
    if taken or _RESERVED.get(name, kind) != kind:
        raise ExternalError(f"the name {name!r} is too near to one that alerts have: choose another")


def kinds_of(about: Mapping[str, Any]) -> set[str]:
    """What a version may be taken for: "catalogue", "watchlist", "region", "skymaps" or "model".

    about: what it says of itself. A catalogue of which nobody has said whether people edit it may be both.
    """
    what = about["what"]
    if what == "objects":
        return {"watchlist"}
    if what != "catalogue":
        return {what}
    listed = about.get("listed")
    return {"catalogue", "watchlist"} if listed is None else {"watchlist" if listed else "catalogue"}


def default_root() -> Path:
    """The folder of `kept_in`, else ZADS_EXTERNAL, else `external` in ZADS_HOME (~/.zads)."""
    if (folder := _FOLDER.get()) is not None:
        return folder
    home = Path(os.environ.get("ZADS_HOME") or Path.home() / ".zads")
    return Path(os.environ.get("ZADS_EXTERNAL") or home / "external")


class Store:
    """What there is in a folder. root: `default_root` where it is left out."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = default_root() if root is None else Path(root)

    def names(self, what: str = "") -> list[str]:
        """Those that are in use, sorted; only of one kind: "catalogue", "region" or "skymaps"."""
        names = sorted(path.parent.name for path in self.root.glob(f"*/{_CURRENT}"))
        names = [name for name in names if not self._hidden(name)]
        return [name for name in names if not what or self.about(name)["what"] == what]

    def versions(self, name: str) -> list[str]:
        """The versions that are there, the oldest first."""
        if self._hidden(name):
            return []
        made = [path.parent for path in (self.root / name).glob(f"[!.]*/{FILE}")]
        return [path.name for path in sorted(made, key=lambda path: (path / FILE).stat().st_mtime_ns)]

    def current(self, name: str) -> str:
        """The version in use. Raises NoSuchExternal."""
        try:
            if not self._hidden(name):
                return (self.root / name / _CURRENT).read_text().strip()
        except OSError:
            pass
        where = f" in {self.root}" if _READER.get() is None else " that you may read"
        raise NoSuchExternal(
            f"no catalogue, region or sky map '{name}'{where}; {near_names(name, self.names())}",
            hint="`zads catalogue add FILE --name NAME` and `zads region add NAME` add one",
        )

    def folder(self, name: str, version: str = "") -> Path:
        """Where a version is, the one in use or the one named. Raises NoSuchExternal."""
        chosen = version or self.current(name)
        if self._hidden(name) or not (self.root / name / chosen / FILE).is_file():
            self.current(name)
            known = ", ".join(self.versions(name))
            old = f"of users' lists and models, versions are kept for {KEPT_DAYS} days after their use"
            raise NoSuchExternal(
                f"'{name}' has no version {chosen} (there are {known})", hint=old if is_owned(name) else None
            )
        return self.root / name / chosen

    def about(self, name: str, version: str = "") -> dict[str, Any]:
        """What the version says of itself, as plain values. Raises NoSuchExternal, ExternalError."""
        folder = self.folder(name, version)
        try:
            plain: dict[str, Any] = json.loads((folder / FILE).read_text())
        except (OSError, ValueError) as error:
            raise ExternalError(f"'{name}' at {folder} cannot be read: {error}") from None
        return plain

    def add(self, name: str, version: str, about: dict[str, Any], write: Callable[[Path], None]) -> None:
        """Write a version that is not there yet, and put it in use.

        Parameters
        ----------
        name, version
            What it is called; the version is a hash over its content.
        about
            What it says of itself, plain values; with "what".
        write
            Writes its other files into a folder, which becomes visible when all is written.

        Raises
        ------
        ExternalError
            For a name that cannot be used, or that something of another kind has.
        """
        kinds = kinds_of(about)
        refuse_name(name, min(kinds))
        self.refuse_other(name, kinds)
        place = self.root / name
        if version not in self.versions(name):
            place.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".adding-", dir=place))
            try:
                write(aside)
                (aside / FILE).write_text(json.dumps(about, indent=1))
                aside.chmod(0o755)
                aside.rename(place / version)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                if not any(place.iterdir()):
                    place.rmdir()
                raise
        self.use(name, version)

    def access(self, name: str) -> Access | None:
        """Whose list it is and who may read it; None for what no user owns, and where it cannot be told."""
        try:
            plain = json.loads((self.root / name / _ACCESS).read_text())
            return Access(str(plain["owner"]), tuple(map(str, plain["readers"])))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def owner(self, name: str) -> str:
        """Whose list it is; "" for nobody's."""
        access = self.access(name)
        return access.owner if access else ""

    def share(self, name: str, access: Access) -> None:
        """Say who may read a list from now on. It need not be there yet."""
        place = self.root / name
        place.mkdir(parents=True, exist_ok=True)
        fresh = place / f"{_ACCESS}.{os.getpid()}"
        fresh.write_text(json.dumps({"owner": access.owner, "readers": list(access.readers)}))
        fresh.replace(place / _ACCESS)

    def _hidden(self, name: str) -> bool:
        """Whether this is a list that who asks may not read. One of which nothing is known is nobody's."""
        reader = _READER.get()
        if reader is None or not is_owned(name):
            return False
        access = self.access(name)
        return access is None or not access.allows(reader)

    def use(self, name: str, version: str) -> None:
        """Make a version the one in use, at once for everybody who asks from now on."""
        pointer = self.root / name / _CURRENT
        before = pointer.read_text().strip() if pointer.exists() else version
        fresh = pointer.with_suffix(f".{os.getpid()}")
        fresh.write_text(version + "\n")
        fresh.replace(pointer)
        if before != version:
            self._left(name, before).touch()
        self._left(name, version).unlink(missing_ok=True)

    def _left(self, name: str, version: str) -> Path:
        """A file as old as the time for which a version has not been in use."""
        return self.root / name / f"{_LEFT}{version}"

    def forget(self, name: str, needed: Collection[str], now: float | None = None) -> list[str]:
        """Remove the versions that have not been in use, nor needed, for `KEPT_DAYS`; which they were.

        Parameters
        ----------
        name
            What it is called.
        needed
            Versions that are kept.
        now
            Seconds since 1970; the present where it is left out.

        Raises
        ------
        NoSuchExternal
            When nothing has this name.
        """
        gone, kept = [], {self.current(name), *needed}
        for version in self.versions(name):
            left = self._left(name, version)
            if version in kept:
                left.unlink(missing_ok=True)
            elif not left.exists():  # needed until now, or left before such a file was written
                left.touch()
            elif (now or time.time()) - left.stat().st_mtime > KEPT_DAYS * 86400:
                shutil.rmtree(self.root / name / version)
                left.unlink()
                gone.append(version)
        return gone

    def refuse_other(self, name: str, kinds: set[str]) -> None:
        """Raise ExternalError where something of another kind has this name.

        name: of the list. kinds: what it should be, as `kinds_of` calls it.
        """
        try:
            there = kinds_of(self.about(name))
        except ExternalError:
            return  # nothing has this name, or nobody can tell any more what it was
        if not there & kinds:
            own, wanted = (_IN_WORDS.get(one, one) for one in (min(there), min(kinds)))
            raise ExternalError(
                f"'{name}' is a {own}, not a {wanted}; nothing was changed",
                hint=f"`zads {min(there)} list` shows it; choose another name",
            )

    def remove(self, name: str, kind: str = "") -> None:
        """Take it away with all its versions.

        Parameters
        ----------
        name
            What it is called.
        kind
            What it should be, as `kinds_of` calls it; "" for whatever it is.

        Raises
        ------
        NoSuchExternal
            When nothing has this name.
        ExternalError
            When it is something else.
        """
        self.current(name)
        if kind:
            self.refuse_other(name, {kind})
        (self.root / name / _CURRENT).unlink()
        shutil.rmtree(self.root / name)
