"""Values as JSON that every reader understands exactly.

JSON has one kind of number, and browsers, jq and many others read it as a float of 64 bits: a candid has more
digits than that. So each whole number beyond 2^53, and each candid, is written a second time as text, under
its name with `_str`. Numbers that are not finite are null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

EXACT = 1 << 53
"""Whole numbers up to here are exact in a float of 64 bits (IEEE 754; RFC 8259, section 6)."""

_ALWAYS = frozenset({"candid"})


def to_json(value: Any, indent: int | None = None) -> str:
    """Dictionaries, lists and plain values as JSON, see above."""
    return json.dumps(plain_json(value), indent=indent, allow_nan=False)


def plain_json(value: Any) -> Any:
    """The value with text beside large numbers, and null for what is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _members(value)
    if isinstance(value, (list, tuple)):
        return [plain_json(one) for one in value]
    return value


def _members(value: Mapping[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, one in value.items():
        made[str(name)] = plain_json(one)
        if one is None and name in _ALWAYS:
            made[f"{name}_str"] = None
        elif isinstance(one, int) and not isinstance(one, bool) and (name in _ALWAYS or abs(one) > EXACT):
            made[f"{name}_str"] = str(one)
    return made
