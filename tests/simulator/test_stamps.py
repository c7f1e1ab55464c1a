"""Stamps of the simulated sky are FITS files that astropy opens, with the object in the middle."""

import gzip
import io
from itertools import islice

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from simulator import Month, simulate
from simulator.packets.packet import packet_writer
from simulator.packets.stamps import Scene, View, draw_stamps

NAMES = ("Science", "Template", "Difference")


@pytest.fixture(scope="module")
def packets() -> list[tuple[dict, dict]]:
    """(packet, truth) of two hundred alerts."""
    return [(next(fastavro.reader(io.BytesIO(a.packet))), a.truth) for a in simulate(200, seed=8)]


def opened(packet: dict, name: str) -> fits.PrimaryHDU:
    data = gzip.decompress(packet[f"cutout{name}"]["stampData"])
    assert len(data) % 2880 == 0
    hdu = fits.open(io.BytesIO(data))[0]
    hdu.verify("exception")
    return hdu


def test_three_pictures_with_a_sky_under_them(packets: list[tuple[dict, dict]]) -> None:
    for packet, _ in packets:
        for name in NAMES:
            hdu = opened(packet, name)
            assert hdu.data.shape == (63, 63)
            assert hdu.data.dtype == np.dtype(">f4")
            place = WCS(hdu.header).all_world2pix(packet["candidate"]["ra"], packet["candidate"]["dec"], 0)
            assert np.all(np.abs(np.array(place) - 31) <= 0.5), "the detection is in the middle pixel"
        assert packet["cutoutScience"]["fileName"].startswith(f"candid{packet['candid']}_pid")


def test_a_difference_is_bright_in_the_middle_whatever_its_sign(packets: list[tuple[dict, dict]]) -> None:
    signs = set()
    for packet, truth in packets:
        candidate = packet["candidate"]
        if truth["class"] == "bogus" or candidate["sigmapsf"] > 0.1:
            continue
        image = opened(packet, "Difference").data
        noise = 1.4826 * np.nanmedian(np.abs(image - np.nanmedian(image)))
        assert np.nanmean(image[30:33, 30:33]) > 3 * noise
        signs.add(candidate["isdiffpos"])
        reverse = "refmsci" if candidate["isdiffpos"] == "f" else "scimref"
        assert reverse in packet["cutoutDifference"]["fileName"]
    assert signs == {"t", "f"}


def test_pixels_off_the_detector_are_missing() -> None:
    cut = 0
    for alert in simulate(400, seed=2):
        packet = next(fastavro.reader(io.BytesIO(alert.packet)))
        missing = np.isnan(opened(packet, "Science").data)
        edge = packet["candidate"]["mindtoedge"]
        assert missing.any() == (edge < 31), f"{edge} pixels from the edge"
        cut += bool(missing.any())
    assert cut


def test_a_star_is_in_the_template_and_an_asteroid_is_not(packets: list[tuple[dict, dict]]) -> None:
    def contrast(packet: dict) -> float:
        image = opened(packet, "Template").data
        noise = 1.4826 * np.nanmedian(np.abs(image - np.nanmedian(image)))
        return float((np.nanmean(image[30:33, 30:33]) - np.nanmedian(image)) / noise)

    stars = [contrast(p) for p, truth in packets if truth["class"] == "RR Lyrae"]
    lonely = [
        contrast(p)
        for p, truth in packets
        if "asteroid" in truth["class"] and p["candidate"]["distnr"] > 10 and p["candidate"]["distpsnr1"] > 10
    ]
    assert min(stars) > 10
    assert max(lonely) < 10


def test_without_stamps_they_are_null() -> None:
    packet = next(fastavro.reader(io.BytesIO(next(simulate(1, seed=1, stamps=False)).packet)))
    assert all(packet[f"cutout{name}"] is None for name in NAMES)


NOBODY = Scene(*(np.zeros(0) for _ in Scene._fields))


def drawn(artefact: str | None, **more: float) -> dict[str, np.ndarray]:
    """The three pictures of a bright change alone, through astropy."""
    place = {"ra": 150.0, "dec": 20.0, "xpos": 1500.2, "ypos": 1400.7, "east": 0.0, "north": 0.0, "turn": 0.0}
    values = {**place, "fwhm": 2.2, "sky": 150.0, "flux": 60_000.0, **more}
    data = draw_stamps(NOBODY, View(candid=7, artefact=artefact, **values), 0, seed=1)
    return {n: fits.open(io.BytesIO(gzip.decompress(d)))[0].data for n, d in zip(NAMES, data, strict=True)}


def axes_of(image: np.ndarray) -> tuple[float, float, float]:
    """Widths along and across (pixels, one sigma) and angle of the long axis (rad) of what is bright."""
    light = np.where(np.abs(image) > 60, np.abs(image), 0.0)
    y, x = np.mgrid[:63, :63]
    total = light.sum()
    mx, my = (light * x).sum() / total, (light * y).sum() / total
    spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=light.ravel() + 1e-12)
    values, vectors = np.linalg.eigh(spread)
    assert np.hypot(mx - 31, my - 31) < 12
    long = vectors[:, 1]
    return float(np.sqrt(values[1])), float(np.sqrt(values[0])), float(np.arctan2(long[1], long[0]))


def test_a_star_is_round_and_as_wide_as_the_seeing() -> None:
    long, across, _ = axes_of(drawn(None)["Difference"])
    assert long / across < 1.1
    assert 0.9 < 2.355 * across / 2.2 < 1.3


@pytest.mark.parametrize("artefact", ["cosmic ray", "hot pixel"])
def test_what_is_no_light_is_sharper_than_the_seeing(artefact: str) -> None:
    assert axes_of(drawn(artefact)["Difference"])[1] < 0.7 * axes_of(drawn(None)["Difference"])[1]


def test_a_dipole_has_two_signs() -> None:
    image = drawn("residual", angle=0.3)["Difference"]
    assert image.max() > 300
    assert image.min() < -300


@pytest.mark.parametrize("angle", [0.0, 0.8, 2.2])
def test_trails_lie_along_their_direction(angle: float) -> None:
    for artefact, more in (("streak", {}), (None, {"trail": 20.0})):
        long, across, found = axes_of(drawn(artefact, angle=angle, **more)["Difference"])
        assert long > 3 * across
        assert abs(np.sin(found - angle)) < 0.05


@pytest.mark.parametrize("artefact", ["bleed trail", "hot column"])
def test_columns_stand_upright(artefact: str) -> None:
    long, across, found = axes_of(drawn(artefact)["Difference"])
    assert long > 4 * across
    assert abs(np.cos(found)) < 0.05


def test_a_ghost_is_wide_and_an_edge_is_cut() -> None:
    assert axes_of(drawn("ghost", angle=0.4, trail=40.0)["Difference"])[0] > 5
    edge = drawn("edge", xpos=5.0)
    for image in edge.values():
        assert np.isnan(image[:, :26]).all()
        assert not np.isnan(image[:, 26:]).any()


def test_an_artefact_is_in_science_and_difference_and_not_in_the_template() -> None:
    for artefact in (None, "cosmic ray", "streak", "bleed trail", "ghost", "hot pixel", "hot column"):
        images = drawn(artefact, trail=30.0)
        assert np.ptp(images["Difference"]) > 500, artefact
        assert np.ptp(images["Science"]) > 500, artefact
        assert np.ptp(images["Template"]) < 60, artefact


def test_bright_stars_of_the_catalogue_are_in_the_templates_where_the_wcs_says() -> None:
    """On detectors that are turned against the sky too: coordinates through astropy, light in the picture."""
    met = 0
    for cell in Month(nights=3, density=0.5, fields=3, quadrants=3, seed=8).partitions(1)[0].cells():
        table = cell.catalogue.table().to_pandas()
        bright = table[(table["rmag"] < 17.5) & (table["radius"] == 0)]
        for alert in islice(cell.alerts([packet_writer("3.3")], True), 40):
            packet = next(fastavro.reader(io.BytesIO(alert.packet)))
            hdu = opened(packet, "Template")
            x, y = WCS(hdu.header).all_world2pix(bright["ra"], bright["dec"], 0)
            inside = (np.abs(x - 31) < 27) & (np.abs(y - 31) < 27)
            for px, py in zip(x[inside], y[inside], strict=True):
                window = hdu.data[round(py) - 4 : round(py) + 5, round(px) - 4 : round(px) + 5]
                if window.shape != (9, 9) or np.isnan(window).any():
                    continue
                row, column = np.unravel_index(np.argmax(window), window.shape)
                crowded = (np.hypot(x - px, y - py) < 10).sum() > 1
                if not crowded:
                    assert np.hypot(row - 4 - (py - round(py)), column - 4 - (px - round(px))) < 1.2
                    met += 1
    assert met > 30
