"""The broker's clock, as far as it is known between two looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_AGAIN_SECONDS = 60.0


class BrokerClock:
    """Milliseconds since 1970 by the broker: what it said last, and what has gone by since.

    What goes by is counted by a clock that nobody sets: when the clock of this machine jumps, no exposure is
    closed too early or too late.

    Parameters
    ----------
    clock
        Seconds, from any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ahead = 0  # milliseconds: the broker's clock less ours
        self._heard: float | None = None

    def heard(self, now: int) -> None:
        """It says that it is `now`."""
        self._heard = self._clock()
        self._ahead = now - self._ours()

    @property
    def due(self) -> bool:
        """Whether it is time to ask: the broker's clock may be set, too."""
        return self._heard is None or self._clock() - self._heard > _LOOK_AGAIN_SECONDS

    @property
    def now(self) -> int:
        """Its time now."""
        return self._ours() + self._ahead

    def _ours(self) -> int:
        return int(self._clock() * 1000)
