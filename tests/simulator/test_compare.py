"""The comparison with real packets: its numbers by scipy's and by hand, and a picture that is drawn."""

from pathlib import Path

import numpy as np
import pytest
from astropy.stats import kuiper_two
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import Staged
from simulator.check.compare import _difference, compare_with

SAMPLES = st.lists(st.integers(0, 12), min_size=3, max_size=60)


@settings(deadline=None)
@given(SAMPLES, SAMPLES)
def test_the_distance_is_the_largest_gap_between_the_curves(ours: list[int], theirs: list[int]) -> None:
    gaps = [
        abs(sum(v <= x for v in ours) / len(ours) - sum(v <= x for v in theirs) / len(theirs))
        for x in range(13)
    ]
    found = _difference("x", np.array(ours, float), np.array(theirs, float))
    assert found.distance == pytest.approx(max(gaps))
    if len(set(ours)) > 1 and len(set(theirs)) > 1:
        assert found.distance <= kuiper_two(ours, theirs)[0] + 1e-9, "Kuiper's adds the other side"


def test_what_differs_is_named() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(0, 1, 500)
    assert _difference("x", one, rng.normal(0, 1, 500)).words == ""
    assert "higher" in _difference("x", one + 3, one).words
    assert "lower" in _difference("x", one - 3, one).words
    assert "wider" in _difference("x", 5 * one, one).words


def test_a_picture_beside_the_real_packets(tmp_path: Path, real_alerts: Path) -> None:
    picture = tmp_path / "distributions.png"
    found = compare_with(Staged(300, seed=1), real_alerts, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    names = {d.name for d in found}
    assert {"magpsf", "rb", "fwhm", "distpsnr1", "history rows", "packet kB", "Science: noise (DN)"} <= names
    close = {d.name for d in found if not d.visible}
    assert {"magdiff", "nneg", "packet kB"} <= close


def test_without_original_packets_it_says_so(tmp_path: Path, real_alerts: Path) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        compare_with(Staged(3, seed=1), real_alerts / "ztf_4.02_spark", tmp_path / "x.png")
