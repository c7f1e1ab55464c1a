"""What is done about a user's request: whose channel it is, whether it is allowed, and the new definition."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from commands.channel.gate import report_lines
from commands.serve.lists import Lists, in_full
from commands.serve.looks import difference_told, explanation
from commands.serve.seen import (
    Refused,
    listed,
    own,
    readable,
    records_in,
    refuse_what_role_forbids,
    shown,
)
from filters.external.store import Store, kept_in, seen_by
from pipeline.access.limits import Night, Use, use_of
from pipeline.access.lists import FilePart, ListRequest
from pipeline.access.requests import Answer, Request, read_request
from pipeline.access.uploads import Missing
from pipeline.access.users import User
from pipeline.broker.client import BrokerError
from pipeline.channels.models import asked_by, asked_in, pinned, text_of
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from commands.serve.writer import Writer
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry
    from pipeline.clients.delivered import Delivered

log = logging.getLogger(__name__)

MOST_BEYOND = 5
"""Channels of a user that may wait for an operator because they are too many."""
MOST_ALERTS_PER_HOUR = 1000
"""Of one channel that a user owns, unless an operator has given it more."""
_FORGETS_SECONDS = 3600.0
_READERS = 4
"""Requests that may read nights of the archive at once; what reads none does not wait for them."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_FILE = re.compile(r"[A-Za-z0-9_-]{1,60}[.]py:([A-Za-z_][A-Za-z0-9_]{0,60})?")


class Service:
    """Answers requests by writing the registry; the sender is whoever the request's topic is of.

    Several threads may ask, each for another user.

    Parameters
    ----------
    settings
        The configuration.
    archive
        Address of the archive; None: the usual one.
    delivered
        What the channels have delivered in the newest night.
    registry
        Reads and writes the registry.

    Attributes
    ----------
    shared
        Grows whenever somebody may not read a list any more.
    """

    def __init__(
        self, settings: RunConfig, archive: str | None, delivered: Delivered, registry: Writer
    ) -> None:
        self._settings, self._archive = settings, archive
        self._delivered, self._registry = delivered, registry
        self._reading = threading.Semaphore(_READERS)
        self._lists = Lists(settings, archive, self._reading)
        self.shared = 0
        self._forgot: float | None = None  # when it last looked for old versions

    def answer(self, user: str, raw: bytes, users: Mapping[str, User]) -> Answer:
        """Do what a record of a user's requests asks for, or say why not.

        Parameters
        ----------
        user
            Whose topic it came from.
        raw
            The record's bytes: anything that a user can write.
        users
            Those there are.
        """
        try:
            request = read_request(raw)
        except ValidationError:
            return Answer(id="", done=False, text="this is no request that can be read")
        try:
            if user not in users:
                raise Refused("there is no such user any more")
            # Of others' lists only those that this user may read; each user has a thread of its own.
            with kept_in(self._settings.externals.store.root), seen_by(user):
                if isinstance(request, FilePart):
                    return self._lists.part(user, request)
                if isinstance(request, ListRequest):
                    return self._of_list(users[user], request)
                return self._done(users[user], request)
        except BrokerError:
            raise  # nobody's fault: it is done when the broker is back
        except ZadsError as error:
            log.warning("user %s, %s of %r: refused: %s", user, request.action, request.channel, error)
            told = str(getattr(error.__cause__, "traceback", ""))  # of the user's code
            missing = error.parts if isinstance(error, Missing) else ()
            refused = Answer(
                id=request.id, done=False, text=str(error), hint=error.hint or "", traceback=told
            )
            return refused.model_copy(update={"missing": missing})
        except Exception:
            log.exception("user %s, %s of %r", user, request.action, request.channel)
            return Answer(id=request.id, done=False, text="the service has failed on this request")

    def expire(self) -> list[tuple[str, str]]:
        """Take away files that nobody has finished, and now and then old versions of lists and models that
        nothing needs; users, and what to tell them. Raises BrokerError."""
        told = self._lists.expire()
        if self._forgot is None or time.monotonic() - self._forgot > _FORGETS_SECONDS:
            gone = self._lists.forget(lambda: self._registry.read().definitions.values())
            told += gone or []
            self._forgot = self._forgot if gone is None else time.monotonic()
        return told

    def _of_list(self, who: User, request: ListRequest) -> Answer:
        answer = self._lists.answer(who.name, who.role, request)
        self.shared += request.action in ("share", "remove")
        return answer

    def _done(self, who: User, request: Request) -> Answer:
        registry = self._registry.read()
        looked = self._looked(who, request, registry)
        return looked or self._changed(who, request, registry)

    def _looked(self, who: User, request: Request, registry: Registry) -> Answer | None:
        """The answer to who only looks."""
        from pipeline.clients.status.runs import suspended_channels
        from pipeline.worker.backfill import gaps_of

        done = partial(Answer, id=request.id, done=True)
        about = (self._settings, self._archive, registry, who.name, who.role, request)
        if request.action == "list":
            use = use_of(who.name, registry.definitions.values(), self._delivered.newest())
            stopped = suspended_channels(self._settings, [self._settings.group])
            missed = records_in(gaps_of(self._settings))
            seen = listed(who.name, who.role, registry, stopped, missed)
            return done(text=f"{seen}\n{use.beside(who.limits)}")
        if request.action == "diff":
            with self._reading:
                return done(text=difference_told(*about))
        if request.action == "explain":
            with self._reading:
                return done(text="", explained=explanation(*about))
        if request.action == "show":
            _refuse_others(request.channel)
            found = own(registry, f"{who.name}.{request.channel}")
            return done(text=shown(found, gaps_of(self._settings, found.name)))
        return None

    def _changed(self, who: User, request: Request, registry: Registry) -> Answer:
        """The answer to who changes a channel of theirs, when that is done."""
        done = partial(Answer, id=request.id, done=True)
        _refuse_others(request.channel)
        user, name = who.name, f"{who.name}.{request.channel}"
        if any(one.request == request.id for one in registry.history):
            return done(text=f"{name}: done already")
        actions: dict[str, Callable[[], Definition]] = {
            "create": lambda: self._new(who, request, registry, self._chosen(user, request)),
            "clone": lambda: self._new(
                who, request, registry, readable(self._settings, registry, user, who.role, request.source)
            ),
            "set": lambda: _with_wishes(own(registry, name), request, user),
            "test": lambda: self._tested(own(registry, name)),
            "enable": lambda: self._admitted(own(registry, name), who, registry),
            "pause": lambda: own(registry, name).becoming("paused"),
            "retire": lambda: own(registry, name).becoming("retired"),
        }
        new = actions[request.action]().model_copy(update={"request": request.id})
        refuse_what_role_forbids(new, who.role)
        before = registry.definitions.get(name)
        written = self._written(user, new, request)
        if new.asks and _wishes_more(request, before, new):
            log.warning("user %s: %s waits for an operator: %s", user, name, new.asks)
            words = f"{name} is {_WAITS[request.action]}: {new.asks}"
            return done(done=False, text=words, hint="an operator is asked: `zads channel list` says so")
        if request.action == "test":
            written = "\n".join([written, *report_lines(new.report or {})])
        return done(text=written, preview=self._preview(new, request.preview))

    def _tested(self, definition: Definition) -> Definition:
        new = self._tried(definition.with_changes())
        return new.becoming("tested") if new.is_tested and new.state == "draft" else new

    def _tried(self, definition: Definition) -> Definition:
        """With the report of its backtest."""
        from commands.channel.gate import backtested

        now = definition.with_external(self._settings.externals)
        with self._reading:
            report = backtested(self._settings, now, self._archive, None)
        return now.model_copy(update={"report": report})

    def _preview(self, definition: Definition, count: int) -> tuple[dict[str, Any], ...]:
        """What it would have delivered last: of the same rows that the channel sees."""
        from commands.channel.gate import last_matches

        if not count:
            return ()
        with self._reading:
            return last_matches(self._settings, definition, self._archive, None, count)

    def _written(self, user: str, new: Definition, request: Request) -> str:
        from pipeline.channels.registry import difference

        before = self._registry.read().definitions.get(new.name)
        written = self._registry.save(new, request.why, user)
        return f"{written.name}: {difference(before, written)} ({written.state}, {written.topic})"

    def _chosen(self, user: str, request: Request) -> Definition:
        """A definition from an expression, a filter that comes with zads, or a text for the sandbox."""
        from filters import filter_or_expression, registered
        from pipeline.channels.definition import Definition

        if request.text:
            return Definition(name="new", **_uploaded(user, request))
        where = request.where and in_full(request.where, user, Store(self._settings.externals.store.root))
        if where and (models := asked_in(where, user)):
            text, asked = text_of(where, models), pinned(models, user)
            return Definition(name="new", filter="where.py:where", source=text, models=asked)
        if request.filter and request.filter not in registered():
            raise Refused(
                f"{request.filter} is no filter that comes with zads",
                hint="`zads filters` lists them; Python of your own is --filter FILE.py:FUNCTION",
            )
        chosen = filter_or_expression(request.filter, where)
        if not chosen:
            raise Refused("neither a filter nor an expression", hint="--filter NAME or --where EXPRESSION")
        return Definition(name="new", filter=chosen)

    def _new(self, who: User, request: Request, registry: Registry, source: Definition) -> Definition:
        """A draft like `source`, which was made from it."""
        from pipeline.channels.definition import Definition

        user, name = who.name, f"{who.name}.{request.channel}"
        if name in registry.definitions:
            raise Refused(f"there is a channel {name} already")
        asks = _too_many(use := use_of(user, registry.definitions.values(), Night()), who)
        if asks and use.waiting >= MOST_BEYOND:
            raise Refused(f"{asks}, and {use.waiting:,} more wait for an operator", hint="retire one of them")
        kept = ("filter", "source", "approved", "models", "drop", "topics", "input", "values")
        like = {key: getattr(source, key) for key in kept}
        made_from = f"{source.name}@{source.revision}" if request.action == "clone" else ""
        access = request.access or (source.access if request.action == "clone" else "public")
        draft = Definition(
            name=name, owner=user, of=made_from, access=access, parameters=source.parameters, **like
        )
        return _with_wishes(draft, request, user).model_copy(update={"asks": asks, "beyond": bool(asks)})

    def _admitted(self, definition: Definition, who: User, registry: Registry) -> Definition:
        """Enabled, or as it was and with the reasons why an operator is asked."""
        now = definition.with_changes().with_external(self._settings.externals)
        if now.granted and now.is_tested:
            return now.becoming("enabled")
        tried = now if now.is_tested else self._tried(now)
        enabled = tried.model_copy(update={"state": "enabled"})
        every = {**registry.definitions, definition.name: enabled}
        use = use_of(who.name, every.values(), self._delivered.newest())
        problems = [] if tried.is_tested else (tried.report or {}).get("problems", ())
        if (tried.report or {}).get("failures"):  # no operator can help
            raise Refused(
                f"{definition.name} is not enabled: {'; '.join(problems)}",
                hint="mend the filter; `zads channel test` tells what it does on the archive",
            )
        reasons = [*problems, *use.too_much(who.limits), *use.overrun(who.limits)]
        reasons += [words] if now.beyond and (words := _too_many(use, who)) else []
        if not reasons:
            return tried.becoming("enabled", asks="", beyond=False)
        if definition.state == "enabled":
            raise Refused(f"{definition.name} goes on as it was: {'; '.join(reasons)}")
        return tried.model_copy(update={"asks": "; ".join(reasons)})


_WAITS = {
    "create": "made, and waits",
    "clone": "made, and waits",
    "set": "as it was",
    "enable": "not enabled",
}
"""Action -> what a channel is whose owner's wish an operator has to allow."""


def _wishes_more(request: Request, before: Definition | None, new: Definition) -> bool:
    """Whether this request is what waits for an operator, and not another one before it."""
    asked_before = request.action == "set" and before is not None and before.asks == new.asks
    return request.action in _WAITS and not asked_before


def _too_many(use: Use, who: User) -> str:
    """Why one more channel of a user waits for an operator; "" where there is room."""
    if use.channels < who.limits.channels:
        return ""
    return f"{use.channels:,} channels are as many as you may have"


def _refuse_others(channel: str) -> None:
    if "." in channel:
        raise Refused(f"{channel} is not yours: name a channel of your own, without its owner")
    if not _NAME.fullmatch(channel):
        hint = f"take {near!r}" if _NAME.fullmatch(near := channel.lower().replace("_", "-")) else None
        raise Refused(f"channel name {channel!r}: small letters, digits and -, no _", hint=hint)


def _uploaded(user: str, request: Request) -> dict[str, Any]:
    """Fields of a definition whose filter is a text of the user's: nobody has approved it."""
    if not _FILE.fullmatch(request.filter):
        raise Refused(f"{request.filter!r} names no Python file: letters, digits, _ and -, then .py:FUNCTION")
    models = pinned(asked_by(request.text), user)
    return {"filter": request.filter, "source": request.text, "approved": "", "models": models}


def _with_wishes(old: Definition, request: Request, user: str) -> Definition:
    """With what the request of a user gives; a limit is always there."""
    most = request.alerts_per_hour or old.limits.alerts_per_hour or MOST_ALERTS_PER_HOUR
    allowed = max(MOST_ALERTS_PER_HOUR, old.limits.alerts_per_hour or 0)  # as an operator has set it
    if most > allowed:
        too_many = f"{most:,} alerts an hour are more than {allowed:,}"
        if request.action == "set":
            return old.model_copy(update={"asks": too_many})
        raise Refused(too_many, hint="an operator can allow it, when there is a channel")
    changes = {
        "parameters": {**old.parameters, **request.parameters},
        "limits": {**old.limits.model_dump(), "alerts_per_hour": most},
        "readers": old.readers if request.readers is None else request.readers,
    }
    if request.action == "set" and request.text:
        uploaded = _uploaded(user, request)
        other = old.model_copy(update={**uploaded, "parameters": {}})
        still = {name: value for name, value in old.parameters.items() if name in other.loaded().parameters}
        changes |= {**uploaded, "parameters": {**still, **request.parameters}}
    new = old.with_changes(**changes)
    same = new.judged == old.judged and new.limits == old.limits
    return new if same else new.model_copy(update={"granted": "", "asks": new.asks if new.beyond else ""})
