"""Which way is up in a stamp: real packets, by the positions that they state."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from schemas.packets.packet import read_packet, stamp
from schemas.pictures.figure import ARCSEC_PER_PIXEL, blank_figure, draw_stamp, north_up
from simulator import simulate

FOLDERS = ["ztf_3.2", "ztf_3.3", "ztf_4.01", "ztf_4.02_spark", "ztf_snappy"]
ORIENTATIONS = {
    "as stored": lambda image: image,
    "north up": north_up,
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
