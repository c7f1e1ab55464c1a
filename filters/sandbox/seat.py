"""The place of an owner in the sandbox: who sits there, what it may take, how often it had to be ended."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable

from filters.sandbox.processes import Child
from filters.sandbox.trials import Trials

SECONDS_AN_ALERT = 1e-4
"""Processor time that a filter may use on a batch for each of its alerts."""
CREDIT_BATCH, CREDIT_ALERT, _MOST_CREDIT = 5e-3, 3e-4, 2.0
"""Processor time in the long run: each batch and each alert give so much; so much may be saved."""
_SURPRISE_SECONDS, _SURPRISE, _FADES, _FEW = 0.05, 5.0, 0.9, 100
"""During an alarm a stream waits so long, and so many times what the alerts of the filter have cost so far.
The share of a dear batch that is remembered after another. Fewer alerts cost a filter as much as so many."""
BATCHES = 1000
"""After about so many a child is replaced; the last of them is judged by both."""
STRIKES_SECONDS = 600.0


class Seat:
    """An owner's place: the child that sits there now, and what is known of the owner's filters.

    owner: the name. gently: whether its children let everybody else go first.
    """

    def __init__(self, owner: str, gently: bool = False) -> None:
        self.lock, self.used, self.gently = threading.Lock(), 0.0, gently
        self.trials = Trials(owner)
        self.child: Child | None = None
        self.known: set[str] = set()
        self.batches, self.lived, self._most = 0, 0, 0  # of the child; of one that had to be ended
        self._strikes: dict[str, deque[float]] = {}
        self._credit: dict[str, float] = {}
        self._usual: dict[str, float] = {}

    def enough(self, key: str, rows: int) -> Callable[[float], bool]:
        """Says of the processor time that a filter has used on a batch whether a stream waits no longer.

        That is when another process has ended the owner's, or, during an alarm, when this is far more than
        such a batch has ever cost; of a filter that has judged none, more than its alerts may cost.
        """
        usual = self._usual.get(key)
        an_alert = SECONDS_AN_ALERT if usual is None else _SURPRISE * usual
        most = _SURPRISE_SECONDS + an_alert * max(rows, _FEW)
        return lambda used: self.trials.told() or (used > most and self.trials.is_alarm())

    def pay(self, key: str, rows: int) -> bool:
        """For the batch that a filter has just judged; False when it has used up its time."""
        assert self.child is not None
        self._usual[key] = max(_FADES * self._usual.get(key, 0.0), self.child.took / max(rows, _FEW))
        left = self._credit.get(key, _MOST_CREDIT) + CREDIT_BATCH + CREDIT_ALERT * rows - self.child.took
        self._credit[key] = min(left, _MOST_CREDIT) if left >= 0 else _MOST_CREDIT
        return left >= 0

    def enter(self, child: Child, chance: random.Random) -> None:
        """A new child."""
        self.child, self.batches = child, 0
        self._most = chance.randint(BATCHES // 2, BATCHES * 3 // 2)
        self.known.clear()

    def leave(self) -> None:
        """End the child, if there is one."""
        if self.child is not None:
            self.child.end()
        self.child = None
        self.known.clear()

    @property
    def is_old(self) -> bool:
        """Whether the child is to be replaced."""
        return self.batches >= self._most

    def strikes(self, key: str) -> int:
        """How often a filter's process was ended within the last minutes."""
        strikes = self._strikes.get(key, deque())
        while strikes and time.monotonic() - strikes[0] > STRIKES_SECONDS:
            strikes.popleft()
        return len(strikes)

    def strike(self, key: str) -> int:
        """It was ended now; how often, with this time."""
        self._strikes.setdefault(key, deque()).append(time.monotonic())
        return self.strikes(key)
