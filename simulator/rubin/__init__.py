"""Rubin's way to send the simulated sky: its visits, its fluxes, its packets."""

from simulator.rubin.stream import simulate_rubin

__all__ = ["simulate_rubin"]
