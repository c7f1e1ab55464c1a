"""What an archive contains, and the removal of files that it no longer needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from archive.layout import QUARANTINE, SCHEMAS, table_of
from archive.tables.files import by_partition, data_files
from archive.tables.fingerprints import versions_of
from archive.tables.store import is_table, open_table
from archive.write.quarantine import Quarantine

RETENTION_HOURS = 168
"""Files that have been out of use for this many hours may be removed: no reader or writer takes longer."""


@dataclass
class NightInfo:
    """One partition. night: UT date, None where alerts have none; rows: records as they came, several
    of which may be of one candid; bytes: on disk."""

    night: str | None
    program: str | None
    rows: int
    files: int
    bytes: int


@dataclass
class Info:
    """An archive at a glance. version: of the Delta table; schemas: version -> fingerprints."""

    address: str
    version: int
    nights: list[NightInfo] = field(default_factory=list)
    schemas: dict[str, list[str]] = field(default_factory=dict)
    quarantined: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return sum(night.rows for night in self.nights)

    @property
    def bytes(self) -> int:
        return sum(night.bytes for night in self.nights)


def info(archive: str, survey: str = "ztf") -> Info:
    """From the Delta log alone, whatever the archive's size. Raises NoSuchArchive."""
    address = table_of(str(archive), survey)
    table = open_table(address)
    told = Info(address, table.version())
    for (night, program), files in sorted(by_partition(data_files(table, address)).items(), key=str):
        rows, size = sum(file.rows for file in files), sum(file.bytes for file in files)
        told.nights.append(NightInfo(night, program, rows, len(files), size))
    told.schemas = versions_of(str(archive))
    told.quarantined.update(Quarantine(str(archive)).rows(["reason"])["reason"].to_pylist())
    return told


def vacuum(
    archive: str,
    survey: str = "ztf",
    hours: int = RETENTION_HOURS,
    dry_run: bool = False,
    force: bool = False,
) -> list[str]:
    """Remove files that no recent version of the archive's tables needs, and those that a killed writer left.

    Parameters
    ----------
    archive
        Address of the archive.
    survey
        Whose table; the tables of schemas and quarantine are cleaned too.
    hours
        Files that a version of the last so many hours needs are kept.
    dry_run
        Only name the files.
    force
        Allow less than 168 hours. This is dangerous while someone reads an older version or writes.

    Returns
    -------
    list of str
        The files as TABLE/path.
    """
    removed: list[str] = []
    for name in (survey, SCHEMAS, QUARANTINE):
        address = table_of(str(archive), name)
        if name == survey or is_table(address):
            table = open_table(address)
            removed += [
                f"{name}/{path}"
                for path in table.vacuum(hours, dry_run, enforce_retention_duration=not force, full=True)
            ]
    return removed
