"""Alerts by name: a candid, an objectId, or a packet's file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from commands.shared.options import archive_at
from schemas.errors import ZadsError

if TYPE_CHECKING:
    import pandas as pd

    from archive.read.archive import Archive as Reader

T = TypeVar("T")
What = Annotated[
    str, typer.Argument(metavar="ALERT", help="A candid or an objectId of the archive, or a packet file.")
]


def reader(archive: str | None, survey: str = "ztf") -> Reader:
    """The archive that `--archive` names, else that of this machine: one survey's part of it."""
    from archive.read.archive import Archive

    return Archive(archive_at(archive), survey)


def readers(archive: str | None) -> list[Reader]:
    """Every survey's part of the archive that is there; raises NoSuchArchive when none is."""
    from archive.layout import table_of
    from archive.tables.store import is_table
    from schemas.surveys.registry import SURVEYS

    where = archive_at(archive)
    there = [name for name in SURVEYS if is_table(table_of(where, name))]
    if not there:
        reader(archive).files()
    return [reader(archive, name) for name in there]


def is_candid(what: str) -> bool:
    """Whether what a person wrote is a number that names an alert."""
    return what.isdigit()


def packets_named(what: str, archive: str | None, public: bool = False) -> list[bytes]:
    """The packets that are meant, by time: of a file, of one alert, of all alerts of an object.

    Parameters
    ----------
    what
        The file, a candid, or an objectId.
    archive
        Address of the archive; None: the usual one.
    public
        Of archived alerts only those that are public.

    Raises
    ------
    NoSuchAlert, NoSuchArchive
        When there is none.
    ZadsError
        For a name that is none of the three.
    """
    return [Path(what).read_bytes()] if Path(what).is_file() else archived(what, archive, public)


def archived(what: str, archive: str | None, public: bool = False) -> list[bytes]:
    """The archived packets that are meant, by time: of one alert, or of all alerts of an object.

    Parameters
    ----------
    what
        A candid or an objectId.
    archive
        Address of the archive; None: the usual one.
    public
        Only of alerts that are public: others are as if they were not there.

    Raises
    ------
    NoSuchAlert, NoSuchArchive
        When there is none.
    """
    from archive.read.objects import NoSuchAlert

    if is_candid(what):
        _, raw = first_of(archive, lambda part: part.packet(int(what)))
        found = [raw]
    else:
        part, curve = curve_of(what, archive, public)
        candids = [int(candid) for candid in curve.loc[curve["kind"] == "alert", "candid"]]
        found = list(part.packets(candids).values())
    seen = [raw for raw in found if not public or is_public_packet(raw)]
    if not seen:
        raise NoSuchAlert(f"no public alert {what} in the archive", hint="--collaboration looks among all")
    return seen


def is_public_packet(raw: bytes) -> bool:
    """Whether every alert of a packet is public, by the rule of its survey. Raises PacketError."""
    from schemas.frame import is_public
    from schemas.packets.packet import packet_survey
    from schemas.packets.reader import PacketReader
    from schemas.surveys.registry import survey_named

    survey = survey_named(packet_survey(raw))
    if survey.public.field is None:
        return True
    batch = PacketReader([survey.public.field], survey.name).read([raw])
    return not batch.refused and bool(is_public(batch.table, survey).all())


def curve_of(objectId: str, archive: str | None, public: bool = False) -> tuple[Reader, pd.DataFrame]:
    """The part of the archive that has an object, and its light curve.

    Parameters
    ----------
    objectId
        The object.
    archive
        Address of the archive; None: the usual one.
    public
        Only alerts and history rows that are public.

    Raises
    ------
    NoSuchAlert
        When no survey of the archive has the object.
    NoSuchArchive
        When there is no archive.
    ZadsError
        When `objectId` looks like a file.
    """
    if "/" in objectId or objectId.endswith(".avro"):
        raise ZadsError(
            f"no file {objectId}, and it is no candid or objectId",
            hint="give a packet file, a candid (all digits) or an objectId such as ZTF18abcdefg",
        )
    return first_of(archive, lambda part: part.light_curve(objectId, public))


def first_of(archive: str | None, ask: Callable[[Reader], T]) -> tuple[Reader, T]:
    """The first survey's part of the archive that has an answer, and the answer. Raises NoSuchAlert."""
    from archive.read.objects import NoSuchAlert

    missing = None
    for part in readers(archive):
        try:
            return part, ask(part)
        except NoSuchAlert as error:
            missing = missing or error
    assert missing is not None
    raise missing
