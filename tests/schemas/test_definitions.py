"""The words of the definitions, on values and on every real packet."""

import math
from pathlib import Path

import fastavro
import numpy as np
import pytest

from schemas.surveys import definitions as d


def test_night() -> None:
    assert d.night(2457754.5) == 0
    assert d.night(2457755.49999) == 0
    assert d.night(2460236.7) == 2482
    assert np.isnan(d.night(math.nan))
    assert d.night(np.array([2457754.5, 2457755.5])).tolist() == [0, 1]
    # Rubin's night is UTC - 12 h: it does not change at midnight.
    assert d.night(2460237.4, "lsst") == d.night(2460237.6, "lsst") == d.night(2460237.4)


@pytest.mark.parametrize(
    ("word", "positive"), [("t", True), ("1", True), ("f", False), ("0", False), (None, False)]
)
def test_positive(word: str | None, positive: bool) -> None:
    assert d.is_positive(word) is positive


def test_detection() -> None:
    assert d.is_detection(18.5)
    assert not d.is_detection(None)
    assert not d.is_detection(math.nan)


@pytest.mark.parametrize(
    ("programid", "public"), [(1, True), (0, False), (2, False), (3, False), (None, False)]
)
def test_public(programid: int | None, public: bool) -> None:
    assert d.is_public(programid) is public


def test_flux() -> None:
    flux = d.signed_flux([25.0, 20.0, 22.5, math.nan], [True, True, False, True])
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
    assert d.sentinel(name) == value


def test_on_every_real_packet(real_alerts: Path) -> None:
    """`nid` is the night of `jd`, but where the times were altered by whoever rewrote the packets."""
    packets = 0
    for folder in ("ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_snappy"):
        for path in sorted((real_alerts / folder).glob("*.avro")):
            with path.open("rb") as file:
                for packet in fastavro.reader(file):
                    assert isinstance(packet, dict)
                    candidate = packet["candidate"]
                    assert d.night(candidate["jd"]) == candidate["nid"]
                    for row in packet["prv_candidates"] or []:
                        assert d.is_detection(row["magpsf"]) == (row["isdiffpos"] is not None)
                        assert d.is_detection(row["magpsf"]) == (row["candid"] is not None)
                    packets += 1
    assert packets == 73
