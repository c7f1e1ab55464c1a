"""Every way that a batch goes through a child, once, before there is one.

pandas, Arrow and Python import parts of themselves when these are first used. A child cannot: it reads no
file. So the zygote uses them.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import pandas as pd

from filters.external.externals import external_names, frames_of
from filters.load import registered
from filters.sandbox.batch import Shelf, packed, size_of
from filters.sandbox.inside.child import described, judged, load_text, said
from filters.supernovae import Measured, fits
from filters.testing import packet
from filters.view import arrays_of
from schemas.surveys.registry import SURVEYS

_TEXT = '''
"""Uses what filters use."""

from typing import Annotated

import numpy as np
import pandas as pd
from zads import alert_filter, history

READS = ["magpsf", "rb", "ndethist", "jd", "prv_candidates.magpsf", "prv_candidates.jd"]


@alert_filter(survey="ztf", reads=READS, gives={"size": "mag", "word": "text"})
def sample(alerts, *, least: Annotated[float, "mag"] = 3.0, name: str = "a"):
    """One of each kind."""
    past = history(alerts, "prv_candidates").by_time()
    seen = past[past["magpsf"].notna()]
    some = seen.frame()["magpsf"].groupby(level="candid").agg(["min", "median", "std", "count"])
    rank = alerts["magpsf"].rank() + alerts["magpsf"].rolling(2).mean() + alerts["rb"].cumsum()
    words = alerts["objectId"].str.startswith("ZTF") | alerts["objectId"].str.contains("18", regex=True)
    other = alerts[["magpsf", "rb"]].sort_values("rb").merge(alerts[["magpsf"]], how="left", on="magpsf")
    other.apply(lambda row: row.sum(), axis=1), other.describe(), other.quantile(0.5), other.to_numpy()
    pd.cut(alerts["magpsf"], [0, 1, 30]), pd.to_datetime(alerts["jd"] - 2440587.5, unit="D")
    repr(alerts), str(some)
    np.polyfit([1, 2, 3], [1, 4, 9], 1), np.percentile([1, 2], 50), np.random.default_rng(1).normal(size=3)
    np.linalg.lstsq(np.eye(2), np.ones(2)), np.interp(1.5, [1, 2], [1, 2]), np.fft.fft([1.0, 2.0])
    cut = (alerts["magpsf"] > least) & words & alerts["rb"].isin([0.5, 0.75])
    wide = alerts["ndethist"].fillna(0) >= 0
    values = {"size": alerts["magpsf"].where(rank.notna(), 0.0), "word": lambda passing: passing["objectId"]}
    return {"cut": cut, "wide": wide, "late": lambda rest: rest["magpsf"] > 0}, values
'''
_WRONG = (
    "from filters import alert_filter\n\n@alert_filter(reads=['rb'])\ndef bad(alerts): return alerts['ra']",
    "import no_such_module",
    "1 +",
    "1 / 0",
)


def rehearse() -> None:
    """Judge made-up alerts with a text, and with every filter that comes with zads."""
    packets = {survey: _packets(survey) for survey in SURVEYS}
    sample = load_text(_TEXT, "sample.py", "")
    described(sample)
    judged(sample, _packed(frames_of(sample.require_reads(), "ztf").of_packets(packets["ztf"])))
    for survey, some in packets.items():
        for f in registered(survey).values():
            if f.reads is not None and not external_names(f.reads):
                with contextlib.suppress(Exception):  # a made-up alert may be too poor for it
                    judged(f, _packed(frames_of(f.reads, survey).of_packets(some)))
    light = (np.zeros(9, int), -np.arange(9.0), np.array(["g"] * 9, object), np.ones(9), np.ones(9))
    fits("ztf", Measured(*light, alerts=1, zero=25.0), np.zeros(1))  # compiled, or read from where it is kept
    for text in _WRONG:
        try:
            bad = load_text(text, "bad.py", "")
            judged(bad, _packed(frames_of(bad.require_reads(), "ztf").of_packets(packets["ztf"])))
        except Exception as error:
            said(error)


def _packets(survey: str) -> list[dict]:
    if survey != "ztf":
        return [packet(survey), packet(survey)]
    rows = [{"jd": 2460236.0 + day / 10, "magpsf": 18.0 + day, "fid": 1, "programid": 1} for day in range(5)]
    alert = packet("ztf", rows, objectId="ZTF18a", magpsf=17.5, rb=0.75, ndethist=3, fid=1, isdiffpos="t")
    return [alert, {**alert, "candid": 2}, packet("ztf")]


def _packed(frame: pd.DataFrame) -> memoryview:
    batch = packed(arrays_of(frame), frame.index)
    shelf = Shelf(size_of(batch))
    with mmap.mmap(shelf.file, shelf.size, prot=mmap.PROT_READ) as memory:
        found = memory[: shelf.put(batch)]
    shelf.close()
    return memoryview(found)
