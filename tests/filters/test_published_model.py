"""A published model that nobody here made runs as a filter: the anomaly forests in the wheel fink-science."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from benchmarks.anomaly import BANDS, NAMES, READS, Unreachable, anomaly_filter, features, fetched
from filters.external.externals import stored_columns, to_frame
from filters.models import model
from schemas.packets.reader import PacketReader
from simulator import simulate


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return fetched()
    except Unreachable as error:
        pytest.skip(f"needs the packages fink-science and light-curve: {error}")


@cache
def night() -> pd.DataFrame:
    packets = [alert.packet for alert in simulate(500, seed=8, nights=3, stamps=False)]
    return to_frame(PacketReader(stored_columns(READS)).read(packets).table, READS)


def test_it_says_what_its_own_runtime_says(folder: Path) -> None:
    for forest, band in BANDS.items():
        known = features(night(), band, folder).dropna(how="all")
        assert len(known) > 50
        with_gaps = known.copy()
        with_gaps.iloc[::3, 4] = np.nan
        ours = model(folder / f"forest_{forest}.toml")
        filled = with_gaps.fillna(dict(zip(NAMES, ours.about["inputs"][0]["missing"], strict=True)))
        session = onnxruntime.InferenceSession(str(folder / f"forest_{forest}.onnx"))
        told = session.run(None, {"X": filled.to_numpy(np.float32)})[0].ravel()
        assert ours(with_gaps)["score"].tolist() == pytest.approx(told.tolist(), abs=1e-6)


def test_it_is_a_filter_like_any_other(folder: Path) -> None:
    f = anomaly_filter(folder)
    whole = f.judge(night())
    assert 0 < whole.mask.sum() < len(night()) / 2
    assert (whole.values["anomaly"] < -0.02).all()
    parts = [f.judge(night().iloc[at : at + 70]) for at in range(0, 500, 70)]
    assert np.concatenate([part.mask for part in parts]).tolist() == whole.mask.tolist()
    values = [value for part in parts for value in part.values["anomaly"]]
    assert values == whole.values["anomaly"].tolist()


def test_no_pickle_is_kept(folder: Path) -> None:
    kept = {path.suffix for path in folder.iterdir() if path.is_file()}
    assert kept == {".onnx", ".toml"}
