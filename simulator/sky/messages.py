"""Messages that are no alerts: a gravitational-wave event with its sky maps, and a neutrino notice.

A merger in the simulated month has three notices in the form of GCN's `igwn.gwalert` topic (preliminary,
update; and another event's that is retracted) and multi-order HEALPix maps in the form of the IGWN public
alerts user guide: UNIQ, PROBDENSITY, DISTMU, DISTSIGMA, DISTNORM. Its kilonova is in the packets.
"""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io import fits
from cdshealpix.nested import healpix_to_lonlat

from simulator.sky.merger import Merger

_BASE_ORDER, _ROUNDS = 3, 6
_SPLIT = 12 * 4**_BASE_ORDER // 4  # pixels that each round divides
_BROAD, _NARROW = (14.0, 4.0), (4.5, 1.3)  # deg: semi-axes of the maps of two and of three detectors
_BEND = 1 / 60  # how much a map curves: deg across for each squared deg along
_JD_OF_1970 = 2440587.5
_SECOND = 1 / 86400


@dataclass(frozen=True)
class SkyMap:
    """A multi-order map: `uniq` (NUNIQ numbers), `density` (a steradian), distances (Mpc) a pixel."""

    uniq: np.ndarray
    density: np.ndarray
    distance: float
    spread: float

    @property
    def order(self) -> np.ndarray:
        """HEALPix order of each pixel."""
        return (np.floor(np.log2(self.uniq / 4)) / 2).astype(int)

    @property
    def area(self) -> np.ndarray:
        """Solid angle (sr) of each pixel."""
        return math.pi / 3 / 4.0**self.order

    def fits(self, event: str, jd: float, instruments: str) -> bytes:
        """The map as a FITS file.

        Parameters
        ----------
        event
            Name of the superevent.
        jd
            Julian date of the event, days UTC.
        instruments
            Names of the detectors.
        """
        norm = 1 / (self.distance**2 + self.spread**2)  # of a Gaussian times r², to a few per cent
        ones = np.ones(len(self.uniq))
        columns = [
            fits.Column("UNIQ", "K", array=self.uniq),
            fits.Column("PROBDENSITY", "D", unit="sr-1", array=self.density),
            fits.Column("DISTMU", "D", unit="Mpc", array=self.distance * ones),
            fits.Column("DISTSIGMA", "D", unit="Mpc", array=self.spread * ones),
            fits.Column("DISTNORM", "D", unit="Mpc-2", array=norm * ones),
        ]
        table = fits.BinTableHDU.from_columns(columns)
        table.header.update(
            {"PIXTYPE": "HEALPIX", "ORDERING": "NUNIQ", "COORDSYS": "C", "INDXSCHM": "EXPLICIT"}
            | {"MOCORDER": int(self.order.max()), "OBJECT": event, "INSTRUME": instruments}
            | {"DATE-OBS": _iso(jd), "MJD-OBS": jd - 2400000.5, "CREATOR": "zads"}
            | {"DISTMEAN": self.distance, "DISTSTD": self.spread}
        )
        out = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(out)
        return out.getvalue()


def sky_map(merger: Merger, axes: tuple[float, float], rng: np.random.Generator) -> SkyMap:
    """A bent ellipse of probability around a merger, placed so that the merger is a random draw from it.

    Parameters
    ----------
    merger
        The merger.
    axes
        Semi-axes at one sigma, degrees.
    rng
        Source of random numbers.

    Source
    ------
    Pixels are split where the probability is, as BAYESTAR does: Singer & Price 2016, PRD 93, 024013.
    """
    angle, along, across = float(rng.uniform(0, math.pi)), *rng.normal(0, 1, 2) * axes
    across += _BEND * along**2
    offset = complex(along, across) * complex(math.cos(angle), math.sin(angle))
    shape = (angle, merger.ra, merger.dec, offset)
    order = np.full(12 * 4**_BASE_ORDER, _BASE_ORDER)
    pixel = np.arange(len(order))
    for _ in range(_ROUNDS):
        mass = _density(order, pixel, shape, axes) / 4.0**order
        split = np.zeros(len(order), bool)
        split[np.argsort(mass)[-_SPLIT:]] = True
        children = (pixel[split][:, None] * 4 + np.arange(4)).ravel()
        order = np.concatenate([order[~split], np.repeat(order[split] + 1, 4)])
        pixel = np.concatenate([pixel[~split], children])
    density = _density(order, pixel, shape, axes)
    density /= (density * math.pi / 3 / 4.0**order).sum()
    spread = 0.25 * merger.distance
    uniq = 4 * 4**order + pixel
    by = np.argsort(uniq)
    return SkyMap(uniq[by], density[by], max(merger.distance + float(rng.normal(0, spread)), 10.0), spread)


def _density(
    order: np.ndarray,
    pixel: np.ndarray,
    shape: tuple[float, float, float, complex],
    axes: tuple[float, float],
) -> np.ndarray:
    """The probability density of the bent ellipse at the middle of each pixel, not normalised."""
    lon, lat = np.empty(len(order)), np.empty(len(order))
    for k in np.unique(order):
        of = order == k
        place = healpix_to_lonlat(pixel[of].astype(np.uint64), int(k))
        lon[of], lat[of] = place[0].to_value(u.deg), place[1].to_value(u.deg)
    angle, ra, dec, offset = shape
    # Offsets on the sky from the merger (deg, azimuthal), then from the middle of the ellipse.
    x, y = _azimuthal(lon, lat, ra, dec)
    turned = (x + 1j * y + offset) * np.exp(-1j * angle)
    along, across = turned.real, turned.imag - _BEND * turned.real**2
    return np.exp(-0.5 * ((along / axes[0]) ** 2 + (across / axes[1]) ** 2)) + 1e-12


def _azimuthal(lon: np.ndarray, lat: np.ndarray, ra: float, dec: float) -> tuple[np.ndarray, np.ndarray]:
    """Zenithal equal-area coordinates (deg) about a place."""
    a, d, d0 = np.radians(lon - ra), np.radians(lat), math.radians(dec)
    cosine = math.sin(d0) * np.sin(d) + math.cos(d0) * np.cos(d) * np.cos(a)
    scale = np.degrees(np.sqrt(2 / np.maximum(1 + cosine, 1e-9)))
    north = math.cos(d0) * np.sin(d) - math.sin(d0) * np.cos(d) * np.cos(a)
    return scale * np.cos(d) * np.sin(a), scale * north


def messages_of(merger: Merger, seed: int) -> dict[str, bytes]:
    """File name -> content: notices (JSON) and maps (FITS) of the merger, of an event that is retracted, and
    a neutrino notice."""
    rng = np.random.default_rng([seed, 91])
    found: dict[str, bytes] = {}
    for number, (kind, axes, who, minutes) in enumerate(
        [("PRELIMINARY", _BROAD, "H1,L1", 5), ("UPDATE", _NARROW, "H1,L1,V1", 300)], 1
    ):
        image = sky_map(merger, axes, rng).fits(merger.name, merger.jd, who)
        found[f"{merger.name}-{number}-{kind.lower()}.multiorder.fits"] = image
        notice = _notice(merger.name, merger.jd, kind, who, minutes, image)
        found[f"{merger.name}-{number}-{kind.lower()}.json"] = _json(notice)
    noise = merger.noise()
    image = sky_map(noise, _BROAD, rng).fits(noise.name, noise.jd, "H1,L1")
    first = _notice(noise.name, noise.jd, "PRELIMINARY", "H1,L1", 6, image)
    found[f"{noise.name}-1-preliminary.multiorder.fits"] = image
    found[f"{noise.name}-1-preliminary.json"] = _json(first)
    found[f"{noise.name}-2-retraction.json"] = _json(
        _notice(noise.name, noise.jd, "RETRACTION", "H1,L1", 90, None)
    )
    return found | {"neutrino.json": _json(_neutrino(merger, rng))}


def _notice(name: str, jd: float, kind: str, who: str, minutes: int, image: bytes | None) -> dict[str, Any]:
    """As GCN sends it in `igwn.gwalert`; a retraction has no event."""
    event = None
    if image is not None:
        event = {
            "significant": True,
            "time": _iso(jd),
            "far": 1e-10,
            "instruments": who.split(","),
            "group": "CBC",
            "pipeline": "gstlal",
            "search": "AllSky",
            "duration": None,
            "properties": {"HasNS": 1.0, "HasRemnant": 1.0, "HasMassGap": 0.0},
            "classification": {"BNS": 0.98, "NSBH": 0.01, "BBH": 0.0, "Terrestrial": 0.01},
            "skymap": base64.b64encode(image).decode(),
        }
    made = _iso(jd + minutes / 1440)
    head = {"alert_type": kind, "time_created": made, "superevent_id": name}
    return {**head, "urls": {}, "event": event, "external_coinc": None}


def _neutrino(merger: Merger, rng: np.random.Generator) -> dict[str, Any]:
    """A track event, nowhere near the merger, in the form of GCN's IceCube notices."""
    jd = merger.jd + float(rng.uniform(0.1, 2))
    return {
        "alert_type": "initial",
        "alert_tense": "test",
        "mission": "IceCube (simulated by zads)",
        "id": ["simulated"],
        "alert_datetime": _iso(jd + 40 * _SECOND),
        "trigger_time": _iso(jd),
        "ra": float((merger.ra + 150) % 360),
        "dec": float(rng.uniform(-20, 40)),
        "ra_dec_error": 0.7,
        "containment_probability": 0.9,
        "nu_energy": 180.0,
        "nu_energy_unit": "TeV",
        "p_astro": 0.55,
    }


def write_messages(merger: Merger, seed: int, folder: Path) -> list[Path]:
    """Write the messages about a merger into a folder; return the files.

    Parameters
    ----------
    merger
        The merger.
    seed
        Of the simulated sky.
    folder
        Where to; it is made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in messages_of(merger, seed).items():
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    return paths


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode()


def _iso(jd: float) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=jd - _JD_OF_1970)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
