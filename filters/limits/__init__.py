"""Limits of channels: which of the alerts that pass are delivered."""

from filters.limits.limits import Limits, Memory, Once, Passing, Sample, Throttle, admitted, let_through
from filters.limits.ranking import Ranked, Ranking, best

__all__ = [
    "Limits",
    "Memory",
    "Once",
    "Passing",
    "Ranked",
    "Ranking",
    "Sample",
    "Throttle",
    "admitted",
    "best",
    "let_through",
]
