"""The census: which objects are in the sky, observed through the whole survey, with their names.

There are two ways. By count, for a demonstration: kinds fill their shares one after the other. If a kind
cannot fill its share, cosmic rays, which make one alert each, fill the rest, so the total is exact. By
density: every quadrant draws a Poisson number of each kind from seeds of its own, so that quadrants can be
made in any order and any process.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from simulator.identity import object_name, serial_of
from simulator.measure.detection import Observation, observe
from simulator.measure.exposures import year_of
from simulator.sky.kinds import KINDS
from simulator.sky.population import Draw, Sky, Source
from simulator.sky.telescope import Visits

_POSITIVE, _NEGATIVE = 15, 10  # image type in a candid: science minus reference, or the reverse
_PATIENCE = 150  # consecutive draws without an alert after which no more of a kind are drawn

Cells = dict[tuple[int, int], list[Observation]]


def census_by_count(sky: Sky, alerts: int, seed: int) -> Cells:
    """Observed sources that make exactly `alerts` alerts in the emitted nights, near the shares of KINDS.

    Parameters
    ----------
    sky
        The survey, its nights, and where to draw.
    alerts
        Number of alerts.
    seed
        Of the simulated sky.

    Raises
    ------
    ValueError
        When the sky cannot give as many.
    """
    shares = np.array([kind.share for kind in KINDS.values()])
    wanted = np.floor(alerts * shares / shares.sum()).astype(int)
    rng = np.random.default_rng([seed, 3])
    wanted += rng.multinomial(alerts - wanted.sum(), shares / shares.sum())
    found: list[Observation] = []
    short = 0
    for number, kind in enumerate(KINDS.values()):
        short += _fill(sky, kind.draw, int(wanted[number]), (seed, 4, number), found)
    short = _fill(sky, KINDS["cosmic ray"].draw, short, (seed, 5), found)
    if short:
        raise ValueError(
            f"cannot simulate {alerts} alerts: this sky gave {alerts - short}; ask for fewer, or more nights"
        )
    cells: Cells = defaultdict(list)
    for seen in found:
        cells[seen.source.place.field, seen.source.place.rcid].append(seen)
    return dict(cells)


def _fill(sky: Sky, draw: Draw, wanted: int, key: tuple[int, ...], found: list[Observation]) -> int:
    """Add objects of one kind until their alerts number `wanted`; return how many could not be had."""
    rng = np.random.default_rng(key)
    misses = drawn = 0
    while wanted and misses < _PATIENCE:
        fresh: list[tuple[Observation, int]] = []
        for source in draw(sky, rng):
            seen = observe(source, sky.visits(source.place), (*key, 1, drawn))
            drawn += 1
            if count := emitted(seen, sky):
                fresh.append((seen, count))
        kept = list(_affordable(fresh, wanted))
        misses = 0 if kept else misses + 1
        found += [seen for seen, _ in kept]
        wanted -= sum(count for _, count in kept)
    return wanted


def _affordable(fresh: list[tuple[Observation, int]], wanted: int) -> Iterator[tuple[Observation, int]]:
    """The first sightings that still fit: an object is taken whole or not at all."""
    for seen, count in fresh:
        if count <= wanted:
            wanted -= count
            yield seen, count


def emitted(seen: Observation, sky: Sky) -> int:
    """How many alerts a source makes in the emitted nights."""
    night = sky.visits(seen.source.place).night[seen.detections]
    return int(np.count_nonzero(night >= sky.nights.start))


def census_of_cell(
    sky: Sky, seed: int, density: float, rare: float, extra: Sequence[Source] = ()
) -> list[Observation]:
    """The sources of one quadrant that make alerts in the emitted nights.

    Random numbers depend on the seed, the quadrant and the kind, and on nothing else.

    Parameters
    ----------
    sky
        The survey, its nights, and the quadrant.
    seed
        Of the simulated sky.
    density
        Object density relative to the real sky (1.0).
    rare
        Density of the rare kinds relative to that.
    extra
        Sources to add.
    """
    assert sky.cell is not None
    field, rcid = sky.cell
    visits = sky.survey.visits(field, rcid)
    if not (visits.night >= sky.nights.start).any():
        return []
    number = sky.survey.fields[field].number
    observed = [observe(source, visits, (seed, 9, number, rcid, i)) for i, source in enumerate(extra)]
    found = [seen for seen in observed if emitted(seen, sky)]
    for order, kind in enumerate(KINDS.values()):
        key = (seed, 8, number, rcid, order)
        rng = np.random.default_rng(key)
        count = rng.poisson(kind.expected(sky) * density * (rare if kind.rare else 1.0))
        sources = [source for _ in range(count) for source in kind.draw(sky, rng)]
        observed = [observe(source, visits, (*key, 1, i)) for i, source in enumerate(sources)]
        found += [seen for seen in observed if emitted(seen, sky)]
    return found


def name_detections(observed: list[Observation], visits: Visits, cell: int) -> None:
    """Give every detection of a quadrant its candid, and every object its name, in order of first detection.

    A candid is made of the quadrant exposure (pid), the image type and a running number, as the survey builds
    it.

    Parameters
    ----------
    observed
        The sources, each with its detections.
    visits
        All visits of the quadrant.
    cell
        64 × field + rcid.

    Raises
    ------
    ValueError
        When an exposure has more than 999 detections.
    """
    owner = np.repeat(np.arange(len(observed)), [len(o.detections) for o in observed])
    visit = np.concatenate([o.detections for o in observed])
    positive = np.concatenate([o.positive for o in observed])
    order = np.lexsort((owner, visit))
    _, first, count = np.unique(visit[order], return_index=True, return_counts=True)
    if count.max() > 999:
        raise ValueError(
            f"cannot number {count.max()} detections in one quadrant exposure: a candid counts to 999; "
            "lower the density, or ask for fewer alerts"
        )
    running = np.empty(len(visit), np.int64)
    running[order] = np.arange(len(visit)) - np.repeat(first, count)
    candid = visits.pid[visit] * 10**6 + np.where(positive, _POSITIVE, _NEGATIVE) * 1000 + running
    ends = np.cumsum([len(o.detections) for o in observed])
    for seen, end in zip(observed, ends.tolist(), strict=True):
        own = slice(end - len(seen.detections), end)
        seen.candid, seen.tblid = candid[own], running[own]
    begins = np.array([o.detections[0] for o in observed])
    for rank, index in enumerate(np.argsort(begins, kind="stable").tolist()):
        year = year_of(int(visits.night[begins[index]]))
        observed[index].objectId = object_name(year, serial_of(cell, rank))
