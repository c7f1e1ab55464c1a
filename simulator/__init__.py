"""The simulated sky: seeded, schema-valid ZTF packets over several nights, with the truth about each.

Rooms: `heavens` and `survey` (where and when the telescope looks), `lightcurves`, `templates`, `transients`,
`variables`, `moving` (what is in the sky), `bogus` (what is not), `kinds` (how much of each), `catalogue`
and `neighbourhood` (the static sky), `detection` (noise, the five sigma rule, measured columns), `census`
(who is seen, names), `cell`, `rows`, `encode` and `packet` (records, bytes), `stamps` and `pixels`
(pictures), `sky` (the stream), `truth`.
"""

from simulator.check.truth import truth_table, write_truth
from simulator.packets.cell import SimulatedAlert
from simulator.packets.damage import damaged
from simulator.packets.stream import Month, Part, Staged, simulate

__all__ = ["Month", "Part", "SimulatedAlert", "Staged", "damaged", "simulate", "truth_table", "write_truth"]
