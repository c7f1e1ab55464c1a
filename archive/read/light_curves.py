"""The light curve of an object: its alerts, the histories and limits that they carry, each exposure once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from archive.read.columns import PieceReader
from archive.read.cones import Cone
from archive.read.fragments import WHOLE
from archive.read.objects import NoSuchAlert, whole
from archive.read.table import Table
from archive.read.view import View
from archive.read.where import Condition
from filters.history import history
from schemas.errors import ZadsError

_SAME_OBJECT = 10 / 3600
"""Degrees around one alert within which all of its object lie: ZTF gives one name within 1.5 arcsec."""

_EPOCH = ("jd", "fid", "pid", "magpsf", "sigmapsf", "diffmaglim", "positive", "programid", "candid")
_MEASURED = ("forcediffimflux", "forcediffimfluxunc", "magzpsci", "mag", "usable")
_FORCED = ("jd", "fid", "pid", *_MEASURED, "programid")
_READS = (
    *_EPOCH,
    "ra",
    "dec",
    *(f"prv_candidates.{name}" for name in _EPOCH),
    *(f"fp_hists.{name}" for name in _FORCED),
)
_ORDER = {"alert": 0, "detection": 1, "limit": 2, "forced": 3}


def light_curve(archive: Table, objectId: str, public: bool = False) -> pd.DataFrame:
    """One row an exposure (`pid`), in the order of time.

    Columns: kind ("alert": an alert of its own; "detection" and "limit": from a history; "forced": only
    measured where the source was seen at other times), jd (days UTC), fid, pid, magpsf, sigmapsf, diffmaglim
    (mag), positive, programid, candid (of an alert or detection), and of forced photometry forcediffimflux,
    forcediffimfluxunc (DN), magzpsci (mag), mag, usable. Of several accounts of one exposure the alert's own
    goes before a history's, a detection before a limit, the later alert before the earlier. Rows of a history
    that are not before their alert are left out, as everywhere.

    Raises NoSuchAlert.
    """
    if archive.survey != "ztf":
        raise ZadsError("light curves are made of ZTF's histories so far")
    named = Condition("objectId", "==", objectId)
    view = View(_READS, archive.survey, public, _around(archive, named), (named,))
    frames = []
    for piece in archive.select(view, rows=WHOLE, tally=archive.read):
        reader = view.reader(piece)
        frames += [frame for frame, _, _ in view.batches(piece, WHOLE, reader)]
        archive.read.add(reader.tally)
    frame = pd.concat(frames, ignore_index=True) if frames else view.empty()
    if frame.empty:
        raise NoSuchAlert(f"no {'public ' if public else ''}alert of {objectId} in {archive!r}")
    return _joined(_told(frame), _forced(frame))


def _around(archive: Table, named: Condition) -> Cone | None:
    """The part of the sky where the object is: its first alert found, the newest night first."""
    for file in reversed(archive.files()):
        if not named.possible(file.limits):
            continue
        reader = PieceReader(whole(archive, file), survey=archive.survey)
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
    key = pd.DataFrame({"pid": told["pid"], "jd": told["jd"].where(told["pid"].isna())})
    best = told[~key.duplicated()].drop(columns=["rank", "told"])
    extra = list(_MEASURED)
    best = best.merge(forced[["pid", *extra]].dropna(subset=["pid"]), on="pid", how="left")
    alone = forced[~forced["pid"].isin(best["pid"])].drop(columns="told").assign(kind="forced")
    whole = pd.concat([best, alone], ignore_index=True) if len(alone) else best
    whole["positive"] = whole["positive"].astype("boolean")
    whole["usable"] = whole["usable"].astype("boolean").fillna(False).astype(bool)
    columns = ["kind", *_EPOCH, *extra]
    return whole.sort_values("jd", kind="stable", ignore_index=True)[columns]
