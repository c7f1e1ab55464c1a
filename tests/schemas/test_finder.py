"""Finder charts: directions by positions, and the night against astropy's own numbers."""

from __future__ import annotations

import gzip
import io
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from schemas.errors import ZadsError
from schemas.packets.packet import read_packet, stamp
from schemas.pictures.facts import facts, sexagesimal
from schemas.pictures.figure import write_figure
from schemas.pictures.finder import finder_chart
from schemas.pictures.light_curve import CannotDraw
from schemas.pictures.observe import observability, site_named
from simulator import simulate


@pytest.fixture(scope="module")
def packet():
    return read_packet(next(simulate(1, seed=3)).packet)[0]


def test_a_neighbour_is_where_the_stamps_own_wcs_has_it(packet, tmp_path):
    """Two bright pixels, placed by the FITS header; circles around them by their coordinates."""
    data = gzip.decompress(packet["cutoutTemplate"]["stampData"])
    units = fits.open(io.BytesIO(data))
    image = np.random.default_rng(1).normal(0, 1, (63, 63)).astype("f4")
    places = [(12, 40), (50, 22)]  # row, column
    for row, column in places:
        image[row, column] = 1e4
    sky = WCS(units[0].header).all_pix2world([[column, row] for row, column in places], 0)
    made = io.BytesIO()
    fits.PrimaryHDU(image, units[0].header).writeto(made)
    changed = packet | {"cutoutTemplate": {"fileName": "x", "stampData": gzip.compress(made.getvalue())}}
    around = pd.DataFrame(
        {"ra": sky[:, 0], "dec": sky[:, 1], "objid": [95420812345678901, 3], "rmag": [17.0, 18.0]}
    )
    figure = finder_chart(changed, neighbours=around, when="2023-10-12T20:00")
    chart = figure.axes[0]
    [drawn] = chart.images
    (left, right), (bottom, top) = chart.get_xlim(), chart.get_ylim()
    assert left > 0 > right, "east left"
    assert top > 0 > bottom, "north up"
    levels, to_pixels = drawn.get_array(), (drawn.get_transform() - chart.transData).inverted()
    circles = [line for line in chart.lines if str(line.get_gid()).startswith("neighbour")]
    assert len(circles) == 2
    for circle in circles:
        x, y = circle.get_xdata()[0], circle.get_ydata()[0]
        column, row = to_pixels.transform((x, y))
        assert levels[round(row), round(column)] > 0.9, "the middle of the circle is in the bright pixel"
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    words = "\n".join(texts)
    place = sexagesimal(facts(packet)["ra"], facts(packet)["dec"])
    for word in (packet["objectId"], place, "10″", "N", "E"):
        assert word in words
    assert f"{facts(packet)['ra']:.6f}°" in words
    assert "rmag 17.00, objid 95420812345678901" in words, "brightness, and every digit of the name"
    assert "″ away" in words
    for name in ("chart.png", "chart.pdf"):
        assert write_figure(figure, tmp_path / name).stat().st_size > 10_000
    assert np.array_equal(stamp(changed, "Template"), image), "the array stays as it was"


def test_a_neighbour_has_the_brightness_that_is_known(packet):
    known = facts(packet)
    some = pd.DataFrame({"ra": known["ra"], "dec": known["dec"] + np.arange(1, 11) / 3600}).assign(
        gmag=[np.nan] + [20.0] * 9, rmag=19.0
    )
    chart = finder_chart(packet, neighbours=some, when="2023-10-12T20:00")
    words = "\n".join(text.get_text() for axes in chart.axes for text in axes.texts)
    assert "1: 1.0″ away (0.0″ W, 1.0″ N), rmag 19.00" in words or "(0.0″ E, 1.0″ N), rmag 19.00" in words
    assert "gmag 20.00" in words
    assert "nan" not in words
    assert "the nearest 8 of 10 in the field" in words


def test_without_a_stamp_it_says_so(packet):
    with pytest.raises(CannotDraw, match="no stamp"):
        finder_chart(packet | {"cutoutTemplate": None})


def test_the_night_as_published():
    """Palomar, 2023-10-12: new Moon on the 14th; dark from 02:42 to 12:32 UTC (USNO)."""
    seen = observability(0.0, 33.36, "palomar", "2023-10-12T20:00")
    dark = seen.utc[seen.dark]
    assert abs((dark[0] - np.datetime64("2023-10-13T02:42")) / np.timedelta64(1, "m")) < 12
    assert abs((dark[-1] - np.datetime64("2023-10-13T12:32")) / np.timedelta64(1, "m")) < 12
    assert seen.altitude.max() > 89, "it passes through the zenith"
    assert seen.illuminated < 0.06
    assert "higher than 30°" in seen.words()
    assert "not observable" in observability(0.0, -80.0, "palomar", "2023-10-12T20:00").words()
    assert "not observable" not in observability(0.0, -80.0, "Cerro Pachon", "2023-10-12T20:00").words()


@pytest.mark.parametrize("site", ["palomar", "Cerro Pachon", "mauna kea", "paranal"])
def test_a_date_is_that_of_the_evening_at_the_site(site, packet):
    seen = observability(0.0, -10.0, site, "2025-10-13")
    _, place = site_named(site)
    set_ = seen.utc[np.flatnonzero(seen.sun < 0)[0]] + np.timedelta64(int(place.lon.deg * 240), "s")
    assert str(set_)[:10] == seen.evening == "2025-10-13"
    assert "2025-10-1" in seen.words()


@pytest.mark.parametrize("hour", range(0, 24, 3))
def test_no_night_that_is_over(hour):
    """At any moment: the place can be observed after it, within a day and a half."""
    now = np.datetime64("2026-11-26T00:49") + np.timedelta64(hour, "h")
    seen = observability(330.0, 20.0, "palomar", str(now))
    assert now < seen.utc[seen.good][-1] < now + np.timedelta64(36, "h")


@pytest.mark.parametrize("site", ["palomar", "pachon", "paranal", "15 69 0"])
def test_the_hours_do_not_touch(site, packet):
    for when in ("2025-12-21", "2025-06-21"):
        figure = finder_chart(packet, site=site, when=when)
        figure.draw_without_rendering()
        night = next(axes for axes in figure.axes if "altitude" in axes.get_ylabel())
        boxes = [label.get_window_extent() for label in night.get_xticklabels() if label.get_text()]
        assert len(boxes) >= 3
        assert all(b.x0 - a.x1 > 4 for a, b in pairwise(boxes))


def test_a_when_that_is_none():
    with pytest.raises(ZadsError, match="no date"):
        observability(0.0, 0.0, "palomar", "tomorrow")


@pytest.mark.parametrize("when", [None, "2016-10-12", "2031-01-01"])
def test_any_night_without_the_network(when):
    """Tonight, and years from the tables of the Earth's rotation that came with astropy."""
    assert 0 < observability(10.0, 20.0, "palomar", when).altitude.max() < 90


def test_sites():
    assert observability(0, 0, "-116.865 33.3563 1712", "2023-10-12").altitude.max() == pytest.approx(
        observability(0, 0, "palomar", "2023-10-12").altitude.max(), abs=0.01
    )
    with pytest.raises(ZadsError, match="did you mean 'palomar'"):
        observability(0, 0, "palomr")
