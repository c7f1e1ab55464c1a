"""Packets for the tests of filters: plain dictionaries as a decoder gives them, some fields made strange.

A field is usually that of a credible alert, else what a survey also sends: null, NaN, a sentinel, exactly a
threshold, a value at its other side. Floats are float32 exactly, as in a packet.
"""

import math
from typing import Any

import numpy as np
from hypothesis import Phase
from hypothesis import strategies as st

from filters import registered
from schemas.surveys.registry import SURVEYS

NOW = 2460236.7
"""JD of the alerts: night 2482, about 05:00 UT."""


def f32(number: float) -> float:
    """The double that a float32 field gives."""
    return float(np.float32(number))


CREDIBLE: dict[str, list[Any]] = {
    "fid": [1, 2],
    "programid": [1],
    "isdiffpos": ["t", "1"],
    "magpsf": [15.0, 18.5],
    "sigmapsf": [0.0625],
    "rb": [0.75],
    "nbad": [0],
    "fwhm": [2.0],
    "elong": [1.0625],
    "magdiff": [0.03125],
    "distpsnr1": [0.25, 9.0],
    "sgscore1": [0.25, 0.875],
    "sgmag1": [19.0],
    "srmag1": [19.0],
    "simag1": [19.0],
    "ssdistnr": [-999.0],
    "ssnamenr": ["null"],
    "ndethist": [1],
    "jdstarthist": [NOW - 0.1],
}

CREDIBLE_ROW: dict[str, list[Any]] = {
    "fid": [1, 1, 1, 2],
    "programid": [1],
    "isdiffpos": ["t", "t", "t", "t", "1", "f"],
    "magpsf": [18.5, 18.53125, 18.625, None],
    "sigmapsf": [0.0625],
    "pid": list(range(1, 25)),
}

BORDER: dict[str, list[Any]] = {
    "rb": [f32(0.65), 0.625],
    "nbad": [1],
    "fwhm": [5.0, 5.25],
    "elong": [f32(1.2), 1.25],
    "magdiff": [f32(-0.1), 0.125, -0.125],
    "distpsnr1": [1.5, f32(0.6), 5.0, -999.0],
    "sgscore1": [0.5, -999.0],
    "sgmag1": [f32(19.6), 20.5, 17.0, -999.0],
    "srmag1": [18.5, 20.5, -999.0],
    "ssdistnr": [0.0, 5.0, 5.25, 60.0, -1.0],
    "ndethist": [2],
    "jdstarthist": [NOW - 5, NOW - 5.01, NOW - 0.5],
}
"""Exactly at the thresholds of the filters, and just beyond."""

MINUTES_AGO = [5, 19, 20, 21, 29, 30, 31, 60, 300, 600, 1439, 1440, 2000, 3000, 3599, 3600, 3601, 7000, 43000]


def _strange_numbers() -> list[float]:
    defaults = {
        p.default for f in registered("ztf").values() for p in f.parameters.values() if p.unit != "min"
    }
    numbers = {float(d) for d in defaults if not isinstance(d, bool | str)}
    around = {f32(f32(n) + step) for n in numbers for step in (-0.25, 0.0, 0.25)}
    return [*sorted(around), math.nan, -999.0, 60.0, 0.0, -0.0, f32(1e30)]


def values(name: str, credible: dict[str, list[Any]], row: bool) -> st.SearchStrategy[Any]:
    """What a packet may hold in this field."""
    kind = SURVEYS["ztf"].arrow_type(f"prv_candidates.{name}" if row else name)
    kind = str(kind.value_type if row else kind)
    strange: list[Any] = [None]
    if kind in ("float", "double"):
        strange += _strange_numbers()
    elif kind == "int32":
        strange += [-999, 0, 1, 2, 3]
    elif kind == "int64":
        strange += [-999, 1, 2**62 + 1]
    elif kind == "string":
        strange += ["t", "f", "1", "0", "null", "", "Ceres"]
    usual, border = credible.get(name, []), [] if row else BORDER.get(name, [])
    # about one field in thirty is strange, one in fifteen on a border
    pool = usual * (28 * len(strange) // max(len(usual), 1)) + border * (
        2 * len(strange) // max(len(border), 1)
    )
    return st.sampled_from(pool + strange)


def columns() -> tuple[list[str], list[str]]:
    """The stored fields that any registered filter reads: of the candidate, of a row of prv_candidates."""
    from filters.external.externals import stored_columns

    names = stored_columns([name for f in registered("ztf").values() for name in f.require_reads()])
    alert = [n for n in names if "." not in n and n not in ("candid", "objectId", "jd")]
    rows = [n.partition(".")[2] for n in names if n.startswith("prv_candidates.")]
    return alert, [n for n in rows if n != "jd"]


_ALERT, _ROW = columns()


def _rows(minutes_ago: list[int]) -> st.SearchStrategy[dict[str, Any]]:
    times = [NOW - minutes / 1440 for minutes in minutes_ago]
    jd = st.sampled_from([*times, *times, *times, NOW, NOW + 0.01, math.nan])
    return st.fixed_dictionaries({"jd": jd, **{name: values(name, CREDIBLE_ROW, row=True) for name in _ROW}})


_recent = _rows([minutes for minutes in MINUTES_AGO if minutes < 4000])

_candidates = st.fixed_dictionaries(
    {"jd": st.sampled_from([NOW] * 9 + [NOW - 0.3]), **{n: values(n, CREDIBLE, row=False) for n in _ALERT}}
)

_packet = st.fixed_dictionaries(
    {
        "objectId": st.sampled_from(["ZTF18a", "ZTF18b", "ZTF18c"]),
        "candid": st.integers(2**61, 2**61 + 100),
        "candidate": _candidates,
        "prv_candidates": st.one_of(
            st.lists(_recent, min_size=9, max_size=14), st.lists(_rows(MINUTES_AGO), max_size=5), st.none()
        ),
    }
)

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
"""All but `explain`, which takes minutes on batches of alerts."""

packets = st.one_of(st.lists(_packet, min_size=5, max_size=8), st.lists(_packet, max_size=2))
"""A batch of alerts."""


def alert(history: list[dict[str, Any]] | None = None, **candidate: Any) -> dict[str, Any]:
    """A packet of a credible alert, with the fields that a test is about."""
    credible = {name: choice[0] for name, choice in CREDIBLE.items()}
    return {
        "objectId": "ZTF18abcdefg",
        "candid": 2**61 + 1,
        "candidate": {"jd": NOW, **credible, **candidate},
        "prv_candidates": history,
    }


def detection(minutes_ago: float, **row: Any) -> dict[str, Any]:
    """A row of prv_candidates in which the object was detected."""
    jd = NOW - minutes_ago / 1440
    return {
        "jd": jd,
        "fid": 1,
        "pid": round(jd * 1e6),
        "isdiffpos": "t",
        "magpsf": 18.5,
        "programid": 1,
    } | row


def limit(minutes_ago: float, **row: Any) -> dict[str, Any]:
    """A row of prv_candidates in which it was not."""
    return detection(minutes_ago, isdiffpos=None, magpsf=None, diffmaglim=20.5) | row
