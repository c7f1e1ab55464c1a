"""The census: which objects are in the sky, observed through the whole survey, with their names.

Kinds fill their shares one after the other; the rest, if a kind cannot fill its own, goes to cosmic rays,
which come one alert at a time, so that the total is exact.
"""

from collections.abc import Iterator

import numpy as np

from schemas.simulated.bogus import ARTEFACTS
from schemas.simulated.detection import Observation, observe
from schemas.simulated.exposures import year_of
from schemas.simulated.identity import object_name
from schemas.simulated.population import KINDS, Draw, Sky

_POSITIVE, _NEGATIVE = 15, 10  # image type in a candid: science minus reference, or the reverse
_PATIENCE = 150  # draws in a row that yield nothing before a kind is given up


def take_census(sky: Sky, alerts: int, seed: int) -> list[Observation]:
    """Observed sources that make exactly `alerts` alerts in the emitted nights, near the shares of KINDS."""
    kinds = KINDS | ARTEFACTS
    shares = np.array([share for share, _ in kinds.values()])
    wanted = np.floor(alerts * shares / shares.sum()).astype(int)
    rng = np.random.default_rng([seed, 3])
    wanted += rng.multinomial(alerts - wanted.sum(), shares / shares.sum())
    found: list[Observation] = []
    short = 0
    for number, (_, draw) in enumerate(kinds.values()):
        short += _fill(sky, draw, int(wanted[number]), np.random.default_rng([seed, 4, number]), found)
    short = _fill(sky, ARTEFACTS["cosmic ray"][1], short, np.random.default_rng([seed, 5]), found)
    if short:
        raise ValueError(
            f"the simulated sky gave {alerts - short} of {alerts} alerts: ask for fewer, or more nights"
        )
    return found


def _fill(sky: Sky, draw: Draw, wanted: int, rng: np.random.Generator, found: list[Observation]) -> int:
    """Add objects of one kind until their alerts number `wanted`; return how many could not be had."""
    misses = 0
    while wanted and misses < _PATIENCE:
        fresh: list[tuple[Observation, int]] = []
        for source in draw(sky, rng):
            visits = sky.survey.visits(source.place.field, source.place.rcid)
            seen = observe(source, len(found) + len(fresh), visits, rng)
            if count := emitted(seen, sky.nights):
                fresh.append((seen, count))
        kept = list(_affordable(fresh, wanted))
        misses = 0 if kept else misses + 1
        for seen, count in kept:
            seen.serial = len(found)
            found.append(seen)
            wanted -= count
    return wanted


def _affordable(fresh: list[tuple[Observation, int]], wanted: int) -> Iterator[tuple[Observation, int]]:
    """The first sightings that still fit: an object is taken whole or not at all."""
    for seen, count in fresh:
        if count <= wanted:
            wanted -= count
            yield seen, count


def emitted(seen: Observation, nights: range) -> int:
    """How many alerts a source makes in the emitted nights."""
    return int(np.count_nonzero(seen.detected & (seen.visits.night >= nights.start)))


def name_detections(observed: list[Observation]) -> None:
    """Give every detection of the whole survey its candid, and every object its name.

    A candid is the quadrant exposure (pid), the image type and a running number, as the survey builds it.
    """
    owner = np.concatenate([np.full(int(o.detected.sum()), i) for i, o in enumerate(observed)])
    visit = np.concatenate([np.flatnonzero(o.detected) for o in observed])
    pid = np.concatenate([o.visits.pid[o.detected] for o in observed])
    positive = np.concatenate([o.flux[o.detected] > 0 for o in observed])
    order = np.lexsort((owner, pid))
    _, first, count = np.unique(pid[order], return_index=True, return_counts=True)
    if count.max() > 999:
        raise ValueError(
            f"{count.max()} detections in one quadrant exposure: a candid numbers 999; ask for fewer"
        )
    running = np.empty(len(pid), np.int64)
    running[order] = np.arange(len(pid)) - np.repeat(first, count)
    candid = pid * 10**6 + np.where(positive, _POSITIVE, _NEGATIVE) * 1000 + running
    ends = np.cumsum([int(o.detected.sum()) for o in observed])
    for seen, end in zip(observed, ends, strict=True):
        start = end - int(seen.detected.sum())
        seen.candid = np.zeros(len(seen.visits), np.int64)
        seen.tblid = np.zeros(len(seen.visits), np.int64)
        seen.candid[visit[start:end]] = candid[start:end]
        seen.tblid[visit[start:end]] = running[start:end]
    begins = np.array([o.candid[np.argmax(o.detected)] for o in observed])
    for rank, index in enumerate(np.argsort(begins)):
        seen = observed[index]
        year = year_of(int(seen.visits.night[np.argmax(seen.detected)]))
        seen.objectId = object_name(year, 300_000_000 + 7 * rank)


def time_order(observed: list[Observation], nights: range) -> list[tuple[int, int]]:
    """(index of source, visit) of all emitted alerts, by time, then candid."""
    rows = [
        (float(o.visits.jd[v]), int(o.candid[v]), index, int(v))
        for index, o in enumerate(observed)
        for v in np.flatnonzero(o.detected & (o.visits.night >= nights.start))
    ]
    return [(index, visit) for _, _, index, visit in sorted(rows)]
