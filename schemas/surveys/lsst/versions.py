"""The versions of Rubin's alert schema: read from the folders here, and what has changed its name.

Each folder holds the survey's own files, one a record. The schema registry's id of a version is
major x 100 + minor: 701, 900, 1100.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from schemas.surveys.arrow import field_types

_HERE = Path(__file__).parent


def versions() -> list[str]:
    """The versions that are here, oldest first."""
    folders = (path.name for path in _HERE.iterdir() if re.fullmatch(r"[0-9]+\.[0-9]+", path.name))
    return sorted(folders, key=lambda name: tuple(map(int, name.split("."))))


REFERENCE = versions()[-1]
"""The newest version: columns have its names and types."""


def schema_id(version: str) -> int:
    """The schema registry's id: 1100 for "11.0"."""
    major, minor = map(int, version.split("."))
    return major * 100 + minor


@cache
def numbered(number: int) -> Mapping[str, Any] | None:
    """The schema with this id, if it is here."""
    return next((schema_of(version) for version in versions() if schema_id(version) == number), None)


@cache
def schema_of(version: str) -> dict[str, Any]:
    """The alert schema of a version in one piece: each record is written out where it is first used.

    Raises FileNotFoundError for a version that is not here.
    """
    records = {}
    for path in sorted((_HERE / version).glob("*.avsc")):
        record = json.loads(path.read_text())
        records[f"{record['namespace']}.{record['name']}"] = record
    name = next((full for full in records if full.endswith(".alert")), None)
    if name is None:
        raise FileNotFoundError(f"no alert schema in {_HERE / version}")
    whole: dict[str, Any] = _inlined(records[name], records, set())
    return whole


def _inlined(schema: Any, records: Mapping[str, Any], written: set[str]) -> Any:
    """The schema with the records that it names in their places, each once."""
    if isinstance(schema, list):
        return [_inlined(branch, records, written) for branch in schema]
    if isinstance(schema, str):
        if schema not in records or schema in written:
            return schema
        return _inlined(records[schema], records, written)
    if schema["type"] == "record":
        written.add(f"{schema['namespace']}.{schema['name']}")
        fields = [{**f, "type": _inlined(f["type"], records, written)} for f in schema["fields"]]
        return {**schema, "fields": fields}
    if schema["type"] == "array":
        return {**schema, "items": _inlined(schema["items"], records, written)}
    return schema


@cache
def _fields_of(version: str) -> frozenset[str]:
    return frozenset(field_types(schema_of(version)))


def major_of(schema: Any) -> int:
    """The major version of a writer schema: by its name ("lsst.v9_0.alert"), else by its fields.

    Records that a broker wrote again have lost their names: then it is the newest of the versions here with
    most of the schema's fields.
    """
    full = f"{schema.get('namespace') or ''}.{schema.get('name') or ''}"
    match = re.search(r"\bv([0-9]+)_[0-9]+\b", full)
    if match:
        return int(match[1])
    there = set(field_types(schema))
    best = max(
        versions(), key=lambda v: (len(there & _fields_of(v)), -len(_fields_of(v) - there), schema_id(v))
    )
    return int(best.partition(".")[0])


_RENAMED = {
    # 7.x named the sign otherwise, and had no id at the top.
    "candid": ("diaSourceId", "diaSource.diaSourceId"),
    "diaSourceId": ("diaSourceId", "diaSource.diaSourceId"),
    "isNegative": ("diaSource.isNegative", "diaSource.is_negative"),
    "prvDiaSources.isNegative": ("prvDiaSources.isNegative", "prvDiaSources.is_negative"),
}

_SS_SOURCE = {
    "eclLambda": "eclipticLambda",
    "eclBeta": "eclipticBeta",
    "galLon": "galacticL",
    "galLat": "galacticB",
    "topoRange": "topocentricDist",
    "helioRange": "heliocentricDist",
    "ephVmag": "predictedVMagnitude",
    "helio_x": "heliocentricX",
    "helio_y": "heliocentricY",
    "helio_z": "heliocentricZ",
    "topo_x": "topocentricX",
    "topo_y": "topocentricY",
    "topo_z": "topocentricZ",
}
"""Field of ssSource since 10.0 -> its name in 9.0, of those in the same unit.

Not among them: velocities (9.0 gives au/d) and residuals (9.0 gives degrees), which 10.0 may not keep.
"""

_ORBIT = {
    "e": "e",
    "a": "a",
    "q": "q",
    "node": "node",
    "i": "incl",
    "argperi": "peri",
    "mean_anomaly": "M",
    "h": "mpcH",
    "epoch_mjd": "epoch",
}
"""Field of mpc_orbits since 10.0 -> its name in MPCORB of 9.0, of those in the same unit."""

ALIASES: dict[str, tuple[str, ...]] = {
    **_RENAMED,
    **{f"ssSource.{new}": (f"ssSource.{new}", f"ssSource.{old}") for new, old in _SS_SOURCE.items()},
    **{f"mpc_orbits.{new}": (f"mpc_orbits.{new}", f"MPCORB.{old}") for new, old in _ORBIT.items()},
}
"""Column -> where its values are, the newest name first. What is not here, with another name, is null."""
