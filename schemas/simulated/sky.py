"""The simulated sky as a stream: alerts in time order, exactly as many as were asked for."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from schemas.simulated.bogus import ARTEFACTS
from schemas.simulated.detection import Observation, observe
from schemas.simulated.history import Dossier, Historian, open_dossier
from schemas.simulated.identity import object_name
from schemas.simulated.packet import PacketWriter, packet_writer
from schemas.simulated.population import KINDS, Draw, Sky
from schemas.simulated.stamps import draw_stamps, stamp_names
from schemas.simulated.survey import LAST_NIGHT, NIGHT_ZERO, SURVEY_DAYS, Survey

_POSITIVE, _NEGATIVE = 15, 10  # image type in a candid: science minus reference, or the reverse
_UNIX_EPOCH = 2440587.5  # jd


@dataclass(frozen=True)
class SimulatedAlert:
    """One packet and the truth behind it."""

    packet: bytes
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
    arguments give the same bytes. Raises ValueError when the arguments cannot be served.
    """
    if alerts < 1:
        raise ValueError(f"cannot simulate {alerts} alerts: ask for 1 or more")
    if not 1 <= nights <= SURVEY_DAYS // 2:
        raise ValueError(
            f"cannot emit {nights} nights: the simulated survey can emit 1 to {SURVEY_DAYS // 2}"
        )
    writer = packet_writer(schema)
    return _emit(alerts, seed, nights, writer, stamps)


def _emit(
    alerts: int, seed: int, nights: int, writer: PacketWriter, stamps: bool
) -> Iterator[SimulatedAlert]:
    sky = Sky(
        Survey(max(1, alerts // nights), np.random.default_rng([seed, 0])),
        range(LAST_NIGHT - nights + 1, LAST_NIGHT + 1),
    )
    observed = _populate(sky, alerts, seed)
    _name(observed)
    historian = Historian(sky.survey, writer, seed)
    open_files: dict[int, Dossier] = {}
    left = [_emitted(o, sky.nights) for o in observed]
    for index, visit in _time_order(observed, sky.nights):
        dossier = open_files.get(index)
        if dossier is None:
            dossier = open_files[index] = open_dossier(observed[index], seed)
        yield _alert(dossier, visit, historian, writer, seed, stamps)
        left[index] -= 1
        if not left[index]:
            del open_files[index]


def _populate(sky: Sky, alerts: int, seed: int) -> list[Observation]:
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
    while wanted and misses < 150:
        fresh: list[tuple[Observation, int]] = []
        for source in draw(sky, rng):
            visits = sky.survey.visits(source.place.field, source.place.rcid)
            seen = observe(source, len(found) + len(fresh), visits, rng)
            if count := _emitted(seen, sky.nights):
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


def _emitted(seen: Observation, nights: range) -> int:
    """How many alerts a source makes in the emitted nights."""
    return int(np.count_nonzero(seen.detected & (seen.visits.night >= nights.start)))


def _name(observed: list[Observation]) -> None:
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
        since = int(seen.visits.night[np.argmax(seen.detected)])
        year = (datetime(2017, 1, 1, tzinfo=UTC) + timedelta(days=since)).year
        seen.objectId = object_name(year, 300_000_000 + 7 * rank)


def _time_order(observed: list[Observation], nights: range) -> list[tuple[int, int]]:
    """(index of source, visit) of all emitted alerts, by time, then candid."""
    rows = [
        (float(o.visits.jd[v]), int(o.candid[v]), index, int(v))
        for index, o in enumerate(observed)
        for v in np.flatnonzero(o.detected & (o.visits.night >= nights.start))
    ]
    return [(index, visit) for _, _, index, visit in sorted(rows)]


def _alert(
    dossier: Dossier, visit: int, historian: Historian, writer: PacketWriter, seed: int, stamps: bool
) -> SimulatedAlert:
    seen = dossier.seen
    candidate = historian.candidate(dossier, visit)
    candid, pid = candidate["candid"], candidate["pid"]
    parts = {
        "schemavsn": writer.version,
        "publisher": "ZTF (simulated by zads)",
        "objectId": seen.objectId,
        "candid": candid,
        "candidate": writer.candidate(candidate),
        "prv_candidates": historian.previous(dossier, visit) or None,
    }
    if writer.has_forced:
        parts["fp_hists"] = historian.forced(dossier, visit) or None
    if stamps:
        names = stamp_names(candid, pid, candidate["isdiffpos"] == "t")
        pictures = _pictures(dossier, visit, candidate, np.random.default_rng([seed, candid]))
        for name, picture in zip(
            ("Science", "Template", "Difference"), zip(names, pictures, strict=True), strict=True
        ):
            parts[f"cutout{name}"] = picture
    sync = hashlib.blake2b(f"{seed} {candid}".encode(), digest_size=16).digest()
    return SimulatedAlert(
        packet=writer.packet(parts, sync),
        candid=candid,
        objectId=seen.objectId,
        jd=candidate["jd"],
        night=candidate["nid"],
        programid=candidate["programid"],
        pid=pid,
        truth={"class": seen.source.kind, **seen.source.parameters},
    )


def _pictures(
    dossier: Dossier, visit: int, candidate: dict[str, object], rng: np.random.Generator
) -> tuple[bytes, bytes, bytes]:
    seen, visits, i = dossier.seen, dossier.seen.visits, dossier.order[visit]
    columns = dossier.columns
    fwhm = float(visits.fwhm[visit])
    background = 10 ** (0.4 * (visits.zeropoint[visit] - visits.maglim[visit])) / 5
    return draw_stamps(
        near=dossier.near,
        east=float(columns["east"][i]),
        north=float(columns["north"][i]),
        ra=float(columns["ra"][i]),
        dec=float(columns["dec"][i]),
        xpos=float(columns["xpos"][i]),
        ypos=float(columns["ypos"][i]),
        fid=int(visits.fid[visit]),
        fwhm=fwhm,
        zeropoint=float(visits.zeropoint[visit]),
        sky=float(visits.sky[visit]),
        noise=float(background / (3.545 * fwhm / 2.355) / 1.5),
        flux=float(seen.flux[visit]),
        artefact=seen.source.artefact,
        unixtime=int((candidate["jd"] - _UNIX_EPOCH) * 86400),  # type: ignore[operator]
        rng=rng,
    )


__all__ = ["NIGHT_ZERO", "SimulatedAlert", "simulate"]
