"""How many records of a topic an archive has."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow.compute as pc

from archive.read.archive import Archive
from archive.tables.store import surveys_in
from archive.write.quarantine import Quarantine


class Received(NamedTuple):
    """Records of a topic: kept as rows, and quarantined."""

    kept: int
    quarantined: int


def received(address: str, topic: str, night: str | None = None) -> Received:
    """What the archive has of a topic.

    Parameters
    ----------
    address : str
        Of the archive.
    topic : str
        Its name.
    night : str, optional
        Only rows of this night, "2023-10-12"; in quarantine there are no nights.

    Returns
    -------
    Received

    Raises
    ------
    NoSuchArchive
    """
    kept = 0
    for survey in surveys_in(address):
        rows = Archive(address, survey).alerts(night, columns=["_topic"], versions="all")
        kept += int((rows["_topic"].compute(scheduler="threads") == topic).sum())
    topics = Quarantine(address).rows(["_topic"])["_topic"]
    return Received(kept, pc.sum(pc.equal(topics, topic)).as_py() or 0)
