"""Alerts that crowd around a bright star or along its diffraction spikes, in one exposure."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd

from filters.contract import alert_filter
from schemas.packets.sky import sky_of_header

STAR = ["bright.sep", "bright.ra", "bright.dec", "bright.mag"]
"""A catalogue of stars that the operator adds, with the columns ra, dec (deg) and mag (see
docs/channels.md)."""

GIVES = {"around_star": "", "on_spike": "", "star_mag": "mag"}


@alert_filter(survey="ztf", reads=["exposure", "ra", "dec", "rb", *STAR], scope="exposure", gives=GIVES)
def no_star_artefact(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.0,
    members: Annotated[int, "alerts"] = 3,
    halo: Annotated[float, "arcsec"] = 20.0,
    spike: Annotated[float, "arcsec"] = 80.0,
    width: Annotated[float, "arcsec"] = 4.0,
    angle: Annotated[float, "deg"] = 0.0,
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """Real enough, and not one of `members` alerts in the halo of a bright star, or on its spikes.

    A star of magnitude 10 has a halo of radius `halo` and four spikes of length `spike`, both twice as
    large for a star two magnitudes brighter. The star is the nearest one of the catalogue `bright`. An
    alert near a star that is alone there passes: it may be real.

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    rb_min
        Least real-bogus score, 0 to 1; the others count as members all the same.
    members
        So many alerts of one exposure in a halo, or on the spikes of one star, are artefacts.
    halo
        Radius around a star of magnitude 10.
    spike
        Length of a spike of a star of magnitude 10.
    width
        Largest distance of an alert from the axis of a spike.
    angle
        Of one spike from north towards east; the others lie at right angles to it. 0 for a camera that does
        not turn, on a telescope whose vanes point north, south, east and west.

    Source
    ------
    "Reject events occurring in spatial proximity", Bellm et al. 2017 (talk, 8 August 2017).
    """
    number = _numbers(alerts, ("ra", "dec", *STAR))
    places = from_star(number, angle)
    found = _beside_stars(alerts, number, places, (halo, spike, width))
    return _cuts(alerts["rb"] >= rb_min, found, members), found


@alert_filter(
    survey="lsst",
    reads=["exposure", "ra", "dec", "x", "y", "reliability", "cutoutDifference", *STAR],
    scope="exposure",
    gives={**GIVES, "turn": "deg"},
)
def no_star_artefact_rubin(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.0,
    members: Annotated[int, "alerts"] = 3,
    halo: Annotated[float, "arcsec"] = 20.0,
    spike: Annotated[float, "arcsec"] = 80.0,
    width: Annotated[float, "arcsec"] = 4.0,
    angle: Annotated[float, "deg"] = 45.0,
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """As `no_star_artefact`, of one detector of a Rubin visit: the camera turns, and its spikes with it.

    How the detector lies on the sky is read from the header of a stamp of the exposure. With it the star is
    placed on the detector, and the alerts are where their `x` and `y` say. `turn` is the position angle of a
    spike on the sky, north towards east, 0 to 90 degrees. An exposure whose stamps do not say how they lie
    has no `turn`, and nothing in it counts as on a spike; halos are looked at all the same.

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    reliability_min
        Least `reliability`, 0 to 1; the others count as members all the same.
    members
        So many alerts of one exposure in a halo, or on the spikes of one star, are artefacts.
    halo
        Radius around a star of magnitude 10.
    spike
        Length of a spike of a star of magnitude 10.
    width
        Largest distance of an alert from the axis of a spike.
    angle
        Of one spike from the detector's x axis towards its y axis; the others lie at right angles to it. The
        vanes are on the telescope, against which the rotator turns the camera: where it does so much, give a
        table by `exposure` or `night`.

    Source
    ------
    "Reject events occurring in spatial proximity", Bellm et al. 2017 (talk, 8 August 2017).
    """
    number = _numbers(alerts, ("ra", "dec", "x", "y", *STAR))
    matrices = _matrices(alerts)
    places, turn = _on_detector(alerts, number, matrices, angle)
    found = _beside_stars(alerts, number, places, (halo, spike, width))
    found["turn"] = pd.Series(turn, alerts.index)
    return _cuts(alerts["reliability"] >= reliability_min, found, members), found


def _numbers(alerts: pd.DataFrame, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: alerts[name].to_numpy(dtype=float, na_value=np.nan) for name in names}


def _beside_stars(
    alerts: pd.DataFrame,
    number: dict[str, np.ndarray],
    places: tuple[np.ndarray, np.ndarray],
    sizes: tuple[float, float, float],
) -> dict[str, pd.Series]:
    """The values of GIVES. places: along and across the nearest spike; sizes: halo, spike, width; arcsec."""
    (along, across), (halo, spike, width) = places, sizes
    scale = 2 ** ((10.0 - number["bright.mag"]) / 2)
    near = number["bright.sep"] <= halo * scale
    on_spike = (across <= width) & (along <= spike * scale) & ~near
    star = _stars(alerts, number)
    around, spiked = (_others(star, mask) for mask in (near, on_spike))
    values = {"around_star": around, "on_spike": spiked, "star_mag": number["bright.mag"]}
    return {name: pd.Series(value, alerts.index) for name, value in values.items()}


def _cuts(real: pd.Series, found: dict[str, pd.Series], members: int) -> dict[str, pd.Series]:
    cuts = {"no halo": found["around_star"] < members, "no spike": found["on_spike"] < members}
    return {"real": real, **cuts}


def _matrices(alerts: pd.DataFrame) -> np.ndarray:
    """How the detector of each alert lies on the sky, (n, 2, 2): see `StampSky.matrix`; NaN: unknown.

    All stamps of an exposure lie alike: the first one that says how counts.
    """
    found = np.full((len(alerts), 2, 2), np.nan)
    stamps = alerts["cutoutDifference"].array
    for rows in alerts.groupby("exposure", sort=False).indices.values():
        for row in rows:
            data = stamps[row]
            if not isinstance(data, bytes):
                continue
            try:
                matrix = sky_of_header(data).matrix
            except (KeyError, ValueError):
                continue
            if np.isfinite(matrix).all() and np.linalg.det(matrix):
                found[rows] = matrix
                break
    return found


def _on_detector(
    alerts: pd.DataFrame, number: dict[str, np.ndarray], matrices: np.ndarray, angle: float
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """As `from_star`, by the alerts' places on the detector; and the position angle of a spike, deg."""
    east, north = _offsets(number)
    scale, inverse = np.full(len(alerts), np.nan), np.full_like(matrices, np.nan)
    known = np.isfinite(matrices).all(axis=(1, 2))
    scale[known] = np.sqrt(np.abs(np.linalg.det(matrices[known])))  # arcsec a pixel
    inverse[known] = np.linalg.inv(matrices[known])
    apart = np.einsum("nij,nj->ni", inverse, np.column_stack([east, north]))
    star = _stars(alerts, number)
    places = {axis: number[axis] - apart[:, place] for place, axis in enumerate("xy")}
    keys = list(star.columns)
    middle = star.assign(**{f"at_{axis}": at for axis, at in places.items()}).groupby(keys, sort=False)
    dx, dy = (
        (number[axis] - middle[f"at_{axis}"].transform("median").to_numpy(float)) * scale for axis in "xy"
    )
    turn = np.radians(angle)
    spike = matrices @ (np.cos(turn), np.sin(turn))
    position = np.degrees(np.arctan2(spike[:, 0], spike[:, 1])) % 90
    return _along_and_across(dx, dy, angle), position


def _stars(alerts: pd.DataFrame, number: dict[str, np.ndarray]) -> pd.DataFrame:
    """Which star of which exposure each alert is near."""
    return alerts[["exposure"]].assign(ra=number["bright.ra"], dec=number["bright.dec"])


def _offsets(number: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How far each alert is east and north of its star, arcsec."""
    apart = (number["ra"] - number["bright.ra"] + 180) % 360 - 180
    east = apart * np.cos(np.radians(number["bright.dec"])) * 3600
    return east, (number["dec"] - number["bright.dec"]) * 3600


def from_star(number: dict[str, np.ndarray], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each alert the distance from its star along the nearest spike, and from the spike's axis; arcsec.

    Parameters
    ----------
    number
        ra, dec, bright.ra and bright.dec, (n,) degrees each.
    angle
        Of one of the four spikes from north towards east, degrees.
    """
    east, north = _offsets(number)
    return _along_and_across(north, east, angle)


def _along_and_across(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """How far places are along the nearest of four spikes, and from its axis. angle: of one from x to y."""
    turn = np.radians(angle)
    first = np.abs(x * np.cos(turn) + y * np.sin(turn))
    second = np.abs(y * np.cos(turn) - x * np.sin(turn))
    return np.fmax(first, second), np.fmin(first, second)


def _others(star: pd.DataFrame, mask: np.ndarray) -> np.ndarray:
    """For each alert in the mask, how many of its exposure are in it at the same star; 0 for others."""
    chosen = mask & star.notna().all(axis=1).to_numpy()
    found = np.zeros(len(star))
    if chosen.any():
        groups = star[chosen].groupby(list(star.columns), sort=False)
        found[chosen] = groups["exposure"].transform("size").to_numpy(float)
    return found
