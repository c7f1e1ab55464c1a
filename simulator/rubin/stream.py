"""The alerts of one night of Rubin's simulated sky, in order of time, with the truth."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import fastavro
import numpy as np

from schemas.avro.framing import Block, container, container_head
from schemas.surveys.lsst.versions import REFERENCE, schema_id, schema_of
from schemas.time import night_of
from simulator.packets.cell import SimulatedAlert
from simulator.rubin.records import Seen, records
from simulator.rubin.sky import COLOUR, FID, NJY, Object, objects
from simulator.rubin.stamps import ARTEFACTS, cutouts
from simulator.rubin.visits import BANDS, DEPTH, FIELDS, Visits, visits

FULL = 10_000
"""Alerts of a visit of the full survey."""

_PILOT = 1000
_DEPTHS = np.array([10 ** ((31.4 - DEPTH[band]) / 2.5) / 5 for band in BANDS])
"""nJy: the error of a faint source in each band."""


def simulate_rubin(
    alerts: int, seed: int, stamps: bool = True, framing: str = "container", density: float | None = None
) -> Iterator[SimulatedAlert]:
    """So many alerts of one night of the simulated sky as Rubin sends them, in order of time, from a seed.

    Parameters
    ----------
    alerts
        How many.
    seed
        The same arguments give the same bytes.
    stamps
        With image cut-outs, 100 kB an alert.
    framing
        "container": files that carry their schema; "confluent": as they travel, naming it by id.
    density
        Alerts a visit relative to the 10,000 of the full survey (1.0); None: so few that they come from many
        visits.

    Returns
    -------
    iterator
        Each with its truth; fluxes in nJy. Schema: the newest, six bands, a visit each 37 s.

    Raises
    ------
    ValueError
        For less than one alert, another framing, or a density that is not above 0.

    Source
    ------
    10,000 alerts a visit: the figure that the survey plans with (LSE-163, Data Products Definition).
    """
    if alerts < 1 or framing not in ("container", "confluent"):
        raise ValueError(f"cannot simulate {alerts} alerts framed as {framing!r}")
    if density is not None and not density > 0:
        raise ValueError(f"a density of {density} is not above 0")
    a_visit = 80 if density is None else density * FULL
    pairs = int(np.clip(alerts // (len(FIELDS) * a_visit), 2, 40))
    number = max(8, alerts // (pairs // 2 + 1))
    if density is not None:
        number = round(_PILOT * a_visit / _alerts_a_visit(_PILOT, seed, pairs))
    while len(sightings := _sightings(number, seed, pairs)) < alerts:
        number, pairs = (number * 2, pairs) if density is None else (number, pairs * 2)
    for seen in sightings[:alerts]:
        yield _alert(seen, seed, stamps, framing)


def _alerts_a_visit(number: int, seed: int, pairs: int) -> float:
    """How many alerts a visit has with so many objects."""
    return len(_sightings(number, seed, pairs)) / (2 * pairs * len(FIELDS))


def _sightings(number: int, seed: int, pairs: int) -> list[Seen]:
    """Every detection of so many objects in the emitted night above 5 sigma, in order of time."""
    every: list[Seen] = []
    seen_from = visits(seed, pairs)
    for index, one in enumerate(objects(seed, number, float(seen_from.jd[-1]))):
        every += _of_object(one, seen_from, np.random.default_rng([seed, 3, index]), index)
    every.sort(key=lambda seen: (seen.jd[seen.now], seen.index))
    return every


def _of_object(one: Object, seen_from: Visits, rng: np.random.Generator, index: int) -> list[Seen]:
    mine = np.flatnonzero(seen_from.field == one.field)
    if one.moving:  # at one visit of the emitted night
        mine = rng.choice(np.flatnonzero((seen_from.field == one.field) & seen_from.emitted), 1)
    jd, band = seen_from.jd[mine], seen_from.band[mine]
    true = one.curve(jd, FID[band]) * NJY * COLOUR[band]
    error = np.hypot(_DEPTHS[band], 0.004 * np.abs(true))
    flux = true + error * rng.normal(size=len(true))
    forced = true + error * rng.normal(size=len(true))
    detected = np.abs(flux) >= 5 * error
    whole = Seen(
        one,
        index,
        0,
        jd,
        seen_from.number[mine],
        band,
        flux,
        forced,
        error,
        true,
        detected,
        rng.uniform(size=3),
    )
    emitted = np.flatnonzero(detected & seen_from.emitted[mine])
    return [whole.at(int(now)) for now in emitted]


@cache
def _head() -> bytes:
    return container_head(schema_of(REFERENCE))


@cache
def _parsed() -> Any:
    return fastavro.parse_schema(schema_of(REFERENCE))


def _alert(seen: Seen, seed: int, stamps: bool, framing: str) -> SimulatedAlert:
    made = records(seen)
    now, one = seen.now, seen.object
    if stamps:
        rng = np.random.default_rng([seed, 4, seen.index, now])
        angle = float(np.random.default_rng([seed, 5, int(seen.visit[now])]).uniform(0, 2 * np.pi))
        dipole = made["diaSource"]["isDipole"]
        artefact = "" if one.kind != "bogus" else "dipole" if dipole else ARTEFACTS[1 + seen.index % 2]
        light = float(seen.flux[now]), float(seen.error[now]), seen.background
        made |= cutouts(*light, one.ra, one.dec, angle, rng, artefact)
    truth: dict[str, object] = {
        "class": one.kind,
        "ra": one.ra,
        "dec": one.dec,
        "true_flux": float(seen.true[now]),
        "true_mag": float(31.4 - 2.5 * np.log10(abs(seen.true[now]))),
        "magpsf": float(31.4 - 2.5 * np.log10(abs(seen.flux[now]))),
        "designation": made["diaSource"]["ssObjectId"] and f"SS{made['diaSource']['ssObjectId']}",
        **one.parameters,
    }
    jd, source = float(seen.jd[now]), made["diaSource"]
    exposure = source["visit"] * 1000 + source["detector"]
    night = int(night_of(jd, 0.5))
    packet = _packet(made, framing)
    return SimulatedAlert(
        packet, source["diaSourceId"], seen.name, jd, night, 1, exposure, truth, schemavsn=REFERENCE
    )


def _packet(made: Mapping[str, Any], framing: str) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, _parsed(), made)
    body = stream.getvalue()
    if framing == "confluent":
        return b"\0" + schema_id(REFERENCE).to_bytes(4, "big") + body
    return container(_head(), [Block(1, body)], hashlib.blake2b(body, digest_size=16).digest())
