"""One object, one packet: light curve, the Avro file again, cut-outs, packets as dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from archive.columns import PieceReader
from archive.cones import Cone
from archive.fingerprints import schemas_of
from archive.fragments import Fragment, Piece, chosen, nights_of
from archive.layout import BODY, SCHEMA, VERSION_COLUMNS, newest
from archive.view import View
from archive.where import Condition
from filters.history import history
from schemas.definitions import is_public
from schemas.errors import NoSuchColumn, UnknownSchema, ZadsError
from schemas.framing import Block, container, container_head
from schemas.packet import STAMPS, read_packet, stamp
from schemas.surveys import SURVEYS
from schemas.writer import writer_schema

if TYPE_CHECKING:
    from archive.reading import Archive

_SYNC = b"zads archive row"  # any 16 bytes that are unlikely in a packet
_SAME_OBJECT = 10 / 3600
"""Degrees around one alert within which all of its object lie: ZTF gives one name within 1.5 arcsec."""


class NoSuchAlert(ZadsError):
    """The archive has no alert with this candid, or of this object."""


def packets(archive: Archive, candids: Sequence[int], nights: Any = None) -> dict[int, bytes]:
    """candid -> Avro container file (null codec) with the schema it was written with; the newest of each.

    Only files whose range of candids holds one of them are looked at, and of the bodies only the row groups
    that have one. Raises NoSuchAlert.
    """
    wanted = np.unique(np.asarray(list(candids), np.int64))
    found = dict(stream(archive, wanted, nights))
    missing = [candid for candid in wanted.tolist() if candid not in found]
    if missing:
        some = ", ".join(map(str, missing[:3])) + (" …" if missing[3:] else "")
        raise NoSuchAlert(f"no alert with candid {some} in {archive!r}")
    return {int(candid): found[int(candid)] for candid in candids}


def stream(archive: Archive, wanted: np.ndarray, nights: Any = None) -> Iterator[tuple[int, bytes]]:
    """The packets of those of the candids (sorted, int64) that are there, file by file: candid, Avro file."""
    places = _places(archive, wanted, nights)
    for piece, rows in places:
        reader = PieceReader(piece, survey=archive.survey)
        for table in reader.take(["candid", SCHEMA, BODY], rows):
            yield from zip(table["candid"].to_pylist(), _containers(archive.path, table), strict=True)
        archive.read.add(reader.tally)


def _places(archive: Archive, wanted: np.ndarray, nights: Any) -> list[tuple[Piece, np.ndarray]]:
    """Where the newest row of each candid is: pieces and row numbers in their files."""
    every = chosen(archive.files(), nights_of(nights))
    archive.read.available += sum(f.bytes for f in every)
    readers, hits, tables = [], [], []
    for file in (f for f in every if _within(f, wanted)):
        reader = PieceReader(_whole(archive, file), survey=archive.survey)
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


def _within(file: Fragment, wanted: np.ndarray) -> bool:
    low, high = file.limits.get("candid", (None, None))
    return low is None or bool(np.searchsorted(wanted, low) < np.searchsorted(wanted, high, "right"))


def _whole(archive: Archive, file: Fragment) -> Piece:
    return Piece(archive.root, file.path, file.night, file.programid, file.rows)


def _containers(path: str, table: pa.Table) -> list[bytes]:
    """The bodies as packets that everybody can read."""
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
    from schemas.framing import Framed
    from schemas.slow import records_of

    writer = writer_schema(_schema(path, name))
    return lambda body: records_of(Framed(writer, [Block(1, body)]))[0]


def packets_of(
    path: str, view: View, pieces: Sequence[Piece], stamps: bool = False, extra: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The packets of some pieces as dictionaries. extra: columns of the archive to add to each."""
    return [
        packet
        for piece in pieces
        for table in _tables(view, piece, extra)
        for packet in _decoded(path, view, table, stamps, extra)
    ]


def _tables(view: View, piece: Piece, extra: Sequence[str]) -> Iterator[pa.Table]:
    for _, table, _ in view.batches(piece, rows=1, extra=[SCHEMA, BODY, *extra]):
        yield table


def _decoded(
    path: str, view: View, table: pa.Table, stamps: bool, extra: Sequence[str]
) -> Iterator[dict[str, Any]]:
    survey = SURVEYS[view.survey]
    own = [table[name].to_pylist() for name in extra]
    for number, (name, body) in enumerate(
        zip(table[SCHEMA].to_pylist(), table[BODY].to_pylist(), strict=True)
    ):
        packet = _decoder(path, name)(body)
        if not stamps:
            packet = {key: value for key, value in packet.items() if key not in survey.stamps}
        if view.public:
            packet |= {h: _public_rows(packet[h]) for h in survey.histories if packet.get(h)}
        yield packet | {name: values[number] for name, values in zip(extra, own, strict=True)}


def _public_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if is_public(row.get("programid"))]


def cutouts(archive: Archive, candid: int) -> dict[str, np.ndarray]:
    """ "Science", "Template", "Difference" -> pixels, of those that the packet has."""
    [packet] = read_packet(packets(archive, [candid])[candid])
    found = {}
    for which in STAMPS:
        try:
            found[which] = stamp(packet, which)
        except NoSuchColumn:
            continue
    return found


# Light curves

_EPOCH = ("jd", "fid", "pid", "magpsf", "sigmapsf", "diffmaglim", "positive", "programid", "candid")
_FORCED = ("jd", "fid", "pid", "forcediffimflux", "forcediffimfluxunc", "mag", "usable", "programid")
_READS = (
    *_EPOCH,
    "ra",
    "dec",
    *(f"prv_candidates.{name}" for name in _EPOCH),
    *(f"fp_hists.{name}" for name in _FORCED),
)
_ORDER = {"alert": 0, "detection": 1, "limit": 2, "forced": 3}


def light_curve(archive: Archive, objectId: str, public: bool = False) -> pd.DataFrame:
    """One row an exposure (`pid`), in the order of time.

    Columns: kind ("alert": an alert of its own; "detection" and "limit": from a history; "forced": only
    measured where the source was seen at other times), jd (days UTC), fid, pid, magpsf, sigmapsf, diffmaglim
    (mag), positive, programid, candid (of an alert or detection), and of forced photometry forcediffimflux,
    forcediffimfluxunc (DN), mag, usable. Of several accounts of one exposure the alert's own goes before a
    history's, a detection before a limit, the later alert before the earlier. Rows of a history that are
    not before their alert are left out, as everywhere.

    Raises NoSuchAlert.
    """
    if archive.survey != "ztf":
        raise ZadsError("light curves are made of ZTF's histories so far")
    named = Condition("objectId", "==", objectId)
    view = View(_READS, archive.survey, public, _around(archive, named), (named,))
    frames = []
    for piece in archive.select(view, rows=1 << 62, tally=archive.read):
        reader = view.reader(piece)
        frames += [frame for frame, _, _ in view.batches(piece, 1 << 62, reader)]
        archive.read.add(reader.tally)
    frame = pd.concat(frames, ignore_index=True) if frames else view.empty()
    if frame.empty:
        raise NoSuchAlert(f"no {'public ' if public else ''}alert of {objectId} in {archive!r}")
    return _joined(_told(frame), _forced(frame))


def _around(archive: Archive, named: Condition) -> Cone | None:
    """The part of the sky where the object is: its first alert found, the newest night first."""
    for file in reversed(archive.files()):
        if not named.possible(file.limits):
            continue
        reader = PieceReader(_whole(archive, file), survey=archive.survey)
        table, _ = reader.read(["objectId"])
        archive.read.add(reader.tally)
        rows = np.flatnonzero(pc.equal(table["objectId"], named.value).to_numpy())
        if len(rows):
            place = pa.concat_tables(reader.take(["ra", "dec"], rows[:1])).to_pylist()[0]
            return None if None in place.values() else Cone(place["ra"], place["dec"], _SAME_OBJECT)
    raise NoSuchAlert(f"no alert of {named.value} in {archive!r}")


def _told(frame: pd.DataFrame) -> pd.DataFrame:
    """Every account of an exposure: `_EPOCH`, kind, told (jd of the alert that tells it)."""
    alerts = frame[list(_EPOCH)].assign(kind="alert", told=frame["jd"])
    past = history(frame, "prv_candidates")
    rows = past.frame().reset_index(drop=True)[list(_EPOCH)]
    kinds = np.where(rows["magpsf"].notna(), "detection", "limit")
    rows = rows.assign(kind=kinds, told=frame["jd"].to_numpy()[past.rows])
    return pd.concat(
        [alerts.astype({"candid": "Int64"}), rows.astype({"candid": "Int64"})], ignore_index=True
    )


def _forced(frame: pd.DataFrame) -> pd.DataFrame:
    past = history(frame, "fp_hists")
    rows = past.frame().reset_index(drop=True)[list(_FORCED)]
    told = rows.assign(told=frame["jd"].to_numpy()[past.rows])
    return told.sort_values("told", ascending=False, kind="stable").drop_duplicates(
        ["pid", "jd"] if told["pid"].isna().any() else "pid"
    )


def _joined(told: pd.DataFrame, forced: pd.DataFrame) -> pd.DataFrame:
    """The best account of each exposure, with its forced photometry."""
    told = told.assign(rank=told["kind"].map(_ORDER))
    told = told.sort_values(["rank", "told"], ascending=[True, False], kind="stable")
    key = told["pid"].astype("Float64").fillna(-told["jd"].astype("Float64"))  # without a pid, its time
    best = told[~key.duplicated()].drop(columns=["rank", "told"])
    extra = ["forcediffimflux", "forcediffimfluxunc", "mag", "usable"]
    best = best.merge(forced[["pid", *extra]].dropna(subset=["pid"]), on="pid", how="left")
    alone = forced[~forced["pid"].isin(best["pid"])].drop(columns="told").assign(kind="forced")
    whole = pd.concat([best, alone], ignore_index=True) if len(alone) else best
    whole["positive"] = whole["positive"].astype("boolean")
    whole["usable"] = whole["usable"].astype("boolean").fillna(False).astype(bool)
    columns = ["kind", *_EPOCH, *extra]
    return whole.sort_values("jd", kind="stable", ignore_index=True)[columns]
