"""What is done about a user's request for a list: whose it is, what it may be, who reads it."""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from commands.external.lists import Content, add_list, content, edit_list
from commands.serve.models import Models
from commands.serve.seen import Refused
from filters.expressions.syntax import with_heads
from filters.external.store import (
    KEPT_DAYS,
    Access,
    Store,
    is_owned,
    kinds_of,
    owned,
    refuse_name,
    seen_by,
)
from filters.values import as_json
from pipeline.access.lists import MOST_SEEN, FilePart, ListRequest
from pipeline.access.requests import ANSWER_BYTES, Answer
from pipeline.access.roles import COLLABORATION, Role
from pipeline.access.uploads import Uploads
from pipeline.channels.models import model_store

if TYPE_CHECKING:
    import pandas as pd

    from filters.external import Externals
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition

MOST_LISTS, MOST_ROWS = 20, 100_000
MOST_RADIUS = 600.0
"""arcsec; and a source may not move faster than so many in a year."""
_FASTEST = 20.0
_MOST_TOGETHER = 300
"""Rows in one cell of the sky about as wide as two radii: each alert there is compared with all of them."""
_SHOWN, _MOST_ANSWERED = 50, ANSWER_BYTES * 3 // 4
"""Rows that are shown of a list; letters of rows that fit into an answer."""
_UPLOADS = ".uploads"
"""Beside the lists: no list has such a name."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Lists:
    """Answers requests about lists.

    Parameters
    ----------
    settings
        The configuration: where lists are kept.
    archive
        Address of the archive.
    reading
        Entered while the archive is read.
    """

    def __init__(
        self, settings: RunConfig, archive: str | None, reading: AbstractContextManager[Any]
    ) -> None:
        self._settings, self._archive, self._reading = settings, archive, reading
        self._store = Store(settings.externals.store.root)
        self._writing, self._large = threading.Lock(), threading.Lock()
        self._uploads = Uploads(self._store.root / _UPLOADS)
        self._models = Models(model_store(self._store.root))

    def answer(self, user: str, role: Role, request: ListRequest) -> Answer:
        """Do it, and say what was done.

        Parameters
        ----------
        user
            Who asks.
        role
            The user's.
        request
            What for.

        Raises
        ------
        ZadsError
            When it is not done.
        """
        if request.kind == "model" and request.action != "check":
            with self._large:
                name = "" if request.action == "list" else _own_name(user, request.name)
                if request.action == "add":
                    refuse_name(_short(user, name), "model")
                    _refuse_taken(user, name, self._store, "catalogue or watchlist")
                return self._models.answer(user, name, request, lambda: self._file(user, request))
        if request.action == "list":
            return Answer(id=request.id, done=True, text=self._listed(user))
        if request.action == "check":
            with self._large:
                return _checked(request, self._file(user, request))
        if request.action in ("show", "seen"):
            name = self._readable(user, request.name)
            said, rows = self._shown(name) if request.action == "show" else self._seen(name, role, request)
            return Answer(id=request.id, done=True, text=said, preview=tuple(rows))
        name = _own_name(user, request.name)
        actions: Mapping[str, Callable[[], str]] = {
            "add": lambda: self._add(user, name, request),
            "edit": lambda: self._edit(user, name, request),
            "share": lambda: self._share(user, name, request),
            "remove": lambda: self._remove(name, request),
        }
        with self._writing, seen_by(""):
            said = actions[request.action]()
        return Answer(id=request.id, done=True, text=said)

    def part(self, user: str, part: FilePart) -> Answer:
        """Keep a part of a file; what is said to it.

        Parameters
        ----------
        user
            Whose file it is.
        part
            The part.

        Raises
        ------
        UploadError
            When it is not kept.
        """
        self._uploads.put(user, part)
        return Answer(id=part.id, done=True, text=f"part {part.number + 1} of the file has come")

    def expire(self) -> list[tuple[str, str]]:
        """Take away files that nobody has finished; users, and what to tell them."""
        return self._uploads.expire()

    def forget(
        self, definitions: Callable[[], Iterable[Definition]], now: float | None = None
    ) -> list[tuple[str, str]] | None:
        """Remove old versions of users' lists and models that no channel names.

        Parameters
        ----------
        definitions
            Gives the channels there are; what a retired one names is not needed.
        now
            As of `Store.forget`.

        Returns
        -------
        list of (str, str), or None
            Owners, and what to tell them; None where somebody is changing a list: nobody waits for that.
        """
        with _unless_held(self._writing, self._large) as free:
            if not free:
                return None
            needed = _needed(one for one in definitions() if one.state != "retired")
            told = []
            for store in (self._store, model_store(self._store.root)):
                for name in (one for one in store.names() if store.owner(one)):
                    if gone := store.forget(name, needed.get(name, ()), now):
                        words = f"{name}: versions that were not in use for {KEPT_DAYS} days are removed:"
                        told.append((store.owner(name), f"{words} {', '.join(gone)}"))
            return told

    def _file(self, user: str, request: ListRequest) -> bytes:
        """The file that a request is about. Raises Refused, UploadError."""
        if request.file_hash:
            return self._uploads.whole(user, request.file_hash, request.parts)
        return _decoded(request.file)

    def _add(self, user: str, name: str, request: ListRequest) -> str:
        from filters.files.sandboxed import file_room

        mine = [one for one in self._store.names() if self._store.owner(one) == user]
        if name not in mine and len(mine) >= MOST_LISTS:
            raise Refused(f"{len(mine)} lists are as many as a user may have", hint="remove one of them")
        kind = self._kind(user, name, request)
        frame, described = file_room().table(request.file_name, self._file(user, request))
        options = _options(request) | {"listed": kind == "watchlist"}
        _refuse_too_much(frame, options)
        said = add_list(
            frame, name, self._store, described=described, origin=request.file_name, owner=user, **options
        )
        access = self._store.access(name) or Access(user)
        if request.readers is not None:
            access = access._replace(readers=request.readers)
        self._store.share(name, access)
        short = f"your expressions {_short(user, name)}.match too"
        return f"{name}: {said}; filters read {name}.match, {short}, {access.told()}"

    def _kind(self, user: str, name: str, request: ListRequest) -> str:
        """What is to be added. Raises ExternalError, Refused where the name is something else's."""
        wanted: set[str] = {"watchlist", "catalogue"} if request.kind == "list" else {request.kind}
        self._store.refuse_other(name, wanted)
        _refuse_taken(user, name, model_store(self._store.root), "model")
        there = kinds_of(self._store.about(name)) & wanted if name in self._store.names() else wanted
        kind = "watchlist" if "watchlist" in there else "catalogue"
        refuse_name(_short(user, name), kind)
        return kind

    def _edit(self, user: str, name: str, request: ListRequest) -> str:
        self._store.current(name)
        now = content(self._store, name)
        said = edit_list(name, self._store, request.rows, request.drop, owner=user, check=_refuse_too_much)
        after = content(self._store, name)
        return f"{name}: {said} ({_difference(now, after)})"

    def _share(self, user: str, name: str, request: ListRequest) -> str:
        self._store.current(name)
        access = Access(user, request.readers or ())
        self._store.share(name, access)
        return f"{name}: {access.told()}"

    def _remove(self, name: str, request: ListRequest) -> str:
        self._store.remove(name, "" if request.kind == "list" else request.kind)
        return f"{name} is gone; channels that read it are paused"

    def _listed(self, user: str) -> str:
        lines = []
        for name in self._store.names():
            about = self._store.about(name)
            if about["what"] not in ("catalogue", "objects"):
                continue
            whose = f" of {owner}" if (owner := self._store.owner(name)) else ""
            access = self._store.access(name)
            shared = f", {access.told()}" if access and owner == user else ""
            lines.append(f"{name}: {about['rows']:,} rows{whose}{shared}")
        return "\n".join(lines) or "no lists"

    def _shown(self, name: str) -> tuple[str, list[dict[str, Any]]]:
        about = self._store.about(name)
        kinds = self._settings.externals.opened(name).kinds
        lines = [f"{name}: {about['rows']:,} rows of {about['source']}, version {about['version']}"]
        if access := self._store.access(name):
            lines.append(f"of {access.owner}, {access.told()}")
        for column, (kind, unit, meaning) in kinds.items():
            lines.append(f"  {name}.{column}: {', '.join(filter(None, (kind, unit, meaning)))}")
        rows = as_json(content(self._store, name).rows.head(_SHOWN)) if access else []
        return "\n".join(lines), rows

    def _seen(self, name: str, role: Role, request: ListRequest) -> tuple[str, list[dict[str, Any]]]:
        from commands.external.seen import seen
        from commands.shared.options import archive_at, counted

        with self._reading:
            found = seen(
                name,
                archive_at(self._archive),
                self._settings.externals,
                nights=request.nights,
                days=request.days,
                public=role not in COLLABORATION,
            )
        objects = counted(found["objectId"].nunique(), "object")
        said = f"{name}: {counted(len(found), 'alert')} of {objects}"
        newest = found.head(MOST_SEEN)
        rows = as_json(newest.assign(night=newest["night"].astype(str)))
        while len(json.dumps(rows)) > _MOST_ANSWERED:
            rows = rows[: len(rows) // 2]
        if len(found) > len(rows):
            said += f", the newest {len(rows):,} follow"
        return said, rows

    def _readable(self, user: str, named: str) -> str:
        """A list of one's own by its short name, or any that one may read. Raises NoSuchExternal."""
        mine = owned(user, named)
        name = mine if mine in self._store.names() else named
        self._store.current(name)
        return name


@contextmanager
def _unless_held(*locks: threading.Lock) -> Iterator[bool]:
    """Within the block the locks are held, where nobody else holds one of them: whether they are."""
    with ExitStack() as held:
        for lock in locks:
            if not lock.acquire(blocking=False):
                yield False
                return
            held.callback(lock.release)
        yield True


def _needed(definitions: Iterable[Definition]) -> dict[str, set[str]]:
    """Name -> the versions that channels name: lists as they were tried with, models as they are asked."""
    needed: dict[str, set[str]] = {}
    for one in definitions:
        tried = (one.report or {}).get("of", {}).get("external", {})
        asked = (pinned.split("@") for pinned in one.models.values())
        for name, version in (*one.external.items(), *tried.items(), *asked):
            needed.setdefault(name, set()).add(version)
    return needed


def _checked(request: ListRequest, raw: bytes) -> Answer:
    """What a model takes and gives. Raises Unreadable, NoSandbox."""
    from filters.files.sandboxed import file_room

    rows = file_room().model(request.file_name, raw)
    inputs = sum(row["what"] == "input" for row in rows)
    words = f"{request.file_name}: a model of {inputs} inputs and {len(rows) - inputs} outputs"
    return Answer(id=request.id, done=True, text=words, preview=tuple(rows))


def in_full(where: str, user: str, store: Store) -> str:
    """An expression with the full names of a user's lists, which the user calls by their short names.

    Parameters
    ----------
    where
        The expression.
    user
        Who writes it.
    store
        Where lists are kept.

    Raises
    ------
    BadExpression
        For what is none.
    """
    mine = (name for name in store.names() if store.owner(name) == user)
    return with_heads(where, {_short(user, name): name for name in mine})


def _own_name(user: str, named: str) -> str:
    short = _short(user, named)
    if is_owned(short):
        raise Refused(f"{named} is not yours: name a list of your own")
    if not _NAME.fullmatch(short):
        raise Refused(f"list name {named!r}: a small letter, then small letters, digits and _, no two _")
    return owned(user, short)


def _short(user: str, name: str) -> str:
    return name.removeprefix(owned(user, ""))


def _refuse_taken(user: str, name: str, others: Store, what: str) -> None:
    """Raise Refused where a user has something else by this name: `snn.real` would have two meanings."""
    if name in others.names():
        raise Refused(f"you have a {what} called '{_short(user, name)}': choose another name")


def _decoded(file: str) -> bytes:
    try:
        return base64.b64decode(file, validate=True)
    except binascii.Error:
        raise Refused("the file did not arrive as it was sent") from None


def _options(request: ListRequest) -> dict[str, Any]:
    names = ("radius", "ra", "dec", "columns", "nulls", "units", "radius_column", "motion", "footprint")
    return {name: getattr(request, name) for name in names} | {"object_column": request.object_column}


def _refuse_too_much(frame: pd.DataFrame, options: Mapping[str, Any]) -> None:
    """What would take the stream's workers long: it is an operator's to add. Raises Refused."""
    if len(frame) > MOST_ROWS:
        raise Refused(f"{len(frame):,} rows are more than {MOST_ROWS:,}", hint="an operator can add them")
    widest = _largest(frame, options.get("radius_column") or "") or options.get("radius", 0.0)
    if widest > MOST_RADIUS:
        raise Refused(f"a radius of {widest:,.0f} arcsec is more than {MOST_RADIUS:,.0f}")
    for column in (options.get("motion") or ())[:2]:
        if _largest(frame, column) > 1000 * _FASTEST:
            raise Refused(f"{column}: no star moves faster than {_FASTEST:g} arcsec in a year")
    _refuse_crowds(frame, options, widest)


def _largest(frame: pd.DataFrame, column: str) -> float:
    """The largest absolute number in a column; 0 where there is none."""
    import pandas as pd

    if column not in frame:
        return 0.0
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(float, na_value=np.nan)
    return float(np.abs(numbers[~np.isnan(numbers)]).max(initial=0.0))


def _refuse_crowds(frame: pd.DataFrame, options: Mapping[str, Any], widest: float) -> None:
    from commands.external.catalogues import DEC_NAMES, RA_NAMES
    from filters.catalogues.match import healpix

    lower = {str(column).lower(): column for column in reversed(frame.columns)}
    ra = options.get("ra") or next((lower[n] for n in RA_NAMES if n in lower), None)
    dec = options.get("dec") or next((lower[n] for n in DEC_NAMES if n in lower), None)
    if ra not in frame or dec not in frame or options.get("object_column"):
        return  # a list of objects, or an error that is told later
    import pandas as pd

    lon, lat = (pd.to_numeric(frame[c], errors="coerce").to_numpy(float, na_value=np.nan) for c in (ra, dec))
    there = (lon >= 0) & (lon <= 360) & (np.abs(lat) <= 90)
    order = int(np.clip(np.floor(np.log2(58.6 * 3600 / max(2 * widest, 1.0))), 0, 29))
    cells, counts = np.unique(healpix(lon[there], lat[there]) >> 2 * (29 - order), return_counts=True)
    if len(cells) and counts.max() > _MOST_TOGETHER:
        raise Refused(
            f"{counts.max():,} rows are within about {2 * widest:g} arcsec of each other,"
            f" {_MOST_TOGETHER} may be",
            hint="a smaller radius, or fewer rows",
        )


def _difference(before: Content, after: Content) -> str:
    old, new = set(before.rows[before.key].astype(str)), set(after.rows[after.key].astype(str))
    told = [f"{len(new - old):,} new", f"{len(old - new):,} gone"]
    return ", ".join(told)


def refuse_unreadable(definition: Definition, externals: Externals) -> None:
    """Raise Refused where a channel reads a list or a model that its owner may not read, or that is gone.

    definition: as its filter was last tried. externals: where lists are.
    """
    with seen_by(definition.owned_by):
        there = set(externals.store.names())
        models = set(model_store(externals.store.root).names())
    asked = (one.partition("@")[0] for one in definition.models.values())
    if lost := [name for name in asked if name not in models]:
        raise Refused(f"it asks the model {lost[0]}, which its owner may not use, or which is gone")
    if gone := [name for name in definition.external if is_owned(name) and name not in there]:
        raise Refused(f"it reads {gone[0]}, which its owner may not read, or which is gone")
