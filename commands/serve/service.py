"""What is done about a user's request: whose channel it is, whether it is allowed, and the new definition."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from commands.channel.gate import report_lines
from pipeline.access.requests import Answer, Request
from pipeline.access.roles import COLLABORATION, Role
from pipeline.broker.client import BrokerError
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry

log = logging.getLogger(__name__)

MOST_CHANNELS = 20
MOST_ALERTS_PER_HOUR = 1000
"""Of one channel that a user owns; what needs more is for an operator to enable."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_FILE = re.compile(r"[A-Za-z0-9_-]{1,60}[.]py:([A-Za-z_][A-Za-z0-9_]{0,60})?")


class Refused(ZadsError):
    """A request that is not done."""


class Service:
    """Answers requests by writing the registry; the sender is whoever the request's topic is of."""

    def __init__(self, settings: RunConfig, archive: str | None) -> None:
        self._settings, self._archive = settings, archive

    def answer(self, user: str, raw: bytes, roles: Mapping[str, Role]) -> Answer:
        """Do what a record of a user's requests asks for, or say why not.

        Parameters
        ----------
        user
            Whose topic it came from.
        raw
            The record's bytes: anything that a user can write.
        roles
            The users there are.
        """
        try:
            request = Request.model_validate_json(raw)
        except ValidationError:
            return Answer(id="", done=False, text="this is no request that can be read")
        try:
            if user not in roles:
                raise Refused("there is no such user any more")
            return self._done(user, request, roles[user])
        except BrokerError:
            raise  # nobody's fault: it is done when the broker is back
        except ZadsError as error:
            log.warning("user %s, %s of %r: refused: %s", user, request.action, request.channel, error)
            told = str(getattr(error.__cause__, "traceback", ""))  # of the user's code
            return Answer(id=request.id, done=False, text=str(error), hint=error.hint or "", traceback=told)
        except Exception:
            log.exception("user %s, %s of %r", user, request.action, request.channel)
            return Answer(id=request.id, done=False, text="the service has failed on this request")

    def _done(self, user: str, request: Request, role: Role) -> Answer:
        from commands.channel.show import registry_of

        done = partial(Answer, id=request.id, done=True)
        registry = registry_of(self._settings)
        if request.action == "list":
            return done(text=_listed(user, role, registry))
        _refuse_others(user, request.channel)
        name = f"{user}.{request.channel}"
        if request.action == "show":
            return done(text=_shown(_own(registry, name)))
        if any(one.request == request.id for one in registry.history):
            return done(text=f"{name}: done already")
        actions: dict[str, Callable[[], Definition]] = {
            "create": lambda: self._new(user, request, registry, self._chosen(request)),
            "clone": lambda: self._new(user, request, registry, self._source(user, role, request, registry)),
            "set": lambda: _changed(_own(registry, name), request),
            "test": lambda: self._tested(_own(registry, name)),
            "enable": lambda: self._admitted(_own(registry, name)),
            "pause": lambda: _own(registry, name).becoming("paused"),
            "retire": lambda: _own(registry, name).becoming("retired"),
        }
        new = actions[request.action]().model_copy(update={"request": request.id})
        _refuse_what_role_forbids(new, role)
        written = self._written(user, new, request)
        if request.action == "test":
            written = "\n".join([written, *report_lines(new.report or {})])
        return done(text=written, preview=self._preview(new, request.preview))

    def _tested(self, definition: Definition) -> Definition:
        from commands.channel.edit import tried

        new = tried(self._settings, definition.with_changes(), self._archive, None)
        return new.becoming("tested") if new.is_tested and new.state == "draft" else new

    def _preview(self, definition: Definition, count: int) -> tuple[dict[str, Any], ...]:
        """What it would have delivered last: of the same rows that the channel sees."""
        from commands.channel.gate import last_matches

        return last_matches(self._settings, definition, self._archive, None, count) if count else ()

    def _written(self, user: str, new: Definition, request: Request) -> str:
        from commands.channel.edit import save
        from pipeline.channels.registry import difference

        before = _before(self._settings, new.name)
        (written,) = save(self._settings, [new], request.why, who=user)
        return f"{written.name}: {difference(before, written)} ({written.state}, {written.topic})"

    def _chosen(self, request: Request) -> Definition:
        """A definition from an expression, a filter that comes with zads, or a text for the sandbox."""
        from filters import filter_or_expression, registered
        from pipeline.channels.definition import Definition

        if request.text:
            return Definition(name="new", **_uploaded(request))
        if request.filter and request.filter not in registered():
            raise Refused(
                f"{request.filter} is no filter that comes with zads",
                hint="`zads filters` lists them; Python of your own is --filter FILE.py:FUNCTION",
            )
        chosen = filter_or_expression(request.filter, request.where)
        if not chosen:
            raise Refused("neither a filter nor an expression", hint="--filter NAME or --where EXPRESSION")
        return Definition(name="new", filter=chosen)

    def _source(self, user: str, role: Role, request: Request, registry: Registry) -> Definition:
        """The channel that is cloned: one's own, or one that the user may read."""
        from pipeline.channels.changes import known_definition
        from pipeline.channels.definition import ChannelError

        if own := registry.definitions.get(f"{user}.{request.source}"):
            return own
        unknown = Refused(f"no channel or filter {request.source} that you may read")
        try:
            found = known_definition(self._settings, registry, request.source)
        except ChannelError:  # its words would name every channel
            raise unknown from None
        if not _may_read(user, role, found):
            raise unknown
        return found

    def _new(self, user: str, request: Request, registry: Registry, source: Definition) -> Definition:
        """A draft like `source`, which was made from it."""
        from pipeline.channels.definition import Definition

        name = f"{user}.{request.channel}"
        if name in registry.definitions:
            raise Refused(f"there is a channel {name} already")
        mine = [
            one for one in registry.definitions.values() if one.owned_by == user and one.state != "retired"
        ]
        if len(mine) >= MOST_CHANNELS:
            raise Refused(f"{len(mine)} channels are as many as a user may have", hint="retire one of them")
        kept = ("filter", "source", "approved", "drop", "topics", "input", "values")
        like = {key: getattr(source, key) for key in kept}
        made_from = f"{source.name}@{source.revision}" if request.action == "clone" else ""
        access = request.access or (source.access if request.action == "clone" else "public")
        draft = Definition(
            name=name, owner=user, of=made_from, access=access, parameters=source.parameters, **like
        )
        return _changed(draft, request)

    def _admitted(self, definition: Definition) -> Definition:
        from commands.channel.edit import admit

        new = admit(self._settings, definition.with_changes(), self._archive, None, None)
        if new.state != "enabled":
            problems = "; ".join((new.report or {}).get("problems", ()))
            raise Refused(f"{definition.name} is not enabled: {problems}", hint="an operator can enable it")
        return new


def pause_unfit(settings: RunConfig, roles: Mapping[str, Role]) -> None:
    """Pause what runs for somebody who is gone or has lost the role that it needs. Raises BrokerError."""
    from commands.channel.edit import save
    from commands.channel.show import registry_of

    for one in registry_of(settings).definitions.values():
        if not one.owned_by or one.state != "enabled":
            continue
        try:
            if one.owned_by not in roles:
                raise Refused(f"user {one.owned_by} is removed")
            _refuse_what_role_forbids(one, roles[one.owned_by])
        except Refused as error:
            log.warning("channel %s is paused: %s", one.name, error)
            save(settings, [one.becoming("paused")], str(error), who="zads serve")


def _refuse_others(user: str, channel: str) -> None:
    if "." in channel:
        raise Refused(f"{channel} is not yours: name a channel of your own, without its owner")
    if not _NAME.fullmatch(channel):
        raise Refused(f"channel name {channel!r}: small letters, digits and -")


def _uploaded(request: Request) -> dict[str, Any]:
    """Fields of a definition whose filter is a text of the user's: nobody has approved it."""
    if not _FILE.fullmatch(request.filter):
        raise Refused(f"{request.filter!r} names no Python file: letters, digits, _ and -, then .py:FUNCTION")
    return {"filter": request.filter, "source": request.text, "approved": ""}


def _refuse_what_role_forbids(new: Definition, role: Role) -> None:
    if new.access == "collaboration" and role not in COLLABORATION:
        raise Refused("a channel of the collaboration needs a role of the collaboration")


def _changed(old: Definition, request: Request) -> Definition:
    """With what the request gives; a limit is always there."""
    most = request.alerts_per_hour or old.limits.alerts_per_hour or MOST_ALERTS_PER_HOUR
    if most > MOST_ALERTS_PER_HOUR:
        raise Refused(
            f"{most:,} alerts an hour are more than {MOST_ALERTS_PER_HOUR:,}", hint="an operator can allow it"
        )
    changes = {
        "parameters": {**old.parameters, **request.parameters},
        "limits": {**old.limits.model_dump(), "alerts_per_hour": most},
        "readers": old.readers if request.readers is None else request.readers,
    }
    if request.action == "set" and request.text:
        other = old.model_copy(update={**_uploaded(request), "parameters": {}})
        still = {name: value for name, value in old.parameters.items() if name in other.loaded().parameters}
        changes |= {**_uploaded(request), "parameters": {**still, **request.parameters}}
    return old.with_changes(**changes)


def _before(settings: RunConfig, name: str) -> Definition | None:
    from commands.channel.show import registry_of

    return registry_of(settings).definitions.get(name)


def _may_read(user: str, role: Role, one: Definition) -> bool:
    """Whether a user may see a channel and what it delivers."""
    named = not one.owned_by or one.owned_by == user or bool({user, "*"} & set(one.readers))
    return named and (one.access == "public" or role in COLLABORATION)


def _own(registry: Registry, name: str) -> Definition:
    """One's own channel. Raises Refused, without a word about others' channels."""
    if name not in registry.definitions:
        raise Refused(f"you have no channel {name}", hint="`zads channel list` shows yours")
    return registry.definitions[name]


def _listed(user: str, role: Role, registry: Registry) -> str:
    """One's own channels, and those that one may read."""
    seen = [one for one in registry.definitions.values() if _may_read(user, role, one)]
    return "\n".join(f"{one.name}: {one.state}, {one.filter}" for one in seen) or "no channels"


def _shown(definition: Definition) -> str:
    facts = definition.model_dump(exclude={"source", "report"}, exclude_defaults=True)
    return "\n".join(f"{key}: {value}" for key, value in facts.items())
