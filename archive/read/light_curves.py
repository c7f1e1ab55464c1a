"""The light curve of an object: its alerts, the histories and limits that they carry, each exposure once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from archive.read.columns import PieceReader
from archive.read.cones import Cone
from archive.read.fragments import WHOLE
from archive.read.objects import no_such_alert, whole
from archive.read.table import Table
from archive.read.view import View
from archive.read.where import Condition
from filters.history import history
from schemas.surveys.registry import survey_named
from schemas.surveys.survey import LightCurve

FORCED_POSITIVE = "forced_positive"
"""The column that says whether the forced flux is above zero."""

_ORDER = {"alert": 0, "detection": 1, "limit": 2, "forced": 3}


def light_curve(archive: Table, objectId: str, public: bool = False) -> pd.DataFrame:
    """The light curve of an object: one row an exposure, in order of time.

    Columns: `kind` ("alert": the exposure has its own alert; "detection" and "limit": from a history;
    "forced": measured only by forced photometry), the columns that the survey's `light_curve.epoch` names
    (for ZTF jd in days UTC, fid, pid, magpsf, sigmapsf, diffmaglim in mag, positive, programid, candid; for
    Rubin jd, band, exposure, flux, fluxerr in nJy, mag, magerr, positive, snr, candid), and those of
    `light_curve.measured` for forced photometry.

    When several rows describe one exposure, the alert's own is preferred to a history's, a detection to a
    limit, and a later alert to an earlier one. Rows of a history that are not before their alert are left
    out.

    Parameters
    ----------
    archive
        The survey's table.
    objectId
        The object.
    public
        Only alerts and history rows that are public.

    Raises
    ------
    NoSuchAlert
        When the archive has no (public) alert of the object.
    """
    made = survey_named(archive.survey).light_curve
    named = Condition("objectId", "==", objectId)
    view = View(_reads(made), archive.survey, public, _around(archive, named, made.radius), (named,))
    frames = []
    for piece in archive.select(view, rows=WHOLE, tally=archive.read):
        reader = view.reader(piece)
        frames += [frame for frame, _, _ in view.batches(piece, WHOLE, reader)]
        archive.read.add(reader.tally)
    frame = pd.concat(frames, ignore_index=True) if frames else view.empty()
    if frame.empty:
        raise no_such_alert(f"{'public ' if public else ''}alert of {objectId}", archive)
    return _joined(_told(frame, made), _forced(frame, made), made)


def _reads(made: LightCurve) -> tuple[str, ...]:
    own = (*made.epoch, *([made.limit] if made.limit else []))
    past = (f"{made.detections}.{name}" for name in (*own, made.value) if made.detections)
    forced = (f"{made.forced}.{name}" for name in made.measured if made.forced)
    return tuple(dict.fromkeys([*own, made.value, "ra", "dec", *past, *forced]))


def _around(archive: Table, named: Condition, radius: float) -> Cone | None:
    """The part of the sky where the object is: around its first alert found, the newest night first."""
    for file in reversed(archive.files()):
        if not named.possible(file.limits):
            continue
        reader = PieceReader(whole(archive, file), survey=archive.survey)
        table, _ = reader.read(["objectId"])
        archive.read.add(reader.tally)
        rows = np.flatnonzero(pc.equal(table["objectId"], named.value).to_numpy())
        if len(rows):
            place = pa.concat_tables(reader.take(["ra", "dec"], rows[:1])).to_pylist()[0]
            return None if None in place.values() else Cone(place["ra"], place["dec"], radius)
    raise no_such_alert(f"alert of {named.value}", archive)


def _told(frame: pd.DataFrame, made: LightCurve) -> pd.DataFrame:
    """Every row about an exposure: columns of an epoch, kind, told (jd of the alert that it is from)."""
    alerts = frame[list(made.epoch)].assign(kind="alert", told=frame["jd"])
    if not made.detections:
        return alerts.astype({"candid": "Int64"})
    past = history(frame, made.detections)
    rows = past.frame().reset_index(drop=True)
    kinds = np.where(rows[made.value].notna() | (made.limit is None), "detection", "limit")
    rows = rows[list(made.epoch)].assign(kind=kinds, told=frame["jd"].to_numpy()[past.rows])
    return pd.concat(
        [alerts.astype({"candid": "Int64"}), rows.astype({"candid": "Int64"})], ignore_index=True
    )


def _forced(frame: pd.DataFrame, made: LightCurve) -> pd.DataFrame | None:
    """Forced photometry of each exposure, as the latest alert has it."""
    if not made.forced:
        return None
    past = history(frame, made.forced)
    names = {"positive": FORCED_POSITIVE}  # the epoch's own sign is another
    rows = past.frame().reset_index(drop=True)[list(made.measured)].rename(columns=names)
    told = rows.assign(told=frame["jd"].to_numpy()[past.rows])
    key = made.exposure
    return told.sort_values("told", ascending=False, kind="stable").drop_duplicates(
        [key, "jd"] if told[key].isna().any() else key
    )


def _joined(told: pd.DataFrame, forced: pd.DataFrame | None, made: LightCurve) -> pd.DataFrame:
    """The best row of each exposure, with its forced photometry."""
    told = told.assign(rank=told["kind"].map(_ORDER))
    told = told.sort_values(["rank", "told"], ascending=[True, False], kind="stable")
    exposure = made.exposure
    key = pd.DataFrame({"exposure": told[exposure], "jd": told["jd"].where(told[exposure].isna())})
    whole = told[~key.duplicated()].drop(columns=["rank", "told"])
    extra: list[str] = []
    if forced is not None:
        extra = [FORCED_POSITIVE, *(name for name in made.measured if name not in made.epoch)]
        measured = forced[[exposure, *extra]].dropna(subset=[exposure])
        best = whole.merge(measured, on=exposure, how="left")
        alone = forced[~forced[exposure].isin(best[exposure])].drop(columns="told").assign(kind="forced")
        whole = pd.concat([best, alone], ignore_index=True) if len(alone) else best
        for name in (FORCED_POSITIVE, "usable"):
            whole[name] = whole[name].astype("boolean").fillna(False).astype(bool)
    whole["positive"] = whole["positive"].astype("boolean")
    columns = ["kind", *made.epoch, *extra]
    return whole.sort_values("jd", kind="stable", ignore_index=True)[columns]
