"""What users ask about catalogues and watchlists of their own, by the same topics as about channels."""

from __future__ import annotations

import uuid
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ListAction = Literal["add", "edit", "remove", "share", "list", "show", "seen", "check"]
MOST_FILE = 2_000_000
"""Bytes of a file that comes with a request, which has it in base64; a longer one comes before, in parts."""
PART_BYTES = 1_500_000
_MOST_PARTS = 100
MOST_EDITED, MOST_SEEN = 1000, 1000
Value = float | int | str | bool | None


class ListRequest(BaseModel):
    """One wish about a catalogue or watchlist, about a model, or about a file.

    kind: what it should be; "list" for a catalogue or a watchlist, whichever has the name, else a watchlist.
    name: of the list, without its owner's. file, file_name: a table, or a model, base64; the ending of its
    name says which format. file_hash, parts: of a file that has come in parts. table: of a model, the text of
    its TOML file. radius, ra, dec, columns, nulls, units, radius_column, motion, footprint: as for
    `add_catalogue`; object_column: of objectIds, for a list that has no positions. rows: to be put into it,
    or changed, by the column `name` (or the one of objectIds); drop: such names to be taken out. readers: who
    may read it beside its owner, "*" for everybody. nights, days: of the archive, to look for what was seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: Literal["list"] = "list"
    kind: Literal["list", "catalogue", "watchlist", "model"] = "list"
    action: ListAction
    name: str = Field(default="", max_length=100)
    id: str = Field(default_factory=lambda: uuid.uuid4().hex, max_length=64)
    file: str = Field(default="", max_length=MOST_FILE * 4 // 3 + 4)
    file_name: str = Field(default="", max_length=100)
    file_hash: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    parts: int = Field(default=0, ge=0, le=_MOST_PARTS)
    table: str = Field(default="", max_length=50_000)
    radius: float = Field(default=3.0, gt=0)
    ra: str | None = Field(default=None, max_length=100)
    dec: str | None = Field(default=None, max_length=100)
    columns: tuple[str, ...] | None = Field(default=None, max_length=200)
    nulls: tuple[float | str, ...] | dict[str, tuple[float | str, ...]] = Field(default=(), max_length=200)
    units: dict[str, str] = Field(default_factory=dict, max_length=200)
    radius_column: str = Field(default="", max_length=100)
    motion: tuple[str, str, float] | None = None
    footprint: Literal["all", "sources"] = "all"
    object_column: str = Field(default="", max_length=100)
    rows: tuple[dict[str, Value], ...] = Field(default=(), max_length=MOST_EDITED)
    drop: tuple[str, ...] = Field(default=(), max_length=MOST_EDITED)
    readers: tuple[str, ...] | None = Field(default=None, max_length=100)
    nights: str = Field(default="", max_length=100)
    days: int = Field(default=30, ge=1, le=10_000)

    @property
    def channel(self) -> str:
        """What the request is about."""
        return self.name


class FilePart(BaseModel):
    """A part of a file that is longer than a request.

    sha256: of the whole file. number: of the part, from 0. data: its bytes, base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: Literal["part"] = "part"
    action: Literal["send"] = "send"
    id: str = Field(default_factory=lambda: uuid.uuid4().hex, max_length=64)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    number: int = Field(ge=0, lt=_MOST_PARTS)
    data: str = Field(max_length=PART_BYTES * 4 // 3 + 4)

    @property
    def channel(self) -> str:
        """What it is about."""
        return self.sha256[:12]
