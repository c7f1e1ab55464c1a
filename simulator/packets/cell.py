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

from simulator.measure.detection import Observation
from simulator.packets.neighbourhood import Neighbourhood
from simulator.packets.packet import PacketWriter
from simulator.packets.quadrant import Quadrant
from simulator.packets.rows import RowWriter
from simulator.packets.stamps import NAMES, Scene, View, draw_stamps, light_of, stamp_names, unix_time
from simulator.sky.telescope import Survey

_BATCH = 256  # alerts whose records are written together
_PUBLISHER = "ZTF (simulated by zads)"


@dataclass(frozen=True)
class SimulatedAlert:
    """One packet with its truth. damage: what was done to the packet on its way, if anything."""

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


class Cell(Quadrant):
    """The alerts of a quadrant, as packets.

    Parameters
    ----------
    survey
        The survey.
    seed
        Of the simulated sky.
    place
        Index of the field, and the quadrant.
    observed
        The sources, each with its detections.
    """

    def __init__(
        self, survey: Survey, seed: int, place: tuple[int, int], observed: Sequence[Observation]
    ) -> None:
        super().__init__(survey, seed, place, observed)
        self.hood = Neighbourhood(self)

    def alerts(self, writers: Sequence[PacketWriter], stamps: bool) -> Iterator[SimulatedAlert]:
        """The alerts of the emitted nights in order of time, then candid.

        With several writers the exposures are divided among them, so that one night has several schema
        versions.
        """
        jd, night = self.visits.jd[self.seen.visit], self.visits.night[self.seen.visit]
        emitted = np.flatnonzero(night >= self.survey.plan.emitted.start)
        order = emitted[np.lexsort((self.candid[emitted], jd[emitted]))]
        writing = [RowWriter(self, self.hood, writer) for writer in writers]
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
        writing = RowWriter(self, self.hood, writer)
        rows = writing.candidates(chosen)
        for row, (d, parts) in enumerate(zip(chosen.tolist(), writing.parts(chosen), strict=True)):
            yield self._complete(d, parts, writer, stamps) | {"rows": rows, "row": row, "sync": self._sync(d)}

    def _complete(self, d: int, parts: dict[str, Any], writer: PacketWriter, stamps: bool) -> dict[str, Any]:
        """The records of an alert, and the other parts of the packet."""
        candid = int(self.candid[d])
        parts |= {"schemavsn": writer.version, "publisher": _PUBLISHER, "candid": candid}
        parts["objectId"] = self.observed[self.seen.owner[d]].objectId
        return parts | self._cutouts(d, candid, int(self.seen.visit[d])) if stamps else parts

    def _sync(self, d: int) -> bytes:
        """The sync marker: usually random; here it depends on seed and candid only."""
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
