"""The result of an ingest, so far or at the end; summaries of several processes add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Summary:
    """What became of the packets.

    kept: new rows; nights: the same by UT date; skipped: packets that were there already, equal ones;
    quarantined: new there, by reason; quarantined_before: were there already. damaged: a sentence for each
    tarball that ended early. files: data files written, of `stored_bytes`; raw_bytes: of all packets.
    read_bytes: of `total_bytes` on disk; seconds: of wall clock.
    """

    kept: int = 0
    skipped: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    quarantined_before: int = 0
    nights: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    files: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    read_bytes: int = 0
    total_bytes: int = 0
    seconds: float = 0.0

    @property
    def packets(self) -> int:
        """All that were read."""
        return self.kept + self.skipped + self.quarantined.total() + self.quarantined_before

    @property
    def done(self) -> float:
        """Fraction of the input that has been read, 0 to 1."""
        return self.read_bytes / self.total_bytes if self.total_bytes else 1.0

    def plain(self) -> dict[str, Any]:
        """As dictionaries, lists and numbers, to send to another process."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def from_plain(values: dict[str, Any]) -> Summary:
    """The summary that `Summary.plain` was made of."""
    made: dict[str, Any] = {n: Counter(v) if isinstance(v, dict) else v for n, v in values.items()}
    return Summary(**made)


_SUMS = ("kept", "skipped", "quarantined_before", "files", "raw_bytes", "stored_bytes", "read_bytes")


def total(summaries: Iterable[Summary], total_bytes: int, seconds: float) -> Summary:
    """The sum of several summaries.

    Parameters
    ----------
    summaries
        One for each process.
    total_bytes
        Size of the whole input, bytes.
    seconds
        Wall-clock time.
    """
    whole = Summary(total_bytes=total_bytes, seconds=seconds)
    for one in summaries:
        for name in _SUMS:
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        whole.quarantined += one.quarantined
        whole.nights += one.nights
        whole.damaged += one.damaged
    return whole
