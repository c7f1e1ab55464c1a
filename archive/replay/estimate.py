"""What a replay would take, before it is begun: alerts, bytes, seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archive.read.archive import Archive
from archive.read.columns import size
from archive.replay.replay import replay, variants
from filters import Filter


@dataclass(frozen=True)
class Estimate:
    """rows: records of the nights. bytes: of the columns to read. seconds: expected, by the pace on `pilot`,
    the smallest of the nights; NaN when there is none."""

    rows: int
    bytes: int
    nights: int
    filters: int
    seconds: float
    pilot: str

    def __str__(self) -> str:
        pace = f"about {self.seconds:,.1f} s (measured on {self.pilot})" if self.pilot else "no time"
        return (
            f"{self.filters} filter{'s' * (self.filters != 1)} on {self.rows:,} rows of {self.nights} nights:"
            f" {size(self.bytes)} to read, {pace}"
        )


def estimate(
    filters: Sequence[Filter | str],
    archive: Archive,
    nights: Any = None,
    parameters: Mapping[str, Any] | None = None,
    public: bool = True,
    cone: Any = None,
) -> Estimate:
    """What `replay` with these arguments would take; the smallest of the nights is replayed to know its pace.

    Parameters
    ----------
    filters, archive, nights, parameters, public, cone
        As for `replay`.

    Raises
    ------
    FilterError, BadNights, NoSuchArchive
        As `replay` does.
    """
    chosen = variants(filters, parameters)
    reads = list(dict.fromkeys(name for f in chosen for name in f.require_reads()))
    rows_of: dict[str, float] = {}
    for piece in archive.select(archive.view(reads, cone, None, public), nights):
        rows_of[str(piece.night)] = rows_of.get(str(piece.night), 0) + piece.rows / piece.parts
    rows, cost = round(sum(rows_of.values())), archive.cost(nights, reads, cone, public=public)
    rows_of.pop("None", None)
    pilot = min(rows_of, key=lambda night: rows_of[night]) if rows_of else ""
    seconds = float("nan")
    if pilot:
        found = replay(chosen, archive, pilot, public=public, cone=cone)
        seconds = found.seconds * rows / max(rows_of[pilot], 1)
    return Estimate(rows, cost.bytes, len(rows_of), len(chosen), seconds, pilot)
