"""Surveys that zads knows only in part: their packets are named, published and listened to, not filtered.

They are shaped like ZTF's: what describes the detection is in `candidate`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("pgir", "winter", "turbo")

DIGEST = ("candid", "objectId", "programid", "jd", "fid", "ra", "dec", "magpsf", "sigmapsf", "rb")
"""What `zads listen` shows of them."""

_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "candid": ("candid", "candidate.candid"),
    "objectId": ("objectId", "objectid"),
}


def values(packet: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Some values of a packet as a dictionary; None for missing ones."""
    read = {name: _first(packet, _ELSEWHERE.get(name, (f"candidate.{name}",))) for name in names}
    if read.get("objectId") is not None:
        read["objectId"] = str(read["objectId"])
    return read


def topic(survey: str, night: Any, read: Mapping[str, Any]) -> str:
    """The topic of one night: `pgir_20231012`, with `_programid1` where the packet has a programid.

    Parameters
    ----------
    survey
        Name of the survey.
    night
        The date of the night.
    read
        Values of the packet, as `values` reads them; only `programid` is used.
    """
    name = f"{survey}_{night:%Y%m%d}"
    return name if read.get("programid") is None else f"{name}_programid{read['programid']}"


def _first(packet: Mapping[str, Any], paths: Sequence[str]) -> Any:
    for path in paths:
        value: Any = packet
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None
