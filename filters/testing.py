"""For authors of filters: packets made by hand, and the laws that every filter keeps, tried on any packets.

from filters.testing import packet

assert mine.one(packet("ztf", rb=0.9, magpsf=17.0, history=[{"jd": 2460000.5, "magpsf": 18.0}]))
"""

from __future__ import annotations

import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from filters.contract import Filter
from filters.external.externals import frames_of
from schemas.errors import NoSuchColumn, one_line
from schemas.surveys.registry import survey_having, survey_named

_JD = 2460236.7
_ROOT = Path(__file__).parents[1]


def packet(
    survey: str | None = None, history: Sequence[Mapping[str, Any]] = (), **columns: Any
) -> dict[str, Any]:
    """A packet as a plain dictionary, with what a test is about; everything else is missing.

    Parameters
    ----------
    survey
        Whose packet; where left out told by the columns, ZTF's where several surveys have them.
    history
        Rows of its history of detections, each a dictionary of fields.
    columns
        Stored columns by their names, as in `reads`; `jd` and the names of alert and object have defaults.

    Returns
    -------
    dict
        What `Filter.one` takes.

    Raises
    ------
    NoSuchColumn
        For a name that the survey does not store.
    """
    of = survey_named(survey or survey_having(columns))
    made: dict[str, Any] = {}
    given = {**_names(of.name), **columns}
    for name, value in given.items():
        record, steps = made, of.path(name).split(".")
        for step in steps[:-1]:
            record = record.setdefault(step, {})
        record[steps[-1]] = value
    made.setdefault(of.candidate, {})
    made[of.light_curve.detections] = [dict(row) for row in history]
    return made


def _names(survey: str) -> dict[str, Any]:
    """Defaults of what every packet has."""
    of = survey_named(survey)
    stored = set(of.stored_names())
    usual: dict[str, Any] = {"candid": 2**61 + 1, "objectId": "TEST1", "jd": _JD}
    usual |= {of.public.field: of.public.value} if of.public.field else {}
    return {name: value for name, value in usual.items() if name in stored}


@dataclass(frozen=True)
class Finding:
    """What one check came to. ok: None where it only tells a figure, or could not tell."""

    check: str
    ok: bool | None
    detail: str


def check(f: Filter, packets: Sequence[Mapping[str, Any]], survey: str = "") -> list[Finding]:
    """Try the laws of a filter on packets, and measure it.

    Parameters
    ----------
    f
        The filter.
    packets
        As plain dictionaries; at least a few that pass and a few that do not tell most.
    survey
        Whose packets; the filter's first survey where left out.

    Returns
    -------
    list
        A finding for each check; the filter keeps its laws when none has `ok` false.
    """
    maker = frames_of(f.require_reads(), survey or f.surveys[0])
    frame, bare = maker.of_packets(packets), maker.of_packets([packet(maker.survey.name)])
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("runs on these alerts", lambda: _runs(f, frame)),
        ("nothing in, nothing out", lambda: _nothing(f, maker.of_packets([]))),
        (
            "an alert without any value",
            lambda: _empty_alert(f, bare),
        ),
        ("neighbours in a batch change nothing", lambda: _partition(f, frame)),
        ("order changes nothing", lambda: _order(f, frame)),
        ("the alerts are not changed", lambda: _unchanged(f, frame)),
        ("the same answer twice", lambda: _again(f, frame)),
        ("time", lambda: _time(f, frame)),
        ("memory", lambda: _memory(f, frame)),
    ]
    first = _tried(*checks[0])
    if first.ok is False and (names := missing_reads(f, packets, maker.survey.name)):
        words = (
            f"it reads columns that it does not declare: {', '.join(names)}: write"
            f" reads={[*(f.declared or ()), *names]!r}; in a notebook, of the filter without reads,"
            f" {f.name}.suggest_reads(frame) lists what it used"
        )
        return [replace(first, detail=words)]
    return [first, *(_tried(name, one) for name, one in checks[1:] if first.ok is not False)]


def missing_reads(f: Filter, packets: Sequence[Mapping[str, Any]], survey: str) -> list[str]:
    """Every column of the survey that a filter reads of some packets and that its `reads` do not name.

    Parameters
    ----------
    f
        With declared `reads`.
    packets
        As plain dictionaries.
    survey
        Whose packets.
    """
    found: list[str] = []
    known = set(survey_named(survey).names())
    while True:  # the filter ends at the first: each is added, and it is tried again
        wider = replace(f, declared=(*(f.declared or ()), *found))
        try:
            wider.passes(frames_of(wider.require_reads(), survey).of_packets(packets))
        except NoSuchColumn as error:
            if error.name in found or error.name not in known:
                return found
            found.append(error.name)
        except Exception:  # a user's code may raise anything: the check tells it when this is mended
            return found
        else:
            return found


def _tried(name: str, one: Callable[[], Finding]) -> Finding:
    try:
        return one()
    except Exception as error:  # a user's code may raise anything
        return Finding(name, False, _sentence(error))


def _sentence(error: Exception) -> str:
    """The error in one line, where in the author's file it was raised, and what to do."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(Path(frame.filename))
    ]
    where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    hint = getattr(error, "hint", None)
    return f"{one_line(error)}{where}" + (f": {hint}" if hint else "")


def _is_ours(file: Path) -> bool:
    return "site-packages" in file.parts or _ROOT in file.parents


def _runs(f: Filter, frame: pd.DataFrame) -> Finding:
    passing = int(f.passes(frame).sum())
    cuts = ", ".join(map(str, f(frame).columns))
    words = f"{passing:,} of {len(frame):,} pass; cuts: {cuts}"
    if not passing:
        words += "; nothing passed, so little was tried: use --packets FOLDER, with packets that pass"
    return Finding("runs on these alerts", True if passing else None, words)


def _nothing(f: Filter, empty: pd.DataFrame) -> Finding:
    return Finding("nothing in, nothing out", len(f.judge(empty).mask) == 0, "")


def _empty_alert(f: Filter, frame: pd.DataFrame) -> Finding:
    passes = bool(f.passes(frame).iloc[0])
    words = "it passes: is missing meant as true?" if passes else "it does not pass"
    return Finding("an alert without any value", True, words)


def _partition(f: Filter, frame: pd.DataFrame) -> Finding:
    whole = f.passes(frame).to_numpy()
    for at in sorted({1, len(frame) // 3, len(frame) // 2, max(len(frame) - 1, 0)}):
        parts = [f.passes(frame.iloc[:at]), f.passes(frame.iloc[at:])]
        if not np.array_equal(np.concatenate(parts), whole):
            return Finding("neighbours in a batch change nothing", False, f"cut at {at}, other alerts pass")
    return Finding("neighbours in a batch change nothing", True, "")


def _order(f: Filter, frame: pd.DataFrame) -> Finding:
    mixed = np.random.default_rng(0).permutation(len(frame))
    same = np.array_equal(f.passes(frame.iloc[mixed]).to_numpy(), f.passes(frame).to_numpy()[mixed])
    return Finding("order changes nothing", same, "" if same else "another order, other alerts pass")


def _unchanged(f: Filter, frame: pd.DataFrame) -> Finding:
    before = {str(name): repr(frame[name].tolist()) for name in frame.columns}
    f.passes(frame)
    changed = [name for name, values in before.items() if repr(frame[name].tolist()) != values]
    return Finding("the alerts are not changed", not changed, ", ".join(changed))


def _again(f: Filter, frame: pd.DataFrame) -> Finding:
    same = bool((f.passes(frame) == f.passes(frame)).all())
    return Finding("the same answer twice", same, "" if same else "does it use a clock or random numbers?")


def _time(f: Filter, frame: pd.DataFrame) -> Finding:
    runs = []
    for _ in range(5):
        fresh = frame.copy()  # histories are flattened again, as in the stream
        began = time.perf_counter()
        f.passes(fresh)
        runs.append(time.perf_counter() - began)
    return Finding("time", None, f"{min(runs) / max(len(frame), 1) * 1e6:,.1f} µs an alert")


def _memory(f: Filter, frame: pd.DataFrame) -> Finding:
    tracemalloc.start()
    try:
        f.passes(frame.copy())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Finding("memory", None, f"{most / 1e6:,.1f} MB at most for {len(frame):,} alerts")


def kept(findings: Iterable[Finding]) -> bool:
    """Whether no law is broken."""
    return all(finding.ok is not False for finding in findings)
