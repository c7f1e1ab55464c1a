"""Damage in transit: some packets arrive corrupt, truncated, twice, or late, and the truth says which.

The damage of a packet depends on seed and candid only, so that parts of a month agree with the whole.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace

from simulator.measure.catalogue import hashed
from simulator.packets.cell import SimulatedAlert

CORRUPT, TRUNCATED, REPEATED, DELAYED = DAMAGES = ("corrupt", "truncated", "repeated", "delayed")
UNREADABLE = (CORRUPT, TRUNCATED)
_LATEST = 500  # alerts by which a repeated or delayed packet comes late, at most
_SYNC = 16


def damaged(alerts: Iterable[SimulatedAlert], share: float, seed: int) -> Iterator[SimulatedAlert]:
    """The stream with a share of its packets damaged, all kinds equally often; `damage` names the kind.

    A repeated packet comes twice, and both name it.

    Parameters
    ----------
    alerts
        The stream.
    share
        Share of the packets to damage, 0 to 1.
    seed
        Of the choice of packets.

    Raises
    ------
    ValueError
        For a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"cannot damage a share of {share} of the packets: give 0 to 1")
    return _damaged(alerts, share, seed)


def _damaged(alerts: Iterable[SimulatedAlert], share: float, seed: int) -> Iterator[SimulatedAlert]:
    late: list[tuple[int, int, SimulatedAlert]] = []
    for number, alert in enumerate(alerts):
        while late and late[0][0] <= number:
            yield heapq.heappop(late)[2]
        met, which, where = (float(hashed(seed, 70 + k, alert.candid)) for k in range(3))
        if met >= share:
            yield alert
            continue
        damage = DAMAGES[int(which * len(DAMAGES))]
        changed = replace(alert, packet=_changed(alert.packet, damage, where), damage=damage)
        if damage != DELAYED:
            yield changed
        if damage in (REPEATED, DELAYED):
            heapq.heappush(late, (number + 1 + int(where * _LATEST), alert.candid, changed))
    for _, _, alert in sorted(late, key=lambda waiting: waiting[:2]):
        yield alert


def _changed(packet: bytes, damage: str, where: float) -> bytes:
    if damage == TRUNCATED:
        return packet[: int((0.05 + 0.9 * where) * len(packet))]
    if damage != CORRUPT:
        return packet
    body = packet.index(packet[-_SYNC:]) + _SYNC
    # The magic, the schema's JSON, or the block's counts: a changed pixel would not be noticed.
    begin, filling = [(0, b"\0"), (int(body / 2), b"\0"), (body, b"\xff")][int(where * 3)]
    return packet[:begin] + filling * 24 + packet[begin + 24 :]
