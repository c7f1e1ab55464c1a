"""One quadrant of one field: all its sources, measured, and its alerts as packets.

Everything is columns of the whole quadrant; only joining a packet and drawing its stamps go alert by alert.
A history row is written from the same values as the alert of its epoch, so the two agree to the digit. As in
the survey's packets, a row has nulls where the alert has the sentinels of "no solar-system object", and the
image's path in the archive instead of its bare name.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.identity import MISSING
from simulator.measure.catalogue import Catalogue, catalogue_around, neighbours
from simulator.measure.census import name_detections
from simulator.measure.detection import Observation, detections_of, measure, photometry
from simulator.measure.exposures import exposure_columns
from simulator.packets.neighbourhood import Neighbourhood
from simulator.packets.packet import PacketWriter
from simulator.packets.rows import RowWriter
from simulator.packets.stamps import NAMES, Scene, View, draw_stamps, light_of, stamp_names, unix_time
from simulator.sky.telescope import HISTORY_DAYS, PIXEL_SCALE, QUADRANT_SHAPE, Survey

_BATCH = 256  # alerts whose records are written together
_PUBLISHER = "ZTF (simulated by zads)"


@dataclass(frozen=True)
class SimulatedAlert:
    """One packet and the truth behind it. damage: what was done to the packet on its way, if anything."""

    packet: bytes = field(repr=False)
    candid: int
    objectId: str
    jd: float
    night: int
    programid: int
    pid: int
    truth: dict[str, object] = field(repr=False)
    schemavsn: str = "4.02"
    damage: str | None = None


class Cell:
    """The observed sources of a quadrant and all columns about them.

    Detections from 30 days before the first emitted night on are measured; `self.first` numbers the first of
    those visits. Rows of `measured` and `self.seen` are such detections, one source after the other.
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
        self.hood = Neighbourhood(self)

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

    def alerts(self, writers: Sequence[PacketWriter], stamps: bool) -> Iterator[SimulatedAlert]:
        """The alerts of the emitted nights in order of time, then candid. With several writers the exposures
        are dealt out to them, so that one night holds several schema versions."""
        jd, night = self.visits.jd[self.seen.visit], self.visits.night[self.seen.visit]
        emitted = np.flatnonzero(night >= self.survey.plan.emitted.start)
        order = emitted[np.lexsort((self.candid[emitted], jd[emitted]))]
        writing = [RowWriter(self, writer) for writer in writers]
        turn = self.visits.pid // 10**4 * 2_654_435_761 // 7 % len(writers)
        for begin in range(0, len(order), _BATCH):
            batch = order[begin : begin + _BATCH]
            deal = turn[self.seen.visit[batch]]
            parts: dict[int, dict[str, Any]] = {}
            for k, rows in enumerate(writing):
                chosen = batch[deal == k]
                parts |= zip(chosen.tolist(), rows.parts(chosen), strict=True)
            for d, k in zip(batch.tolist(), deal.tolist(), strict=True):
                yield self._alert(d, parts[d], writers[k], stamps)

    def prepared(self, writer: PacketWriter, stamps: bool) -> Iterator[dict[str, Any]]:
        """The parts of each packet, unjoined, and the rows that its candidate was written from."""
        night = self.visits.night[self.seen.visit]
        chosen = np.flatnonzero(night >= self.survey.plan.emitted.start)
        writing = RowWriter(self, writer)
        rows = writing.candidates(chosen)
        for row, (d, parts) in enumerate(zip(chosen.tolist(), writing.parts(chosen), strict=True)):
            yield self._complete(d, parts, writer, stamps) | {"rows": rows, "row": row, "sync": self._sync(d)}

    def _complete(self, d: int, parts: dict[str, Any], writer: PacketWriter, stamps: bool) -> dict[str, Any]:
        """The records of an alert, and what stands beside them in the packet."""
        candid = int(self.candid[d])
        parts |= {"schemavsn": writer.version, "publisher": _PUBLISHER, "candid": candid}
        parts["objectId"] = self.observed[self.seen.owner[d]].objectId
        return parts | self._cutouts(d, candid, int(self.seen.visit[d])) if stamps else parts

    def _sync(self, d: int) -> bytes:
        """The sync marker: random by nature; here it comes from seed and candid."""
        return hashlib.blake2b(b"%d %d" % (self.seed, self.candid[d]), digest_size=16).digest()

    def _alert(self, d: int, parts: dict[str, Any], writer: PacketWriter, stamps: bool) -> SimulatedAlert:
        visit = int(self.seen.visit[d])
        return SimulatedAlert(
            packet=writer.packet(self._complete(d, parts, writer, stamps), self._sync(d)),
            candid=int(self.candid[d]),
            objectId=self.observed[self.seen.owner[d]].objectId,
            jd=float(self.visits.jd[visit]),
            night=int(self.visits.night[visit]),
            programid=int(self.visits.programid[visit]),
            pid=int(self.visits.pid[visit]),
            truth=self._truth(d, visit),
            schemavsn=writer.version,
        )

    def _truth(self, d: int, visit: int) -> dict[str, object]:
        source, true = self.sources[self.seen.owner[d]], float(self.seen.true[d])
        magnitude = float(self.seen.zeropoint[d]) - 2.5 * np.log10(abs(true))
        facts = {"class": source.kind, "ra": source.place.ra, "dec": source.place.dec}
        facts |= {"fid": int(self.visits.fid[visit]), "true_flux": true, "true_mag": float(magnitude)}
        return facts | {"magpsf": float(np.float32(self.measured["magpsf"][d]))} | source.parameters

    def _cutouts(self, d: int, candid: int, visit: int) -> dict[str, tuple[str, bytes]]:
        owner = int(self.seen.owner[d])
        source, measured = self.sources[owner], self.measured
        numbers = ("ra", "dec", "xpos", "ypos", "east", "north")
        view = View(
            candid=candid,
            **{name: float(measured[name][d]) for name in numbers},
            turn=self.turn,
            fwhm=float(self.visits.fwhm[visit]),
            sky=float(self.visits.sky[visit]),
            flux=float(self.seen.flux[d]),
            artefact=source.artefact,
            angle=source.angle,
            trail=source.trail,
        )
        scene = self._scene(owner, int(self.visits.fid[visit]), float(self.visits.zeropoint[visit]))
        pictures = draw_stamps(scene, view, unix_time(float(self.visits.jd[visit])), self.seed)
        names = stamp_names(candid, int(self.visits.pid[visit]), view.flux > 0)
        return {f"cutout{n}": (name, data) for n, name, data in zip(NAMES, names, pictures, strict=True)}

    def _scene(self, owner: int, fid: int, zeropoint: float) -> Scene:
        near, c = self.near[self.near_starts[owner] : self.near_starts[owner + 1]], self.catalogue
        x, y = c.x[near] - self.x[owner], c.y[near] - self.y[owner]
        close = (np.abs(x) < 50) & (np.abs(y) < 50)
        near = near[close]
        light = light_of(c.mags[near, fid - 1], zeropoint)
        return Scene(x[close], y[close], light, c.core[near], c.radius[near], c.ratio[near], c.angle[near])


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


__all__ = ["PIXEL_SCALE", "Cell", "SimulatedAlert"]
