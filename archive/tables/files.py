"""The data files of a survey's table, from the Delta log: one class, one parser.

Statistics are optional in Delta: a file whose log entry has none, or none that can be read, is a file with
unknown limits, and its rows are counted in its footer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from archive.layout import HEALPIX, NIGHT
from archive.tables.store import filesystem_of


@dataclass(frozen=True)
class DataFile:
    """One data file: where it is, its partition, what the Delta log says of its rows.

    night: its date, None where alerts have none. program: whose data, where the survey says so. bytes: on
    disk. modified: Unix time, milliseconds. limits: column -> least and greatest raw value, of the columns
    for which they are known. partition: as Delta spells it, by column.
    """

    path: str
    night: date | None
    program: int | None
    rows: int
    bytes: int
    modified: int = 0
    limits: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    partition: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[int, int] | None:
        """Least and greatest `_healpix_29`."""
        return self.limits.get(HEALPIX)


def data_files(table: DeltaTable, address: str) -> list[DataFile]:
    """Every data file of a survey's table as it is, in the order of night, program and sky.

    address: of the table; a file is opened only if the log does not say how many rows it has.
    """
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return sorted((_file_of(action, address) for action in actions), key=_place)


def by_partition(files: Iterable[DataFile]) -> dict[tuple[str | None, str | None], list[DataFile]]:
    """The files of each (night, program), as Delta spells them."""
    groups: dict[tuple[str | None, str | None], list[DataFile]] = {}
    for file in files:
        program = None if file.program is None else str(file.program)
        groups.setdefault((file.partition[NIGHT], program), []).append(file)
    return groups


def _file_of(action: Mapping[str, Any], address: str) -> DataFile:
    path, rows = unquote(action["path"]), action.get("num_records")
    limits = {}
    for key, least in action.items():
        name = key.removeprefix("min.")
        greatest = action.get(f"max.{name}")
        if name != key and least is not None and greatest is not None:
            limits[name] = (least, greatest)
    prefix = "partition."
    partition = {key.removeprefix(prefix): value for key, value in action.items() if key.startswith(prefix)}
    return DataFile(
        path,
        partition.get(NIGHT),
        next((value for name, value in partition.items() if name != NIGHT), None),
        _count(address, path) if rows is None else rows,
        action["size_bytes"],
        action["modification_time"],
        limits,
        {name: None if value is None else str(value) for name, value in partition.items()},
    )


def _count(address: str, path: str) -> int:
    """The rows of a data file by its footer; 0 for a missing file, which raises when it is read."""
    filesystem, root = filesystem_of(address)
    try:
        with filesystem.open_input_file(f"{root}/{path}") as stream:
            return int(pq.read_metadata(stream).num_rows)
    except FileNotFoundError:
        return 0


def _place(file: DataFile) -> tuple[Any, ...]:
    lowest = None if file.cells is None else file.cells[0]
    return str(file.night), str(file.program), lowest is None, lowest or 0, file.path
