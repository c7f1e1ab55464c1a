"""The simulated sky: seeded, schema-valid ZTF packets over several nights, with the truth about each.

Rooms: `heavens` and `survey` (where and when the telescope looks), `lightcurves`, `templates`, `transients`,
`variables`, `moving` (what is in the sky), `bogus` (what is not), `kinds` (how much of each), `catalogue`
and `neighbourhood` (the static sky), `detection` (noise, the five sigma rule, measured columns), `census`
(who is seen, names), `cell`, `rows`, `encode` and `packet` (records, bytes), `stamps` and `pixels`
(pictures), `sky` (the stream), `truth`; `rubin` (Rubin's visits, records and cut-outs).
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
