"""Which way is up in a stamp: real packets, by the positions that they state."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from schemas.packets.packet import read_packet, stamp
from schemas.packets.sky import StampSky, stamp_sky
from schemas.pictures.figure import blank_figure, displayed, draw_stamp
from schemas.surveys.ztf import PIXEL as ARCSEC_PER_PIXEL
from simulator import simulate

FOLDERS = ["ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_4.02_spark", "ztf_snappy"]
ORIENTATIONS = {
    "as stored": lambda image: image,
    "north up": lambda image: displayed(image, StampSky(np.diag([-1.0, -1.0])))[0],
    "columns reversed": lambda image: image[:, ::-1],
    "half a turn": lambda image: image[::-1, ::-1],
    "transposed": lambda image: image.T,
    "transposed, rows reversed": lambda image: image.T[::-1],
    "transposed, columns reversed": lambda image: image.T[:, ::-1],
    "transposed, half a turn": lambda image: image.T[::-1, ::-1],
}


@pytest.fixture(scope="module")
def real(real_alerts):
    return [p for f in FOLDERS for path in sorted((real_alerts / f).iterdir()) for p in read_packet(path)]


@pytest.fixture(scope="module")
def simulated():
    return [read_packet(alert.packet)[0] for alert in simulate(400, seed=12)]


def offset(packet):
    """(east, north) arcsec of the nearest reference source from the candidate."""
    c = packet["candidate"]
    east = (c["ranr"] - c["ra"] + 180) % 360 - 180
    return east * np.cos(np.radians(c["dec"])) * 3600, (c["decnr"] - c["dec"]) * 3600


def clearest(packet):
    """The orientation in which the template is bright where the reference source is; None if unclear."""
    east, north = offset(packet)
    away = np.hypot(east, north)
    image = stamp(packet, "Template").astype(float)
    trusted = abs(away / ARCSEC_PER_PIXEL - packet["candidate"]["distnr"]) < 0.7  # some packets contradict
    if not trusted or not 2.5 < away < 28 or image.shape != (63, 63) or not (np.abs(image) < 1e30).all():
        return None
    noise = 1.4826 * np.median(np.abs(image - np.median(image)))
    row, column = round(31 + north / ARCSEC_PER_PIXEL), round(31 - east / ARCSEC_PER_PIXEL)
    light = {
        name: (turn(image)[row - 1 : row + 2, column - 1 : column + 2].mean() - np.median(image)) / noise
        for name, turn in ORIENTATIONS.items()
    }
    best, second = sorted(light, key=light.__getitem__)[:-3:-1]
    return best if light[best] > 1 and light[best] > 1.3 * light[second] else None


@pytest.mark.parametrize("packets", ["real", "simulated"])
def test_the_nearest_reference_source_is_where_its_position_says(packets, request):
    votes = Counter(filter(None, map(clearest, request.getfixturevalue(packets))))
    assert votes.total() >= 15, votes
    assert votes["north up"] > 0.8 * votes.total(), votes


@pytest.mark.parametrize("packets", ["real", "simulated"])
def test_rows_grow_to_the_south_and_columns_to_the_west(packets, request):
    """By the positions and pixels of the alerts of one exposure."""
    exposures = defaultdict(dict)
    for packet in request.getfixturevalue(packets):
        c = packet["candidate"]
        exposures[c["pid"]][c["candid"]] = [c["xpos"], c["ypos"], c["ra"], c["dec"]]
    slopes = []
    for rows in exposures.values():
        x, y, ra, dec = np.array(list(rows.values())).T
        if len(x) >= 4 and np.ptp(x) > 300 and np.ptp(y) > 300:
            pixels = np.stack([x, y, np.ones(len(x))], axis=1)
            east = np.linalg.lstsq(pixels, (ra - ra[0]) * np.cos(np.radians(dec)) * 3600, rcond=None)[0]
            north = np.linalg.lstsq(pixels, dec * 3600, rcond=None)[0]
            slopes.append((east[0], north[1]))
    assert len(slopes) >= 5
    assert np.allclose(slopes, -ARCSEC_PER_PIXEL, atol=0.03), slopes


def test_the_picture_has_north_up_and_east_left(simulated):
    """What is drawn, not what is stored: the brightest row of the array is drawn where its height says."""
    from gzip import compress
    from io import BytesIO

    from astropy.io import fits

    image = np.random.default_rng(1).normal(0, 1, (63, 63)).astype("f4")
    image[5, 50] = 1e4  # small row: north; large column: west
    data = BytesIO()
    fits.PrimaryHDU(image).writeto(data)
    packet = simulated[0] | {"cutoutScience": {"stampData": compress(data.getvalue())}}
    figure = blank_figure(3, 3)
    axes = figure.add_subplot()
    draw_stamp(axes, packet, "Science")
    [drawn] = axes.images
    row, column = np.unravel_index(np.argmax(drawn.get_array()), (63, 63))
    left, right, bottom, top = drawn.get_extent()
    assert drawn.origin == "lower"
    assert top > bottom
    assert right > left
    assert (row, column) == (57, 50), "in the north, to the west"
    assert stamp(packet, "Science")[5, 50] == 1e4, "the array stays as it was"
    texts = [text.get_text() for text in axes.texts]
    assert "N" in texts
    assert "E" in texts
    where = {text.get_text(): text.get_position() for text in axes.texts}
    assert where["N"][1] > where["E"][1]
    assert where["E"][0] < where["N"][0]


def rubin(real_alerts):
    return [read_packet(path)[0] for path in sorted(real_alerts.glob("lsst_[o9]*/*.avro"))]


def test_rubin_pixels_are_where_astropy_has_them_once_it_knows_that_they_are_celestial(real_alerts):
    """With the CTYPE that the headers lack; read as linear a corner is elsewhere."""
    from io import BytesIO

    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.wcs import WCS

    worst = 0.0
    for packet in rubin(real_alerts)[::6]:
        for which in ("Science", "Template"):
            header = fits.getheader(BytesIO(packet[f"cutout{which}"]))
            header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
            sky, wcs = stamp_sky(packet, which), WCS(header)
            size = stamp(packet, which).shape[0]
            for column, row in ((0, 0), (size - 1, 0), (3.3, size - 1), (sky.column, sky.row)):
                ra, dec = sky.position(column, row)
                there = SkyCoord(*wcs.wcs_pix2world(column, row, 0), unit="deg")
                assert there.separation(SkyCoord(ra, dec, unit="deg")).arcsec < 1e-6
            east, north = sky.matrix @ (size - sky.column, size - sky.row) / 3600
            linear = SkyCoord(sky.ra + east, sky.dec + north, unit="deg")
            worst = max(worst, linear.separation(SkyCoord(*sky.position(size, size), unit="deg")).arcsec)
            assert 0.15 < sky.scale < 0.21
    assert worst > 0.3


def test_the_source_of_a_rubin_packet_is_at_its_reference_pixel(real_alerts):
    for packet in rubin(real_alerts):
        sky = stamp_sky(packet, "Science")
        assert np.allclose([sky.ra, sky.dec], [packet["diaSource"]["ra"], packet["diaSource"]["dec"]])


def test_a_turned_stamp_is_drawn_as_it_is_stored_with_its_axes_turned(real_alerts):
    packet = rubin(real_alerts)[20]
    axes = blank_figure(3, 3).add_subplot()
    draw_stamp(axes, packet, "Science")
    sky, pixels = stamp_sky(packet, "Science"), stamp(packet, "Science")
    [drawn] = axes.images
    assert np.argmax(drawn.get_array()) == np.nanargmax(pixels), "the array is not turned"
    arrows = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2][-2:]
    for (begin, end), way in zip(arrows, ((0, 1), (1, 0)), strict=True):
        east, north = sky.matrix @ (end - begin)
        assert np.allclose([east, north] / np.hypot(east, north), way)
