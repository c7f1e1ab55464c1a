"""The funnel of named cuts, night by night: alerts and distinct objects left after each cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa

from archive.read.counting import deepest, distinct
from archive.replay.trial import Failure, Outcome


@dataclass(frozen=True)
class Funnel:
    """What one filter left of one night.

    cuts: their names, empty when the filter gave no answer at all. alerts, objects: int64, before the first
    cut and after each. unjudged: alerts for which the filter raised or was given up: they pass no cut.
    """

    cuts: tuple[str, ...]
    alerts: np.ndarray
    objects: np.ndarray
    unjudged: int = 0

    @property
    def passed(self) -> tuple[int, int]:
        """Alerts and objects that pass every cut; none where no cut was asked."""
        return (int(self.alerts[-1]), int(self.objects[-1])) if self.cuts else (0, 0)

    def steps(self) -> Iterator[tuple[str, int, int]]:
        """("all", alerts, objects), then the same for each cut."""
        yield from zip(("all", *self.cuts), self.alerts.tolist(), self.objects.tolist(), strict=True)


@dataclass
class NightSum:
    """One night, added up share by share; `funnels` (one a filter) are there once it is closed."""

    night: date | None
    variants: int
    alerts: int = 0
    complete: bool = False
    parts: list[Outcome] = field(default_factory=list)
    funnels: list[Funnel] = field(default_factory=list)
    matches: list[pa.Table] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, outcome: Outcome) -> None:
        """Add the result of a share."""
        self.parts.append(outcome)
        self.alerts += outcome.alerts
        self.matches += outcome.matches
        self.failures += outcome.failures
        self.seconds = outcome.seconds + (self.seconds if len(self.seconds) else 0.0)

    def close(self, complete: bool = True) -> None:
        """Count the objects, which may have alerts in several shares, and free the memory of the shares."""
        self.complete = complete
        keys = [array for part in self.parts for array in part.keys]
        slots, count = distinct(np.concatenate(keys) if keys else np.zeros(0, np.uint64))
        depths = [array for part in self.parts for array in part.depths]
        whole = np.concatenate(depths, axis=1) if depths else np.zeros((self.variants, 0), np.uint8)
        self.funnels = [self._funnel(number, slots, count, whole[number]) for number in range(self.variants)]
        self.parts = []

    def _funnel(self, number: int, slots: np.ndarray, count: int, depths: np.ndarray) -> Funnel:
        cuts = next((c for part in self.parts if (c := part.cuts[number]) is not None), ())
        reached = sum((part.reached[number] for part in self.parts), np.zeros(256, np.int64))
        objects = np.bincount(deepest(slots, count, depths), minlength=256)
        steps = len(cuts) + 1
        unjudged = sum(int(part.unjudged[number]) for part in self.parts)
        return Funnel(cuts, _at_least(reached)[:steps], _at_least(objects)[:steps], unjudged)


def _at_least(counts: np.ndarray) -> np.ndarray:
    """From how many have a depth, how many have it or a greater one."""
    left: np.ndarray = np.cumsum(counts[::-1])[::-1].astype(np.int64)
    return left
