"""The filters again, in plain Python, an alert at a time, word by word from the definitions.

Nothing of `filters` or `schemas` is used: two readings of one text should agree.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

from tests.filters.stamp_oracle import stamp_point
from tests.filters.type_ia_oracle import chi2_dof, epochs

Packet = Mapping[str, Any]

PS1 = [
    f"{word}{n}" for n in (1, 2, 3) for word in ("sgmag", "srmag", "simag", "szmag", "sgscore", "distpsnr")
]
MINUS_999 = {*PS1, "neargaia", "neargaiabright", "maggaia", "maggaiabright", "ssdistnr", "ssmagnr"}


def there(x: Any) -> bool:
    """Not missing: neither null nor NaN."""
    return x is not None and x == x


def value(packet: Packet, name: str) -> Any:
    """A field of the candidate as a filter sees it; None where it is missing."""
    candidate = packet["candidate"]
    found = candidate.get(name)
    if not there(found) or (name in MINUS_999 and found == -999):
        return None
    if name == "ssdistnr" and found == 60 and candidate.get("ssnamenr") in (None, "null"):
        return None
    return found


def compare(x: Any, test: Callable[[Any], bool]) -> bool:
    """A comparison with a missing value is false."""
    return there(x) and test(x)


def positive(record: Mapping[str, Any]) -> bool:
    return record.get("isdiffpos") in ("t", "1")


def past(packet: Packet) -> list[Mapping[str, Any]]:
    """Rows before this alert; none at or after it is past."""
    now = packet["candidate"]["jd"]
    return [row for row in packet.get("prv_candidates") or [] if compare(row["jd"], lambda jd: jd < now)]


def detections(packet: Packet) -> list[Mapping[str, Any]]:
    return [row for row in past(packet) if there(row["magpsf"])]


def night(jd: float) -> int:
    return math.floor(jd - 2457754.5)


def at_ps1(packet: Packet, radius: float) -> bool:
    return compare(value(packet, "distpsnr1"), lambda d: d <= radius)


def known_object(packet: Packet) -> bool:
    return compare(value(packet, "ssdistnr"), lambda d: 0 <= d <= 5)


def real_bogus(p: Packet) -> bool:
    return compare(value(p, "rb"), lambda rb: rb >= 0.65)


def star_galaxy(p: Packet) -> bool:
    return at_ps1(p, 1.5) and compare(value(p, "sgscore1"), lambda s: s > 0.5)


def pure(p: Packet) -> bool:
    return (
        real_bogus(p)
        and compare(value(p, "nbad"), lambda n: n == 0)
        and compare(value(p, "fwhm"), lambda x: x <= 5)
        and compare(value(p, "elong"), lambda x: x <= 1.2)
        and compare(value(p, "magdiff"), lambda x: -0.1 <= x <= 0.1)
    )


def pure_transient(p: Packet) -> bool:
    times = sorted([row["jd"] for row in detections(p) if positive(row)] + [p["candidate"]["jd"]])
    gaps = [(later - earlier) * 1440 for earlier, later in itertools.pairwise(times)]
    return (
        pure(p)
        and positive(p["candidate"])
        and not a_star(p)
        and any(gap >= 30 for gap in gaps)
        and not known_object(p)
    )


def two_detections_30min(p: Packet, whole_survey: bool = False) -> bool:
    now = p["candidate"]["jd"]
    tonight = [row for row in detections(p) if night(row["jd"]) == night(now)]
    before = [row for row in detections(p) if night(row["jd"]) != night(now)]
    start = p["candidate"].get("jdstarthist")
    return (
        positive(p["candidate"])
        and any((now - row["jd"]) * 1440 > 30 for row in tonight)
        and not before
        and (not whole_survey or compare(start, lambda jd: night(jd) == night(now)))
    )


def two_detections_20min(p: Packet) -> bool:
    times = sorted(row["jd"] for row in detections(p))
    if not times:
        return False
    first, others = times[0], times[1:]
    now = p["candidate"]["jd"]
    return (now - first) * 1440 > 20 and not any((jd - first) * 1440 > 20 for jd in others)


def flux(record: Mapping[str, Any]) -> float | None:
    if not there(record["magpsf"]) or record["isdiffpos"] is None:
        return None
    size = math.pow(10, -0.4 * (record["magpsf"] - 25)) if record["magpsf"] > -700 else math.inf
    return size if positive(record) else -size


def stellar_outburst(p: Packet) -> bool:
    if not star_galaxy(p):
        return False
    band = value(p, "fid")
    epochs: dict[int, float] = {}
    for row in past(p):
        if compare(row["fid"], lambda fid: fid == band) and flux(row) is not None:
            epochs.setdefault(row["pid"], flux(row))
    fluxes = list(epochs.values())
    now = flux(p["candidate"])
    if len(fluxes) < 5 or now is None:
        return False
    mean = math.fsum(fluxes) / len(fluxes)
    deviation = math.sqrt(math.fsum((f - mean) ** 2 for f in fluxes) / len(fluxes))
    return abs(now - mean) > 5 * deviation


def blue_outburst(p: Packet) -> bool:
    g, r = value(p, "sgmag1"), value(p, "srmag1")
    in_band = {1: "sgmag1", 2: "srmag1", 3: "simag1"}.get(value(p, "fid"))
    before = value(p, in_band) if in_band else None
    now = value(p, "magpsf")
    return (
        at_ps1(p, 1.5)
        and there(g)
        and there(r)
        and g - r < 0.6
        and there(before)
        and there(now)
        and before - now >= 2
        and positive(p["candidate"])
    )


def asteroid(p: Packet) -> bool:
    return (
        positive(p["candidate"])
        and real_bogus(p)
        and compare(value(p, "ndethist"), lambda n: n <= 1)
        and not at_ps1(p, 5)
        and not known_object(p)
    )


def solar_system(p: Packet) -> bool:
    return known_object(p)


def nuclear(p: Packet) -> bool:
    return (
        positive(p["candidate"])
        and at_ps1(p, 0.6)
        and compare(value(p, "sgscore1"), lambda s: s < 0.5)
        and not known_object(p)
    )


def young_supernova(p: Packet) -> bool:
    now, start = p["candidate"]["jd"], p["candidate"].get("jdstarthist")
    first = min([row["jd"] for row in detections(p)] + [now])
    limits = [row["jd"] for row in past(p) if not there(row["magpsf"])]
    return (
        pure_transient(p)
        and compare(start, lambda jd: now - jd <= 5)
        and any(0 < first - jd <= 2.5 for jd in limits)
    )


def a_star(p: Packet) -> bool:
    return at_ps1(p, 1.5) and compare(value(p, "sgscore1"), lambda s: s >= 0.5)


def type_ia(p: Packet) -> bool:
    now = p["candidate"]
    seen = {row["pid"]: row["fid"] for row in reversed(detections(p)) if positive(row)}
    bands = {1, 2, 3}
    if not (real_bogus(p) and positive(now) and not known_object(p) and not a_star(p)):
        return False
    if not compare(now.get("jdstarthist"), lambda jd: now["jd"] - jd <= 100):
        return False
    if len(seen) + 1 < 5 or not any(
        {fid, now["fid"]} <= bands and fid != now["fid"] for fid in seen.values()
    ):
        return False
    if len(epochs(p)) - 5 < 3:
        return False
    found = chi2_dof(p)
    return found is not None and found <= 2


ORACLE: dict[str, Callable[[Packet], bool]] = {
    f.__name__: f
    for f in (
        asteroid,
        blue_outburst,
        nuclear,
        pure,
        pure_transient,
        real_bogus,
        solar_system,
        stamp_point,
        star_galaxy,
        stellar_outburst,
        two_detections_20min,
        two_detections_30min,
        type_ia,
        young_supernova,
    )
}
