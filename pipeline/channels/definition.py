"""A channel as the registry keeps it: a definition, its states, and what a change of it may be.

    draft ─► tested ─► enabled ⇄ paused ─► retired

A filter of a file is kept by value, as the file's text, so that no file is needed where the channel runs. It
runs in process only when an operator has approved this very text; else in the sandbox (filters.sandbox).
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from filters import Filter, load
from filters.external.externals import Externals, frames_of
from filters.external.store import NoSuchExternal
from filters.limits import Limits
from filters.sandbox.question import Program, content_hash
from filters.sandbox.uploaded import uploaded
from pipeline.channels.channel import NAME, Access, Channel, topic_of
from pipeline.channels.expected import Expected
from pipeline.channels.models import expression_of, files_of
from schemas.avro.public import refuse_dropping_programid
from schemas.errors import ZadsError
from schemas.surveys.registry import SURVEYS

State = Literal["draft", "tested", "enabled", "paused", "retired"]

_MAY_BECOME: dict[State, tuple[State, ...]] = {
    "draft": ("draft", "tested", "enabled", "paused", "retired"),
    "tested": ("draft", "tested", "enabled", "paused", "retired"),
    "enabled": ("enabled", "paused", "retired"),
    "paused": ("paused", "enabled", "retired"),
    "retired": (),
}
_RUNNING_MAY_CHANGE = {"owner", "parameters", "drop", "limits"}
"""What may change while alerts flow; the rest would be another channel under the same name."""


class ChannelError(ZadsError):
    """A change of a channel that cannot be."""


class Definition(BaseModel):
    """One revision of a channel.

    filter: as `filters.load` takes it; for a file FILE.py:FUNCTION, and `source` is the file's text.
    approved: the hash of the text that an operator answers for; another text runs in the sandbox. models:
    that the text asks for by name, STORED@VERSION each. version: of the filter when this revision was made.
    external: the versions of the catalogues, regions and sky maps that it reads, when it was last tried.
    topics: a regular expression, "" for all that is read. input: the channel whose alerts are read instead,
    "" for none. report: what its backtest said. of: the channel, with its revision, that it is a clone of.
    readers: who may read a channel that a user owns beside that user, "*" for everybody. request: of the user
    who asked for this revision. asks: why its owner's wish to enable it waits for an operator. beyond: it was
    made when its owner had as many channels as they may. granted: the operator who has enabled it, beyond its
    owner's limits. who, when, why: of the change that made this revision.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    filter: str
    owner: str = ""
    source: str = ""
    approved: str = ""
    models: dict[str, str] = Field(default_factory=dict)
    version: str = ""
    external: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    access: Access = "public"
    drop: tuple[str, ...] = ()
    topics: str = ""
    limits: Limits = Limits()
    input: str = ""
    values: tuple[str, ...] = ()
    annotate: bool = False
    state: State = "draft"
    report: dict[str, Any] | None = None
    of: str = ""
    readers: tuple[str, ...] = ()
    request: str = ""
    asks: str = ""
    beyond: bool = False
    granted: str = ""
    revision: int = 0
    who: str = ""
    when: str = ""
    why: str = ""

    @property
    def owned_by(self) -> str:
        """The user whose channel it is, as its name says; "" for one of the operators'."""
        owner, dot, _ = self.name.partition(".")
        return owner if dot else ""

    @property
    def trusted(self) -> bool:
        """Whether its filter may run in the pipeline's own processes."""
        return not self.source or (not self.models and self.approved == content_hash(self.source))

    @property
    def written(self) -> str:
        """Its filter as its owner wrote it: an expression that asks models is kept as a text."""
        return expression_of(self.source) or self.filter

    @property
    def topic(self) -> str:
        """The Kafka topic that its alerts go to."""
        return topic_of(self.name, self.access)

    @property
    def key(self) -> bytes:
        """A record's key: of its own, so that compaction keeps every revision."""
        return f"{self.name}@{self.revision}".encode()

    @property
    def governs(self) -> bool:
        """Whether the registry decides about this name: a draft leaves alone what zads.toml has under it."""
        return self.state in ("enabled", "paused", "retired")

    @property
    def effect(self) -> tuple[Any, ...] | None:
        """Changes when, and only when, what runs or is expected of it may change; None: it has none."""
        if not self.governs:
            return None
        what = (
            self.filter,
            self.source,
            self.trusted,
            self.version,
            self.access,
            self.drop,
            self.topics,
            self.input,
            self.values,
            self.annotate,
            str(self.limits),
        )
        parameters = sorted(self.parameters.items())
        return (*what, parameters, self.expected) if self.state == "enabled" else ()

    @property
    def is_tested(self) -> bool:
        """Whether its report is of this very filter and parameters, and lets it pass (or it was forced)."""
        if self.report is None or self.report.get("of") != self.judged:
            return False
        return not self.report.get("problems") or bool(self.report.get("forced"))

    @property
    def expected(self) -> Expected | None:
        """What its backtest lets expect of a night; None without one of this very filter and parameters.

        Of a channel with an input neither: a backtest is of all alerts.
        """
        if self.report is None or self.report.get("of") != self.judged or self.input:
            return None
        return Expected.of(self.report.get("nights", ()), self.report.get("when", ""))

    @property
    def judged(self) -> dict[str, Any]:
        """What a backtest's verdict depends on, as plain JSON values."""
        what = {"version": self.version, "parameters": self.parameters, "access": self.access}
        return what | {name: value for name in ("input", "external") if (value := getattr(self, name))}

    def loaded(self) -> Filter:
        """The filter with its parameters. Raises ChannelError naming the channel."""
        try:
            chosen = self._filter().using(**self.parameters)
            chosen.require_reads()
            if self.access == "public":
                for survey in chosen.surveys:
                    refuse_dropping_programid(self.drop, survey)
        except ZadsError as error:
            raise ChannelError(f"channel {self.name}: {error}", hint=error.hint) from error
        except Exception as error:  # a file may raise anything
            raise ChannelError(
                f"channel {self.name}: the file of its filter {self.filter} raises"
                f" {type(error).__name__}: {error}",
                hint="the registry keeps one file: it may import packages, not files beside it",
            ) from error
        return chosen

    def _filter(self) -> Filter:
        """With its defaults; whose text nobody has approved is not run here. Raises what the text does."""
        if self.trusted:
            return load(_file_of(self.source, self.filter) if self.source else self.filter)
        file, _, function = self.filter.partition(":")
        # What a collaboration's channel sees, a public one must not find in the memory of their process.
        owner = f"{self.owned_by or self.name}, {self.access}"
        return uploaded(Program(owner, self.source, file, function, files_of(self.models)))

    def channel(self) -> Channel:
        """Ready to run. Raises ChannelError."""
        fixed = (self.access, self.drop, self.topics, self.limits, self.input, self.values, self.annotate)
        chosen = self.loaded()
        try:
            chosen.require_live()
            expected = None if self.outdated(chosen) else self.expected
            channel = Channel(self.name, chosen, *fixed, expected=expected)
            channel.check_annotation()
        except ZadsError as error:
            raise ChannelError(f"channel {self.name}: {error}", hint=error.hint) from error
        return channel

    def outdated(self, chosen: Filter) -> str:
        """What to tell when the code that runs is not the code that was tried; "" when it is, or none was.

        chosen: the filter as it is loaded now. A filter of a package, or one that comes with zads, may have
        changed since its backtest, without a change of the channel.
        """
        report = self.report or {}
        tried = report.get("of", {}).get("version", chosen.version)
        if chosen.version == tried:
            return ""
        return (
            f"channel {self.name}: the code of its filter {self.filter} is version {chosen.version}, its"
            f" backtest of {report.get('when', 'some time ago')} was of version {tried}:"
            f" `zads channel test {self.name}` tries it as it is now"
        )

    def with_external(self, externals: Externals) -> Definition:
        """The same with the versions that its filter would read now. Raises ChannelError.

        externals: the folder of them. What was tried with other versions is not tested any more.
        """
        try:
            versions = dict(externals.pinned(self.channel().external_reads).versions)
        except NoSuchExternal as error:
            raise ChannelError(f"channel {self.name}: {error}", hint=error.hint) from error
        return self.model_copy(update={"external": versions})

    def moved(self, externals: Externals) -> str:
        """What to tell when a catalogue is not the one that the backtest has read; "" when all are.

        externals: what the channel runs with. Raises NoSuchExternal for one that is gone.
        """
        tried: dict[str, str] = (self.report or {}).get("of", {}).get("external", {})
        known = externals.pinned(tried).versions
        news = [f"{name} {was} → {known[name]}" for name, was in tried.items() if known[name] != was]
        if not news:
            return ""
        return (
            f"channel {self.name}: since its backtest other versions are in use: {', '.join(news)}:"
            f" `zads channel test {self.name}` tries it with them"
        )

    def with_changes(self, **changes: Any) -> Definition:
        """The same with some fields changed, checked, its filter's values and version filled in.

        A change of what was tested makes a draft of a tested channel again. Raises ChannelError.
        """
        if self.state == "retired":
            raise ChannelError(f"channel {self.name} is retired", hint="create a channel of another name")
        try:
            new = Definition.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ChannelError(
                f"channel {self.name}: {key}: {first['msg']}, got {first['input']!r}"
            ) from None
        if self.state == "enabled" and (fixed := _changed(self, new) - _RUNNING_MAY_CHANGE):
            raise ChannelError(
                f"channel {self.name} is enabled: its {', '.join(sorted(fixed))} cannot change under way",
                hint=f"`zads channel pause {self.name}` first, or create another channel",
            )
        new = new.completed()
        if new.state == "tested" and not new.is_tested:
            new = new.model_copy(update={"state": "draft"})
        return new

    def becoming(self, state: State, **changes: Any) -> Definition:
        """The same in another state. Raises ChannelError where there is no way there."""
        if state not in _MAY_BECOME[self.state]:
            raise ChannelError(
                f"channel {self.name} is {self.state} and cannot become {state}",
                hint="a retired name is not used again: create a channel of another name"
                if self.state == "retired"
                else f"`zads channel history {self.name}` tells how it came here",
            )
        return self.model_copy(update={"state": state, **changes})

    def completed(self) -> Definition:
        """With every parameter's value and the filter's version. Raises ChannelError."""
        if not NAME.fullmatch(self.name):
            raise ChannelError(f"channel name {self.name!r}: letters, digits, _ and - only")
        try:
            re.compile(self.topics)
        except re.error as error:
            raise ChannelError(f"channel {self.name}: topics is not a regular expression: {error}") from None
        chosen = self.loaded()
        self._try_on_nothing(chosen)
        self._check_values(chosen)
        self._check_annotation()
        return self.model_copy(update={"version": chosen.version, "parameters": dict(chosen.values)})

    def _check_values(self, chosen: Filter) -> None:
        """Raise ChannelError when a column that shall travel with each alert is not there."""
        try:
            for survey in chosen.surveys:
                frames_of(self.values, survey)
        except ZadsError as error:
            raise ChannelError(f"channel {self.name}: values: {error}", hint=error.hint) from error

    def _check_annotation(self) -> None:
        """Raise ChannelError when its values are to go into the packet, and cannot."""
        try:
            self.channel().check_annotation()
        except ZadsError as error:
            raise ChannelError(f"channel {self.name}: annotate: {error}", hint=error.hint) from error

    def _try_on_nothing(self, chosen: Filter) -> None:
        """Ask the filter about no alert: what is wrong with its code is told now, not in the night."""
        try:
            chosen.cut_names()
        except Exception as error:  # a user's filter may raise anything
            words = str(error) if isinstance(error, ZadsError) else f"{type(error).__name__}: {error}"
            raise ChannelError(
                f"channel {self.name}: its filter {self.filter} fails on a batch without alerts: {words}",
                hint=getattr(error, "hint", None),
            ) from error


def unloadable(definition: Definition) -> Channel:
    """In the place of a channel whose filter cannot be loaded: it is never run, and leaves gaps."""
    none = Filter(does_not_load, tuple(SURVEYS), ("candid",), "alert", {}, definition.parameters)
    fixed = (definition.access, definition.drop, definition.topics, definition.limits, definition.input)
    return Channel(definition.name, none, *fixed)


def does_not_load(alerts: Any) -> Any:
    """Raises: its channel is suspended for as long as its filter cannot be loaded."""
    raise ChannelError("the filter of this channel could not be loaded")


def by_value(where: str) -> dict[str, str]:
    """`filter`, `source` and `approved` of a Definition for what an operator names: a file is read here.

    Raises ChannelError when the file cannot be read.
    """
    place, _, function = where.rpartition(":") if ":" in where else (where, "", "")
    if not place.endswith(".py"):
        return {"filter": where, "source": "", "approved": ""}
    try:
        text = Path(place).read_text()
    except OSError as error:
        raise ChannelError(f"cannot read the filter {where}: {error}") from None
    return {"filter": f"{Path(place).name}:{function}", "source": text, "approved": content_hash(text)}


def _changed(old: Definition, new: Definition) -> set[str]:
    what = (
        "owner",
        "filter",
        "source",
        "models",
        "parameters",
        "access",
        "drop",
        "topics",
        "limits",
        "input",
        "values",
        "annotate",
    )
    return {name for name in what if getattr(old, name) != getattr(new, name)}


@lru_cache(maxsize=1)
def _folder() -> Path:
    """A folder of this process alone: the text must stay readable for as long as the filter is used."""
    folder = Path(tempfile.mkdtemp(prefix="zads-filters-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@lru_cache(maxsize=512)
def _file_of(source: str, named: str) -> str:
    """A filter's text as a file, and its function: FILE.py:FUNCTION."""
    name, _, function = named.partition(":")
    file = _folder() / sha256(source.encode()).hexdigest()[:16] / Path(name).name
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    return f"{file}:{function}"
