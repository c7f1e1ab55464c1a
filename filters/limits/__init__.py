"""Limits of channels: which of the alerts that pass are delivered."""

from filters.limits.limits import Limits, Memory, Once, Passing, Sample, Throttle, admitted, let_through

__all__ = ["Limits", "Memory", "Once", "Passing", "Sample", "Throttle", "admitted", "let_through"]
