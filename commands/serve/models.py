"""What is done about a user's request for a model: what it may be, whose it is, who may use it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from commands.serve.seen import Refused
from filters.external.store import Access, Store, seen_by
from filters.sandbox.models import GRAPH, TABLE
from pipeline.access.lists import ListRequest
from pipeline.access.requests import Answer

MOST_MODEL, MOST_OF_USER, MOST_MODELS = 20_000_000, 100_000_000, 20
"""Bytes of a model, and of all versions of all models of a user; how many a user may have."""
_VALUE = r"^[a-z][a-z0-9_]{0,39}$"


class Input(BaseModel):
    """What goes into a graph: numbers of the alert, or the pixels of a stamp (see filters.models.model)."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=100)
    columns: list[str] | None = Field(default=None, max_length=300)
    stamp: str | None = Field(default=None, max_length=100)
    side: int | None = Field(default=None, ge=1, le=63)
    mean: float | list[float] | None = None
    std: float | list[float] | None = None
    missing: float | list[float] | None = None


class Output(BaseModel):
    """What comes out. values: the names of its numbers."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=100)
    values: list[str] = Field(min_length=1, max_length=50)


class ModelTable(BaseModel):
    """The table of a user's model, as a TOML file has it. file, sha256: not read here, the file is known."""

    model_config = ConfigDict(extra="forbid")

    file: str = ""
    sha256: str = ""
    version: str | int = ""
    survey: Literal["ztf", "lsst"] = "ztf"
    inputs: list[Input] = Field(min_length=1, max_length=20)
    outputs: list[Output] = Field(min_length=1, max_length=20)


class Models:
    """Answers requests about models. store: where they are kept."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def answer(self, user: str, name: str, request: ListRequest, file: Callable[[], bytes]) -> Answer:
        """Do it, and say what was done.

        Parameters
        ----------
        user
            Who asks.
        name
            Of the model, with its owner's.
        request
            What for.
        file
            Gives the file that came with the request.

        Raises
        ------
        ZadsError
            When it is not done.
        """
        if request.action == "list":
            said = self._listed(user)
        elif request.action == "add":
            said = self._add(user, name, request, file())
        elif request.action in ("share", "remove"):
            with seen_by(""):
                self._store.current(name)
                said = self._share(user, name, request) if request.action == "share" else self._remove(name)
        else:
            raise Refused(f"a model cannot be asked to {request.action}")
        return Answer(id=request.id, done=True, text=said)

    def _add(self, user: str, name: str, request: ListRequest, raw: bytes) -> str:
        from filters.files.sandboxed import file_room

        if len(raw) > MOST_MODEL:
            raise Refused(f"{len(raw) / 1e6:,.1f} MB, {MOST_MODEL / 1e6:,.0f} MB may be")
        about = {**table_of(request.table), "sha256": sha256(raw).hexdigest()}
        refuse_unfit(about, file_room().model(request.file_name, raw))
        values, reads = _values_and_reads(name, about, raw)
        with seen_by(""):
            self._refuse_too_many(user, name, len(raw))
            text = json.dumps(about, sort_keys=True)
            version = sha256(raw + text.encode()).hexdigest()[:12]

            def write(folder: Path) -> None:
                (folder / GRAPH).write_bytes(raw)
                (folder / TABLE).write_text(text)

            access = self._store.access(name) or Access(user)
            if request.readers is not None:
                access = access._replace(readers=request.readers)
            self._store.share(name, access)
            self._store.add(name, version, {"what": "model", "values": values}, write)
        return (
            f"{name}: version {version} reads {len(reads)} columns and gives"
            f" {', '.join(f'{request.name}.{one}' for one in values)}"
        )

    def _refuse_too_many(self, user: str, name: str, more: int) -> None:
        mine = [one for one in self._store.names() if self._store.owner(one) == user]
        if name not in mine and len(mine) >= MOST_MODELS:
            raise Refused(f"{len(mine)} models are as many as a user may have", hint="remove one of them")
        taken = sum(file.stat().st_size for one in mine for file in (self._store.root / one).rglob(GRAPH))
        if taken + more > MOST_OF_USER:
            raise Refused(
                f"{(taken + more) / 1e6:,.0f} MB of models with their older versions,"
                f" {MOST_OF_USER / 1e6:,.0f} MB may be",
                hint="`zads model remove NAME` takes one away with all its versions",
            )

    def _share(self, user: str, name: str, request: ListRequest) -> str:
        access = Access(user, request.readers or ())
        self._store.share(name, access)
        return f"{name}: {access.told('used')}"

    def _remove(self, name: str) -> str:
        self._store.remove(name)
        return f"{name} is gone; channels that ask it are paused"

    def _listed(self, user: str) -> str:
        lines = []
        for name in self._store.names():
            access = self._store.access(name)
            values = ", ".join(self._store.about(name)["values"])
            shared = f", {access.told('used')}" if access and access.owner == user else ""
            lines.append(f"{name}: gives {values}; version {self._store.current(name)}{shared}")
        return "\n".join(lines) or "no models"


def table_of(text: str) -> dict[str, Any]:
    """A model's table from its TOML text. Raises Refused."""
    try:
        made = ModelTable.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Refused(f"its table is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(
            f"its table: {where}: {first['msg']}", hint="docs/models.md tells what a table has"
        ) from None
    return made.model_dump(exclude_none=True, exclude={"file"})


def refuse_unfit(about: Mapping[str, Any], graph: list[dict[str, str]]) -> None:
    """Raise Refused where a table is of another graph.

    Parameters
    ----------
    about
        The table.
    graph
        What the graph takes and gives, as the sandbox has read it.
    """
    for what in ("input", "output"):
        there = sorted(row["name"] for row in graph if row["what"] == what)
        wanted = sorted(one["name"] for one in about[f"{what}s"])
        if wanted != there if what == "input" else not set(wanted) <= set(there):
            raise Refused(f"its graph has the {what}s {', '.join(there)}, its table {', '.join(wanted)}")


def _values_and_reads(name: str, about: dict[str, Any], raw: bytes) -> tuple[list[str], tuple[str, ...]]:
    """What it gives and reads; nothing of the graph is opened. Raises FilterError, NoSuchColumn, Refused."""
    from filters.contract import complete
    from filters.models.model import Model

    made = Model(name, about, raw)
    for value in made.values:
        if not re.fullmatch(_VALUE, value):
            raise Refused(f"the value {value!r}: a small letter, then small letters, digits and _")
    for one in about["inputs"]:
        if ("stamp" in one) == ("columns" in one):
            raise Refused(f"its input {one['name']} needs either columns or a stamp with its side")
    return made.values, complete(made.reads, (about["survey"],), "alert")
