"""The simulated sky: seeded, schema-valid ZTF packets over several nights, with the truth about each.

Rooms: `survey` (where and when the telescope looks), `lightcurves` and `population` (what is in the sky),
`bogus` (what is not), `identity` (catalogue neighbours and names), `detection` (noise, the five sigma rule,
measured columns), `history` and `packet` (rows, bytes), `stamps` (pictures), `sky` (the stream), `truth`.
"""

from schemas.simulated.sky import SimulatedAlert, simulate
from schemas.simulated.truth import truth_table, write_truth

__all__ = ["SimulatedAlert", "simulate", "truth_table", "write_truth"]
