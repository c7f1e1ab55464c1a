"""The packets of an archive in order of time, to publish a night again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from archive.layout import BODY, SCHEMA
from archive.read.archive import Archive, Versions
from archive.read.columns import PieceReader
from archive.read.fragments import WHOLE, Piece
from archive.read.objects import containers
from schemas.avro.rewrite import rewrite
from schemas.time import unix_of_jd

_AT_ONCE = 1_000  # packets in memory, 80 MB of them


def in_time_order(
    archive: Archive,
    nights: Any = None,
    wanted: pd.DataFrame | None = None,
    cone: Any = None,
    where: Any = None,
    versions: Versions = "newest",
    public: bool = True,
) -> Iterator[tuple[bytes, float]]:
    """Packets with the Unix times (s) of their exposures, the earliest first. Alerts without a `jd` are left
    out.

    Parameters
    ----------
    archive
        The survey's archive.
    nights
        As for `Archive.alerts`.
    wanted
        Only the alerts of these matches of a replay; found by candid, and by file or Kafka's offset if the
        matches have them. None: all.
    cone
        As for `Archive.alerts`.
    where
        As for `Archive.alerts`.
    versions
        As for `Archive.alerts`.
    public
        As a public channel: no alert and no history row that is not public.

    Returns
    -------
    iterator of (bytes, float)
        Avro container files, Unix times.
    """
    view = archive.view(["jd", "_partition", "_offset", "_file"], cone, where, public)
    pieces: list[Piece] = []
    parts = []
    for piece in archive.select(view, nights, versions, WHOLE):
        for frame, _, rows in view.batches(piece, WHOLE):
            parts.append(frame.assign(piece=len(pieces), row=rows))
            pieces.append(piece)
    if not parts:
        return
    alerts = pd.concat(parts, ignore_index=True).dropna(subset="jd")
    if wanted is not None:
        keys = record_keys(wanted)
        chosen = pd.MultiIndex.from_frame(_plain(wanted[keys]))
        alerts = alerts[pd.MultiIndex.from_frame(_plain(alerts[keys])).isin(chosen)]
    alerts = alerts.sort_values(["jd", "candid"], kind="stable", ignore_index=True)
    for start in range(0, len(alerts), _AT_ONCE):
        yield from _packets(archive, pieces, alerts.iloc[start : start + _AT_ONCE], public)


def record_keys(matches: pd.DataFrame) -> list[str]:
    """The columns of a replay's matches that tell one packet from another."""
    return [name for name in ("candid", "_partition", "_offset", "_file") if name in matches.columns]


def _plain(keys: pd.DataFrame) -> pd.DataFrame:
    """One value for "missing", whatever the column's type."""
    return keys.astype(object).where(keys.notna(), None)


def _packets(
    archive: Archive, pieces: list[Piece], alerts: pd.DataFrame, public: bool
) -> Iterator[tuple[bytes, float]]:
    found: dict[tuple[int, int], bytes] = {}
    for number, rows in alerts.groupby("piece")["row"]:
        wanted = np.sort(rows.to_numpy())
        reader = PieceReader(pieces[int(str(number))], survey=archive.survey)
        table = pa.concat_tables(reader.take([SCHEMA, BODY], wanted))
        places = ((int(str(number)), row) for row in wanted.tolist())
        found |= dict(zip(places, containers(archive.path, table), strict=True))
        archive.read.add(reader.tally)
    for piece, row, jd in zip(alerts["piece"], alerts["row"], alerts["jd"], strict=True):
        raw = found[piece, row]
        yield rewrite(raw, public_only=True) if public else raw, unix_of_jd(jd)
