"""Compile the packet decoder once, at set-up: numba keeps it, and the first run does not wait for it."""

from schemas.reader import PacketReader
from schemas.rewrite import rewrite
from schemas.simulated import simulate

packet = next(simulate(1, seed=0)).packet
assert PacketReader(["jd", "objectId", "prv_candidates.jd"]).read([packet]).table.num_rows == 1
assert len(rewrite(packet, drop=["cutoutScience"], public_only=True)) < len(packet)
