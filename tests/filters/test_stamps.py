"""Stamps: read as astropy reads them, scored as a pixel at a time scores them, and only where it matters."""

from __future__ import annotations

import gzip
import importlib
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from filters import registered
from filters.external.externals import stored_columns, to_frame
from filters.scoring import roc_area
from filters.stamps import Images, Remembered, images, point_score, shape_of
from schemas.packets.packet import read_packet
from schemas.packets.reader import PacketReader
from simulator import SimulatedAlert, simulate
from tests.filters import stamp_oracle

DIFFERENCE = "cutoutDifference.stampData"


@pytest.fixture(scope="module")
def sky() -> list[SimulatedAlert]:
    return list(simulate(600, seed=21))


@pytest.fixture(scope="module")
def stamps(sky: list[SimulatedAlert]) -> list[bytes]:
    return [read_packet(alert.packet)[0]["cutoutDifference"]["stampData"] for alert in sky]


def column(stamps: list[Any]) -> pd.Series:
    return pd.Series(stamps, dtype=object)


def fits_file(image: np.ndarray, zipped: bool = False) -> bytes:
    file = io.BytesIO()
    fits.PrimaryHDU(image).writeto(file)
    return gzip.compress(file.getvalue()) if zipped else file.getvalue()


def test_each_number_is_that_of_a_pixel_at_a_time(stamps: list[bytes]) -> None:
    some = stamps[:60]
    shape, scores = shape_of(images(column(some))), point_score(images(column(some)))
    for number, data in enumerate(some):
        slowly = stamp_oracle.shape(data)
        assert slowly is not None
        for name, value in slowly.items():
            assert getattr(shape, name)[number] == pytest.approx(value, rel=1e-6, abs=1e-9), (number, name)
        assert scores[number] == pytest.approx(stamp_oracle.score(data), rel=1e-5)


def test_odd_stamps_are_read_and_bad_ones_are_missing(stamps: list[bytes]) -> None:
    rng = np.random.default_rng(4)
    small, large, oblong = (rng.normal(0, 1, shape).astype("f4") for shape in [(51, 51), (71, 71), (63, 40)])
    for image in (small, large, oblong):
        image[image.shape[0] // 2, image.shape[1] // 2] = 90
    holes = large.copy()
    holes[:, 50:] = np.nan
    blind = small.copy()
    blind[25, 26] = np.nan
    good = [fits_file(small), fits_file(large, zipped=True), fits_file(oblong), fits_file(holes), stamps[0]]
    nothing = [
        fits_file(blind),
        fits_file(np.full((63, 63), np.nan, "f4")),
        fits_file(np.ones((63, 63), "f4")),
    ]
    bad = [None, b"", b"hello", stamps[0][: len(stamps[0]) // 2], fits_file(small)[:3000]]
    found = point_score(images(column([*good, *nothing, *bad])))
    assert not np.isnan(found[: len(good)]).any()
    assert np.isnan(found[len(good) :]).all()
    assert found[: len(good)] == pytest.approx([stamp_oracle.score(data) for data in good], rel=1e-5)
    assert point_score(images(column([]))).shape == (0,)


@given(st.lists(st.integers(0, 59), max_size=30), st.integers(1, 70))
def test_neighbours_have_no_part_in_a_score(chosen: list[int], block: int) -> None:
    whole = _everything()
    alone = point_score(Images(whole.pixels[chosen], whole.there[chosen]))
    assert alone.tolist() == point_score(whole)[chosen].tolist()
    cut = [point_score(Images(whole.pixels[i : i + block], whole.there[i : i + block])) for i in (0, block)]
    assert np.concatenate(cut).tolist() == point_score(whole)[: 2 * block].tolist()


_kept: list[Images] = []


def _everything() -> Images:
    if not _kept:
        raw = [
            read_packet(alert.packet)[0]["cutoutDifference"]["stampData"] for alert in simulate(60, seed=3)
        ]
        _kept.append(images(column(raw)))
    return _kept[0]


def test_it_tells_artefacts_from_sources_better_than_the_simulated_real_bogus(
    sky: list[SimulatedAlert], stamps: list[bytes]
) -> None:
    """Another seed than those that the limits were read from."""
    known = [number for number, alert in enumerate(sky) if alert.truth is not None]
    real = np.array([sky[number].truth["class"] != "bogus" for number in known])
    rb = np.array([read_packet(sky[number].packet)[0]["candidate"]["rb"] for number in known])
    scores = point_score(images(column([stamps[number] for number in known])))
    assert 50 < real.sum() < len(real) - 50
    assert roc_area(scores, real) > max(0.97, roc_area(rb, real))
    assert (scores[real] >= 0.5).mean() > 0.9
    assert (scores[~real] >= 0.5).mean() < 0.1


def test_only_survivors_are_unpacked(sky: list[SimulatedAlert], monkeypatch: pytest.MonkeyPatch) -> None:
    f = registered("ztf")["stamp_point"]
    reads = f.require_reads()
    frame = to_frame(PacketReader(stored_columns(reads)).read([a.packet for a in sky]).table, reads)
    module = importlib.import_module("filters.stamps.images")
    unpacked: list[bytes] = []
    plain = module.pixels

    def counted(data: bytes) -> np.ndarray:
        unpacked.append(data)
        return plain(data)

    monkeypatch.setattr(module, "pixels", counted)
    judged = f.judge(frame)
    survivors = int(((frame["rb"] >= 0.2) & (frame["nbad"] == 0)).sum())
    assert survivors < len(frame)
    assert len(unpacked) == survivors  # each once, though a cut and a value want it
    assert (judged.values["point_score"] >= 0.5).all()
    assert len(judged.values) == judged.mask.sum() > 100


def test_what_is_remembered_is_that_of_each_alert() -> None:
    asked: list[list[int]] = []

    def slowly(some: pd.DataFrame) -> pd.Series:
        asked.append(some["x"].tolist())
        return some["x"] * 2.0

    frame = pd.DataFrame({"x": [3, 1, 2]}, index=[5, 6, 9])
    number = Remembered(slowly)
    assert number(frame[frame["x"] > 1]).to_dict() == {5: 6.0, 9: 4.0}
    assert number(frame).to_dict() == {5: 6.0, 6: 2.0, 9: 4.0}
    assert number(frame[:0]).to_dict() == {}
    assert asked == [[3, 2], [1]]
    twice = pd.DataFrame({"x": [4, 5]}, index=[5, 5])
    assert number(twice).tolist() == [8.0, 10.0]
    assert number(frame).tolist() == [6.0, 2.0, 4.0]
