"""Work of several users side by side; of each user one piece after the other."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Work = Callable[[], None]


class ByUser:
    """A thread for each user who has work waiting, and none for the others.

    Parameters
    ----------
    most
        Pieces of work of one user that may wait.
    hold
        Called with a user's name when so many wait: bring no more.
    go_on
        Called with the name when none waits any more.
    """

    def __init__(self, most: int, hold: Callable[[str], None], go_on: Callable[[str], None]) -> None:
        self._most, self._hold, self._go_on = most, hold, go_on
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[tuple[Work, int]]] = {}
        self._held: set[str] = set()

    def put(self, user: str, work: Work, weight: int = 1) -> None:
        """Do a piece of work after all that this user has asked for before.

        Parameters
        ----------
        user
            Who asks.
        work
            What to do; what it raises is logged.
        weight
            As how many pieces it counts while it waits: one that holds a file is worth many.
        """
        with self._lock:
            is_new = user not in self._waiting
            waiting = self._waiting.setdefault(user, deque())
            waiting.append((work, weight))
            if sum(one for _, one in waiting) >= self._most and user not in self._held:
                self._held.add(user)
                self._hold(user)
        if is_new:
            threading.Thread(target=self._work, args=(user,), name=f"for {user}", daemon=True).start()

    def _work(self, user: str) -> None:
        while (work := self._next(user)) is not None:
            try:
                work()
            except Exception:
                log.exception("a request of user %s", user)

    def _next(self, user: str) -> Work | None:
        """What to do now; None: nothing waits, and the thread is to end."""
        with self._lock:
            waiting = self._waiting[user]
            if not waiting and user in self._held:
                self._held.discard(user)
                self._go_on(user)
            if not waiting:
                del self._waiting[user]
                return None
            return waiting.popleft()[0]
