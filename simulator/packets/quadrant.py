"""All columns about the observed sources of one quadrant of one field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.identity import MISSING
from simulator.measure.catalogue import Catalogue, catalogue_around, neighbours
from simulator.measure.census import name_detections
from simulator.measure.detection import Observation, detections_of, measure, photometry
from simulator.measure.exposures import exposure_columns
from simulator.sky.telescope import HISTORY_DAYS, QUADRANT_SHAPE, Survey


class Quadrant:
    """The observed sources of a quadrant and all columns about them.

    Detections from 30 days before the first emitted night on are measured; `self.first` is the number of the
    first of those visits. Rows of `measured` and `self.seen` are such detections, one source after the other.

    Parameters
    ----------
    survey
        The survey.
    seed
        Of the simulated sky.
    place
        Index of the field, and the quadrant.
    observed
        The sources, each with its detections; they get candids and names.
    """

    def __init__(
        self, survey: Survey, seed: int, place: tuple[int, int], observed: Sequence[Observation]
    ) -> None:
        self.survey, self.seed, self.place, self.observed = survey, seed, place, observed
        self.visits = visits = survey.visits(*place)
        number = survey.fields[place[0]].number
        name_detections(list(observed), visits, number * 64 + place[1])
        nights = survey.plan.emitted
        self.first = int(np.searchsorted(visits.night, nights.start - int(HISTORY_DAYS) - 1))
        self.sources = [o.source for o in observed]
        seen = [photometry(o.source, visits, o.key) for o in observed]
        kept = [o.detections[o.detections >= self.first] for o in observed]
        self.seen = detections_of(self.sources, visits, list(zip(kept, seen, strict=True)))
        self.flux = np.array([s.flux[self.first :] for s in seen], np.float32)
        self.sigma = np.array([s.sigma[self.first :] for s in seen], np.float32)
        rng = np.random.default_rng([seed, 7, number, place[1]])
        self.measured = measure(self.seen, rng)
        self.exposure = exposure_columns(survey, seed, *place, self.first)
        self.solar = _solar_system(observed, rng)
        self._counts(kept)
        self.turn = survey.rotation(*place, QUADRANT_SHAPE[1] / 2, QUADRANT_SHAPE[0] / 2)
        self.x, self.y = (np.array([getattr(s.place, n) for s in self.sources]) for n in "xy")
        own = [s.counterpart for s in self.sources]
        self.catalogue: Catalogue = catalogue_around(survey, seed, *place, self.x, self.y, own)
        self.near, self.near_starts = neighbours(self.catalogue, self.x, self.y, 95.0)

    def _counts(self, kept: Sequence[np.ndarray]) -> None:
        """Names, numbers, and the whole survey's counts for each measured detection."""
        late = [len(o.detections) - len(k) for o, k in zip(self.observed, kept, strict=True)]
        both = list(zip(self.observed, late, strict=True))
        self.candid = np.concatenate([o.candid[skip:] for o, skip in both])
        self.tblid = np.concatenate([o.tblid[skip:] for o, skip in both])
        self.ndethist = np.concatenate([np.arange(skip, len(o.detections)) + 1 for o, skip in both])
        start = np.array([self.visits.jd[o.detections[0]] for o in self.observed])
        self.jdstarthist = start[self.seen.owner]
        self.slot = np.full(self.flux.shape, -1, np.int32)  # (source, late visit) -> detection
        self.slot[self.seen.owner, self.seen.visit - self.first] = np.arange(len(self.seen.visit))

    @property
    def count(self) -> int:
        """How many alerts there will be."""
        night = self.visits.night[self.seen.visit]
        return int(np.count_nonzero(night >= self.survey.plan.emitted.start))


def _solar_system(observed: Sequence[Observation], rng: np.random.Generator) -> dict[str, Any]:
    """For each source the known solar-system object at its place: distance (whole arcsec), predicted
    magnitude and name."""
    count = len(observed)
    known = np.array([o.source.designation is not None for o in observed])
    mags = np.array([float(o.source.parameters.get("mag") or 0) for o in observed])
    predicted = np.round(mags + rng.normal(0, 0.2, count), 1)
    distance = rng.choice([0.0, 1.0, 2.0, 4.0], count, p=[0.78, 0.17, 0.04, 0.01])
    return {
        "known": known,
        "ssdistnr": np.where(known, distance, MISSING),
        "ssmagnr": np.where(known, predicted, MISSING),
        "ssnamenr": np.array([o.source.designation or "null" for o in observed], object),
    }
