"""One packet: the Avro file again, its cut-outs, packets as dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from archive.layout import BODY, SCHEMA, VERSION_COLUMNS, newest
from archive.read.columns import PieceReader
from archive.read.fragments import Piece, chosen, nights_of
from archive.read.table import Table
from archive.read.view import View
from archive.tables.files import DataFile
from archive.tables.fingerprints import schemas_of
from schemas.avro.framing import Block, container, container_head
from schemas.avro.public import ANNOTATIONS
from schemas.avro.rewrite import rewrite
from schemas.avro.writer import writer_schema
from schemas.errors import NoSuchColumn, NotPublic, UnknownSchema, ZadsError
from schemas.packets.packet import STAMPS, read_packet, stamp
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import Public

_SYNC = b"zads archive row"  # any 16 bytes that are unlikely in a packet


class NoSuchAlert(ZadsError):
    """The archive has no alert with this candid, or of this object."""


def no_such_alert(what: str, archive: Table) -> NoSuchAlert:
    """The error for "alert with candid 7" that an archive has not."""
    at = "" if archive.version is None else f" at version {archive.version}"
    return NoSuchAlert(
        f"no {what} in the archive {archive.path}{at}",
        hint="`zads archive follow` archives what is published; a packet file can be named too",
    )


def packets(
    archive: Table, candids: Sequence[int], nights: Any = None, public: bool = False
) -> dict[int, bytes]:
    """The newest packet of each candid, as Avro container files (null codec) with the schema of their writer.

    Only files whose range of candids contains one of them are read, and only the row groups that contain one.

    Parameters
    ----------
    archive
        The survey's table.
    candids
        Which packets.
    nights
        Nights to look in, as for `Archive.alerts`; None: all.
    public
        Only of alerts that are public, and what of them is.

    Raises
    ------
    NoSuchAlert
        When one of the candids is not there, or not public.
    """
    wanted = np.unique(np.asarray(list(candids), np.int64))
    found = dict(stream(archive, wanted, nights))
    if public:
        found = {candid: part for candid, raw in found.items() if (part := _public_packet(raw)) is not None}
    missing = [candid for candid in wanted.tolist() if candid not in found]
    if missing:
        some = ", ".join(map(str, missing[:3])) + (" …" if missing[3:] else "")
        raise no_such_alert(f"{'public ' if public else ''}alert with candid {some}", archive)
    return {int(candid): found[int(candid)] for candid in candids}


def stream(archive: Table, wanted: np.ndarray, nights: Any = None) -> Iterator[tuple[int, bytes]]:
    """The packets of those candids that are there, file by file: (candid, Avro container file).

    Parameters
    ----------
    archive
        The survey's table.
    wanted
        The candids, sorted, int64.
    nights
        Nights to look in, as for `Archive.alerts`; None: all.
    """
    places = _places(archive, wanted, nights)
    for piece, rows in places:
        reader = PieceReader(piece, survey=archive.survey)
        for table in reader.take(["candid", SCHEMA, BODY], rows):
            yield from zip(table["candid"].to_pylist(), containers(archive.path, table), strict=True)
        archive.read.add(reader.tally)


def _places(archive: Table, wanted: np.ndarray, nights: Any) -> list[tuple[Piece, np.ndarray]]:
    """Where the newest row of each candid is: pieces and row numbers in their files."""
    every = chosen(archive.files(), nights_of(nights))
    archive.read.available += sum(f.bytes for f in every)
    readers, hits, tables = [], [], []
    for file in (f for f in every if _within(f, wanted)):
        reader = PieceReader(whole(archive, file), survey=archive.survey)
        table, _ = reader.read(["candid"])
        rows = np.flatnonzero(np.isin(table["candid"].to_numpy(), wanted))
        if len(rows):
            tables += [pa.concat_tables(reader.take(VERSION_COLUMNS, rows))]
            readers.append(reader)
            hits.append(rows)
        archive.read.add(reader.tally)
    if not readers:
        return []
    keep = np.zeros(sum(map(len, hits)), bool)
    keep[newest(pa.concat_tables(tables))] = True
    masks = np.split(keep, np.cumsum([len(rows) for rows in hits])[:-1])
    return [(r.piece, rows[mask]) for r, rows, mask in zip(readers, hits, masks, strict=True) if mask.any()]


def _within(file: DataFile, wanted: np.ndarray) -> bool:
    low, high = file.limits.get("candid", (None, None))
    return low is None or bool(np.searchsorted(wanted, low) < np.searchsorted(wanted, high, "right"))


def whole(archive: Table, file: DataFile) -> Piece:
    """A data file as one piece."""
    return Piece(archive.root, file.path, file.night, file.program, file.rows)


def containers(path: str, table: pa.Table) -> list[bytes]:
    """The bodies as Avro container files."""
    return [
        container(_head(path, name), [Block(1, body)], _SYNC)
        for name, body in zip(table[SCHEMA].to_pylist(), table[BODY].to_pylist(), strict=True)
    ]


@lru_cache(maxsize=64)
def _head(path: str, name: str) -> bytes:
    return container_head(_schema(path, name))


def _schema(path: str, name: str) -> Mapping[str, Any]:
    """A writer schema of the archive by its fingerprint. Raises UnknownSchema."""
    known = schemas_of(path)
    if name not in known:
        raise UnknownSchema(f"the archive {path} has no writer schema {name}")
    schema: Mapping[str, Any] = known[name]
    return schema


@lru_cache(maxsize=64)
def _decoder(path: str, name: str) -> Callable[[bytes], dict[str, Any]]:
    """Reads bodies of one writer schema."""
    from schemas.avro.fallback import records_of
    from schemas.avro.framing import Framed

    writer = writer_schema(_schema(path, name))
    return lambda body: records_of(Framed(writer, [Block(1, body)]))[0]


def packets_of(path: str, view: View, pieces: Sequence[Piece], stamps: bool = False) -> list[dict[str, Any]]:
    """The packets of some pieces as dictionaries: one partition of the Dask bag.

    Parameters
    ----------
    path
        Address of the archive.
    view
        Which rows.
    pieces
        Pieces of data files.
    stamps
        Keep the stamps.
    """
    return [
        packet
        for piece in pieces
        for _, table, _ in view.batches(piece, rows=1, extra=[SCHEMA, BODY])
        for packet in decoded(path, view, table, stamps)
    ]


def decoded(path: str, view: View, table: pa.Table, stamps: bool = False) -> Iterator[dict[str, Any]]:
    """The packets of a table as dictionaries; in a public view without the history rows that are not public.

    Parameters
    ----------
    path
        Address of the archive.
    view
        The survey, and whether it is public.
    table
        Rows with the packets' bodies and the names of their schemas.
    stamps
        Keep the stamps.
    """
    survey = SURVEYS[view.survey]
    for name, body in zip(table[SCHEMA].to_pylist(), table[BODY].to_pylist(), strict=True):
        packet = _decoder(path, name)(body)
        if not stamps:
            packet = {key: value for key, value in packet.items() if key not in survey.stamps.fields.values()}
        if view.rule is not None and not view.rule.everything:
            packet = _public_part(packet, view.rule)
        yield packet


def _public_packet(raw: bytes) -> bytes | None:
    """What is public of a packet, None where the alert itself is not."""
    try:
        return rewrite(raw, public_only=True)
    except NotPublic:
        return None


def _public_part(record: Mapping[str, Any], rule: Public, path: str = "") -> dict[str, Any]:
    """A record without what its survey does not list as public, and without rows that are not."""
    kept: dict[str, Any] = {}
    for name, value in record.items():
        where = f"{path}.{name}" if path else name
        if not isinstance(value, Mapping | list | tuple | bytes):
            kept[name] = value
        elif where in rule.rows:
            rows = (row for row in value if isinstance(row, Mapping) and rule.holds(row.get(str(rule.field))))
            kept[name] = [_public_part(row, rule, where) for row in rows]
        elif isinstance(value, Mapping) and where in rule.listed:
            kept[name] = _public_part(value, rule, where)
        elif isinstance(value, bytes) and where in rule.listed:
            kept[name] = value
        elif where == ANNOTATIONS and isinstance(value, Mapping):
            kept[name] = {  # single values: public channels write these, of what is public
                channel: _public_part(noted, rule, f"{where}.{channel}")
                for channel, noted in value.items()
                if isinstance(noted, Mapping)
            }
    return kept


def cutouts(archive: Table, candid: int, public: bool = False) -> dict[str, np.ndarray]:
    """ "Science", "Template", "Difference" -> pixels, of those that the packet has.

    Parameters
    ----------
    archive
        The survey's table.
    candid
        Which alert.
    public
        Only if it is public.

    Raises
    ------
    NoSuchAlert
        When it is not there, or not public.
    """
    [packet] = read_packet(packets(archive, [candid], public=public)[candid])
    found = {}
    for which in STAMPS:
        try:
            found[which] = stamp(packet, which)
        except NoSuchColumn:
            continue
    return found
