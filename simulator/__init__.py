"""The simulated sky: seeded, schema-valid ZTF packets over several nights, with the truth about each.

`identity` (names and catalogue entries of objects) and `compiled` come first; then `sky` (where and when the
telescope looks, and what is in the sky), `measure` (the static sky, noise, the five sigma rule, which sources
are detected), `packets` (records, stamps, the stream, damage), `rubin` (Rubin's visits, records and stamps),
and `check` (truth tables, comparison with real packets).
"""

from simulator.check.truth import truth_table, write_truth
from simulator.packets.cell import SimulatedAlert
from simulator.packets.damage import damaged
from simulator.packets.stream import Month, Part, Staged, simulate
from simulator.rubin import simulate_rubin

SKIES = {"lsst": simulate_rubin}
"""Survey -> what simulates its alerts (number, seed, stamps); ZTF's sky is `simulate`, and `Month`."""

__all__ = [
    "SKIES",
    "Month",
    "Part",
    "SimulatedAlert",
    "Staged",
    "damaged",
    "simulate",
    "simulate_rubin",
    "truth_table",
    "write_truth",
]
