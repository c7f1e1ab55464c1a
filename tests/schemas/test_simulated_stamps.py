"""Stamps of the simulated sky are FITS files that astropy opens, with the object in the middle."""

import gzip
import io

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from schemas.simulated import simulate

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
