"""The simulated sky as a stream: alerts in time order, exactly as many as were asked for."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.simulated.census import emitted, name_detections, take_census, time_order
from schemas.simulated.history import Dossier, Historian, open_dossiers
from schemas.simulated.packet import PacketWriter, packet_writer
from schemas.simulated.population import Sky
from schemas.simulated.stamps import NAMES, View, draw_stamps, stamp_names
from schemas.simulated.survey import LAST_NIGHT, SURVEY_DAYS, Survey

_AHEAD = 1000  # alerts whose objects are measured together: arrays of some length cost little
_UNIX_EPOCH = 2440587.5  # jd
_PUBLISHER = "ZTF (simulated by zads)"


@dataclass(frozen=True)
class SimulatedAlert:
    """One packet and the truth behind it."""

    packet: bytes = field(repr=False)
    candid: int
    objectId: str
    jd: float
    night: int
    programid: int
    pid: int
    truth: dict[str, object] = field(repr=False)


def simulate(
    alerts: int, seed: int, nights: int = 1, schema: str = "4.01", stamps: bool = True
) -> Iterator[SimulatedAlert]:
    """Exactly `alerts` alerts of the last `nights` nights, in time order, from a seed.

    The survey runs for ninety nights; those before the emitted ones appear in histories only. The same
    arguments give the same bytes. Raises ValueError when the arguments cannot be served: at once when that
    can be seen from them, else at the first alert.
    """
    if alerts < 1:
        raise ValueError(f"cannot simulate {alerts} alerts: ask for 1 or more")
    if not 1 <= nights <= SURVEY_DAYS // 2:
        raise ValueError(
            f"cannot emit {nights} nights: the simulated survey can emit 1 to {SURVEY_DAYS // 2}"
        )
    return _Stream(seed, packet_writer(schema), stamps).run(alerts, nights)


class _Stream:
    """One run of the simulation."""

    def __init__(self, seed: int, writer: PacketWriter, stamps: bool) -> None:
        self._seed, self._writer, self._stamps = seed, writer, stamps
        self._grain = np.random.default_rng([seed, 6])  # the noise of all stamps, in the order of the alerts

    def run(self, alerts: int, nights: int) -> Iterator[SimulatedAlert]:
        survey = Survey(max(1, alerts // nights), np.random.default_rng([self._seed, 0]))
        sky = Sky(survey, range(LAST_NIGHT - nights + 1, LAST_NIGHT + 1))
        observed = take_census(sky, alerts, self._seed)
        name_detections(observed)
        historian = Historian(survey, self._writer, self._seed)
        dossiers: dict[int, Dossier] = {}
        left = [emitted(seen, sky.nights) for seen in observed]
        order = time_order(observed, sky.nights)
        for start in range(0, len(order), _AHEAD):
            coming = order[start : start + _AHEAD]
            fresh = [i for i in dict.fromkeys(index for index, _ in coming) if i not in dossiers]
            rng = np.random.default_rng([self._seed, 7, start])
            dossiers |= zip(fresh, open_dossiers([observed[i] for i in fresh], rng), strict=True)
            for index, visit in coming:
                yield self._alert(dossiers[index], visit, historian)
                left[index] -= 1
                if not left[index]:
                    del dossiers[index]

    def _alert(self, dossier: Dossier, visit: int, historian: Historian) -> SimulatedAlert:
        seen, writer = dossier.seen, self._writer
        candidate = historian.candidate(dossier, visit)
        parts: dict[str, Any] = {
            "schemavsn": writer.version,
            "publisher": _PUBLISHER,
            "objectId": seen.objectId,
            "candid": candidate["candid"],
            "candidate": writer.candidate(candidate),
            "prv_candidates": historian.previous(dossier, visit) or None,
        }
        if writer.has_forced:
            parts["fp_hists"] = historian.forced(dossier, visit) or None
        if self._stamps:
            parts |= self._cutouts(dossier, visit, candidate)
        # The sync marker is random by nature; here it comes from seed and candid.
        sync = hashlib.blake2b(f"{self._seed} {candidate['candid']}".encode(), digest_size=16).digest()
        return SimulatedAlert(
            packet=writer.packet(parts, sync),
            candid=candidate["candid"],
            objectId=seen.objectId,
            jd=candidate["jd"],
            night=candidate["nid"],
            programid=candidate["programid"],
            pid=candidate["pid"],
            truth={"class": seen.source.kind, **seen.source.parameters},
        )

    def _cutouts(
        self, dossier: Dossier, visit: int, candidate: dict[str, Any]
    ) -> dict[str, tuple[str, bytes]]:
        seen = dossier.seen
        view = View(
            **{name: candidate[name] for name in ("ra", "dec", "xpos", "ypos", "fid")},
            east=candidate["east"],
            north=candidate["north"],
            fwhm=float(seen.visits.fwhm[visit]),
            zeropoint=float(seen.visits.zeropoint[visit]),
            sky=float(seen.visits.sky[visit]),
            flux=float(seen.flux[visit]),
            artefact=seen.source.artefact,
            angle=seen.source.angle,
        )
        written = int((candidate["jd"] - _UNIX_EPOCH) * 86400)
        pictures = draw_stamps(dossier.near, view, written, self._grain)
        names = stamp_names(candidate["candid"], candidate["pid"], candidate["isdiffpos"] == "t")
        return {f"cutout{n}": (name, data) for n, name, data in zip(NAMES, names, pictures, strict=True)}
