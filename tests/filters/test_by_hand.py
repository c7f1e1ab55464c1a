"""Each filter on packets worked out by hand: one that passes, and the same with one thing changed, which
stops it at the cut that is about that thing."""

import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from filters import registered
from tests.filters.packets import NOW, alert, detection, limit

Packet = dict[str, Any]

# Discovered 100 min ago, not seen two days before that.
YOUNG = [limit(2 * 1440), detection(100)]
QUIET_STAR = [detection(1440 * n, magpsf=m) for n, m in enumerate((19.0, 19.1, 19.0, 18.9, 19.0), start=1)]
STAR = {"distpsnr1": 0.5, "sgscore1": 0.9}
# SN 2007af as the Carnegie Supernova Project saw it before its maximum, at a redshift of 0.03: days ago, g,
# r.
RISE = [(8, 17.32, 17.3), (6, 16.95, 16.94), (4, 16.71, 16.71), (2, 16.58, 16.55), (1, 16.53, 16.49)]
SUPERNOVA = [
    detection(1440 * days - 10 * fid, fid=fid, magpsf=mags[fid - 1], sigmapsf=0.03)
    for days, *mags in RISE
    for fid in (1, 2)
]
AT_MAXIMUM: dict[str, Any] = {"fid": 1, "magpsf": 16.5, "sigmapsf": 0.03, "distpsnr1": 4.0}


def stamped(*sources: tuple[float, float], **candidate: Any) -> Packet:
    """An alert whose difference image has sources (column off the middle, peak), 2 pixels wide, in noise."""
    rows, columns = np.mgrid[-31:32, -31:32]
    image = np.random.default_rng(3).normal(0, 1, (63, 63))
    for column, flux in sources:
        image += flux * np.exp(-((columns - column) ** 2 + rows**2) / (2 * 0.85**2))
    file = io.BytesIO()
    fits.PrimaryHDU(image.astype("f4")).writeto(file)
    return alert(**candidate) | {"cutoutDifference": {"fileName": "x", "stampData": file.getvalue()}}


CASES: list[tuple[str, Packet, str | None]] = [
    ("real_bogus", alert(rb=0.66), None),
    ("real_bogus", alert(rb=0.65), "real"),  # as float32 it is 0.6499999762
    ("real_bogus", alert(rb=None), "real"),
    ("star_galaxy", alert(distpsnr1=1.5, sgscore1=0.51), None),
    ("star_galaxy", alert(distpsnr1=1.6, sgscore1=0.51), "PS1 source here"),
    ("star_galaxy", alert(distpsnr1=1.5, sgscore1=0.5), "a star"),
    ("star_galaxy", alert(distpsnr1=-999.0, sgscore1=-999.0), "PS1 source here"),
    ("pure", alert(fwhm=5, elong=1.125, magdiff=-0.09375), None),
    ("pure", alert(rb=0.5), "real"),
    ("pure", alert(nbad=1), "no bad pixel"),
    ("pure", alert(fwhm=5.01), "sharp"),
    ("pure", alert(elong=1.25), "round"),
    ("pure", alert(magdiff=-0.11), "magnitudes agree"),
    ("pure", alert(magdiff=None), "magnitudes agree"),
    ("pure_transient", alert([detection(31)]), None),
    ("pure_transient", alert([detection(29)]), "does not move"),
    ("pure_transient", alert([detection(29), detection(60)]), None),  # between the two, not stored in order
    ("pure_transient", alert([detection(31, isdiffpos="f")]), "does not move"),
    ("pure_transient", alert([detection(31, isdiffpos="1")]), None),
    ("pure_transient", alert([limit(31)]), "does not move"),
    ("pure_transient", alert(None), "does not move"),
    ("pure_transient", alert([detection(31)], distpsnr1=1.5, sgscore1=0.5), "no star"),
    ("pure_transient", alert([detection(31)], distpsnr1=-999.0, sgscore1=-999.0), None),
    ("pure_transient", alert([detection(31)], isdiffpos="f"), "positive"),
    ("pure_transient", alert([detection(31)], ssdistnr=5.0, ssnamenr="Ceres"), "no known object"),
    ("pure_transient", alert([detection(31)], ssdistnr=60.0), None),
    ("two_detections_30min", alert([detection(31)]), None),
    ("two_detections_30min", alert([detection(31, isdiffpos="f")]), None),  # of either sign
    ("two_detections_30min", alert([detection(29)]), "seen again tonight"),
    ("two_detections_30min", alert([limit(31)]), "seen again tonight"),
    ("two_detections_30min", alert([detection(31), detection(1440)]), "none before"),
    ("two_detections_30min", alert([detection(31), limit(1440)]), None),
    ("two_detections_30min", alert([detection(31), detection(-1440)]), None),  # tomorrow is not past
    ("two_detections_30min", alert([detection(31)], isdiffpos="0"), "positive"),
    ("two_detections_20min", alert([detection(21)]), None),
    ("two_detections_20min", alert([detection(21)], isdiffpos="f"), None),
    ("two_detections_20min", alert([detection(19)]), "first seen before"),
    ("two_detections_20min", alert([]), "first seen before"),
    ("two_detections_20min", alert([detection(40), detection(21)]), None),  # 19 min after the first
    ("two_detections_20min", alert([detection(50), detection(21)]), "not seen between"),
    ("stellar_outburst", alert(QUIET_STAR, magpsf=15.0, **STAR), None),
    ("stellar_outburst", alert(QUIET_STAR, magpsf=19.0, isdiffpos="f", **STAR), None),  # now fainter
    ("stellar_outburst", alert(QUIET_STAR, magpsf=19.0, **STAR), "outburst"),
    ("stellar_outburst", alert(QUIET_STAR[:4], magpsf=15.0, **STAR), "enough history"),
    ("stellar_outburst", alert(QUIET_STAR, magpsf=15.0, fid=2, **STAR), "enough history"),
    ("stellar_outburst", alert([*QUIET_STAR[:4], QUIET_STAR[0]], magpsf=15.0, **STAR), "enough history"),
    ("stellar_outburst", alert(QUIET_STAR, magpsf=15.0, distpsnr1=0.5, sgscore1=0.5), "a star"),
    ("stellar_outburst", alert(QUIET_STAR, magpsf=15.0, distpsnr1=1.75, sgscore1=0.9), "PS1 source here"),
    ("blue_outburst", alert(distpsnr1=0.5, sgmag1=20.5, srmag1=20.0, fid=1, magpsf=18.5), None),
    ("blue_outburst", alert(distpsnr1=0.5, sgmag1=20.5, srmag1=20.0, fid=2, magpsf=18.5), "outburst"),
    ("blue_outburst", alert(distpsnr1=0.5, sgmag1=20.0, srmag1=-999.0, fid=1), "blue"),
    ("blue_outburst", alert(distpsnr1=0.5, sgmag1=20.75, srmag1=20.0, fid=1), "blue"),
    ("blue_outburst", alert(distpsnr1=2.0, sgmag1=20.5, srmag1=20.0, fid=1), "PS1 source here"),
    ("blue_outburst", alert(distpsnr1=0.5, sgmag1=20.5, srmag1=20.0, isdiffpos="f"), "positive"),
    ("asteroid", alert(distpsnr1=5.5), None),
    ("asteroid", alert(distpsnr1=-999.0), None),
    ("asteroid", alert(distpsnr1=5.0), "no PS1 source"),
    ("asteroid", alert(distpsnr1=5.5, ndethist=2), "seen once"),
    ("asteroid", alert(distpsnr1=5.5, ndethist=None), "seen once"),
    ("asteroid", alert(distpsnr1=5.5, rb=0.6), "real"),
    ("asteroid", alert(distpsnr1=5.5, isdiffpos="f"), "positive"),
    ("asteroid", alert(distpsnr1=5.5, ssdistnr=0.0, ssnamenr="Vesta"), "no known object"),
    ("solar_system", alert(ssdistnr=0.0, ssnamenr="Vesta"), None),
    ("solar_system", alert(ssdistnr=5.25, ssnamenr="Vesta"), "known object"),
    ("solar_system", alert(ssdistnr=-999.0), "known object"),
    ("nuclear", alert(distpsnr1=0.5, sgscore1=0.4), None),
    ("nuclear", alert(distpsnr1=0.7, sgscore1=0.4), "at a PS1 source"),
    ("nuclear", alert(distpsnr1=0.5, sgscore1=0.5), "a galaxy"),
    ("nuclear", alert(distpsnr1=0.5, sgscore1=0.4, ssdistnr=3.0), "no known object"),
    ("nuclear", alert(distpsnr1=0.5, sgscore1=0.4, isdiffpos="f"), "positive"),
    ("young_supernova", alert(YOUNG), None),
    ("young_supernova", alert(YOUNG, jdstarthist=NOW - 5.5), "young"),
    ("young_supernova", alert(YOUNG, jdstarthist=None), "young"),
    ("young_supernova", alert([limit(100 + 2.6 * 1440), detection(100)]), "limit just before"),
    ("young_supernova", alert([limit(50), detection(100)]), "limit just before"),  # after it was first seen
    ("young_supernova", alert([limit(2 * 1440), detection(20)]), "does not move"),
    ("stamp_point", stamped((0.0, 100.0)), None),
    ("stamp_point", stamped((-2.0, 100.0), (2.0, -100.0)), "one point source"),
    ("stamp_point", stamped((0.0, 100.0), rb=0.1), "not hopeless"),
    ("stamp_point", stamped((0.0, 100.0), nbad=1), "no bad pixel"),
    ("stamp_point", alert(), "one point source"),  # no stamp
    ("type_ia", alert(SUPERNOVA, **AT_MAXIMUM), None),
    ("type_ia", alert(SUPERNOVA, **AT_MAXIMUM, rb=0.6), "real"),
    ("type_ia", alert(SUPERNOVA, **AT_MAXIMUM, isdiffpos="f"), "positive"),
    ("type_ia", alert(SUPERNOVA, **AT_MAXIMUM | STAR), "no star"),
    ("type_ia", alert(SUPERNOVA, **AT_MAXIMUM, ssdistnr=1.0, ssnamenr="Vesta"), "no known object"),
    ("type_ia", alert(SUPERNOVA, **AT_MAXIMUM, jdstarthist=NOW - 101), "not old"),
    ("type_ia", alert(SUPERNOVA[:3], **AT_MAXIMUM), "seen often"),
    ("type_ia", alert(SUPERNOVA[::2], **AT_MAXIMUM), "in two bands"),
    ("type_ia", alert(SUPERNOVA[:6], **AT_MAXIMUM), "enough epochs"),
    ("type_ia", alert(SUPERNOVA[::-1], **AT_MAXIMUM), None),
    ("type_ia", alert(SUPERNOVA, **AT_MAXIMUM | {"magpsf": 19.0}), "fits"),
]


@pytest.mark.parametrize(("name", "packet", "stopped_by"), CASES)
def test_by_hand(name: str, packet: Packet, stopped_by: str | None) -> None:
    verdict = registered("ztf")[name].one(packet)
    assert verdict.stopped_by == stopped_by
    assert bool(verdict) == (stopped_by is None)


def test_every_filter_has_a_case_that_passes_and_each_cut_one_that_stops() -> None:
    stopped = {(name, cut) for name, _, cut in CASES}
    for name, f in registered("ztf").items():
        assert (name, None) in stopped
        own = set(f.one(alert()).cuts) - {cut for parent in f.extends for cut in parent.one(alert()).cuts}
        assert {cut for cut in own if (name, cut) not in stopped} == set(), name


def test_real_bogus_at_the_threshold() -> None:
    """The real packet of the definitions: float32(0.65) is less than 0.65 once it is widened."""
    widened = float(np.float32(0.65))
    assert widened < 0.65
    assert not registered("ztf")["real_bogus"].one(alert(rb=widened))
    assert registered("ztf")["real_bogus"].using(rb_min=widened).one(alert(rb=widened))


def test_whole_survey() -> None:
    f = registered("ztf")["two_detections_30min"].using(whole_survey=True)
    assert f.one(alert([detection(31)], jdstarthist=NOW - 0.05))
    assert f.one(alert([detection(31)], jdstarthist=NOW - 1)).stopped_by == "first of the survey"
    assert f.one(alert([detection(31)], jdstarthist=None)).stopped_by == "first of the survey"
