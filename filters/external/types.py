"""The kinds of values that columns from outside the packet have."""

from __future__ import annotations

from typing import Any

from schemas.frame import TEXT

TYPES: dict[str, Any] = {
    "number": "float64",
    "integer": "Int64",
    "text": TEXT,
    "flag": "bool",
}
"""Kind of a column -> its pandas type, the same in every batch."""
