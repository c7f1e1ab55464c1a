"""The words of ZTF, on values and on every real packet."""

import math
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from schemas.frame import frame_maker
from schemas.surveys.registry import SURVEYS
from schemas.surveys.ztf.columns import signed_flux
from schemas.time import night_of

ZTF = SURVEYS["ztf"]


def test_night() -> None:
    assert night_of(2457754.5) == 0
    assert night_of(2457755.49999) == 0
    assert night_of(2460236.7) == 2482
    assert np.isnan(night_of(math.nan))
    assert night_of(np.array([2457754.5, 2457755.5])).tolist() == [0, 1]
    # Half a day later, as at Rubin, a night does not change at midnight.
    assert night_of(2460237.4, 0.5) == night_of(2460237.6, 0.5) == night_of(2460237.4)


def test_positive() -> None:
    how = ZTF.how("positive")
    assert how is not None
    words = pa.array(["t", "1", "f", "0", None])
    assert how.make({"isdiffpos": words}, "").tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("programid", "public"), [(1, True), (0, False), (2, False), (3, False), (None, False)]
)
def test_public(programid: int | None, public: bool) -> None:
    assert ZTF.public.holds(programid) is public
    assert SURVEYS["lsst"].public.holds(programid)


def test_flux() -> None:
    flux = signed_flux([25.0, 20.0, 22.5, math.nan], [True, True, False, True])
    assert flux[:3].tolist() == [1, 100, -10]
    assert np.isnan(flux[3])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sgscore1", -999),
        ("distpsnr3", -999),
        ("szmag2", -999),
        ("objectidps1", -999),
        ("neargaiabright", -999),
        ("ssdistnr", -999),
        ("prv_candidates.ssmagnr", -999),
        ("ssnamenr", "null"),
        ("fp_hists.magnr", -99999),
        ("magpsf", None),
        ("prv_candidates.magpsf", None),
    ],
)
def test_sentinels(name: str, value: float | str | None) -> None:
    assert ZTF.sentinel(name) == value


def test_on_every_real_packet(real_alerts: Path) -> None:
    """`nid` is the night of `jd`, but where the times were altered by whoever rewrote the packets."""
    paths = [
        path
        for folder in ("ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_snappy")
        for path in sorted((real_alerts / folder).glob("*.avro"))
    ]
    packets = [record for path in paths for record in fastavro.reader(path.open("rb"))]
    frame = frame_maker(["night", "nid", "exposure", "pid", "band"], "ztf").of_packets(packets)
    assert len(packets) >= 73
    assert (frame["night"] == frame["nid"]).all()
    assert (frame["exposure"] == frame["pid"]).all()
    assert set(frame["band"]) <= {"g", "r", "i"}
    for packet in packets:
        for row in packet["prv_candidates"] or []:
            assert (row["magpsf"] is not None) == (row["isdiffpos"] is not None)
            assert (row["magpsf"] is not None) == (row["candid"] is not None)
