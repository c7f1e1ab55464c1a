"""Trials: after the process of an owner had to be ended, a stream waits for none of the owner's filters.

Each of them first has to judge a batch in time: a new process does that beside the stream, and gives way to
everybody else. Until it has, the filter has no verdicts, which its channel sees as a gap. So an owner whose
filters loop holds up a stream once, however many of them there are and whenever they begin to.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from filters.errors import FilterError
from filters.sandbox.errors import Ended, NoSandbox

_HURRY = ContextVar("hurry", default=False)


@contextlib.contextmanager
def in_a_hurry() -> Iterator[None]:
    """Within, nobody waits for the filters of an owner whose process had to be ended."""
    token = _HURRY.set(True)
    try:
        yield
    finally:
        _HURRY.reset(token)


def nobody_waits() -> bool:
    """Whether the caller is in a hurry."""
    return _HURRY.get()


class Trials:
    """Of the filters of one owner."""

    def __init__(self) -> None:
        self._doubts = 0
        self._cleared: dict[str, int] = {}  # filter -> doubts when it last showed that it comes to an end
        self._running: set[str] = set()
        self._ended: dict[str, Ended] = {}

    def doubt(self) -> None:
        """The owner's process had to be ended: from now on each filter has to show what it is."""
        self._doubts += 1

    def wanted(self, key: str) -> bool:
        """Whether a filter has still to show it. Raises Ended when its trial has ended so."""
        if (ended := self._ended.pop(key, None)) is not None:
            raise ended
        return self._cleared.get(key, 0) < self._doubts

    def begin(self, key: str, judge: Callable[[], None]) -> None:
        """Begin a trial in a thread, unless one is under way.

        Parameters
        ----------
        key
            Of the filter.
        judge
            Has it judge a batch; raises what comes between.
        """
        if key not in self._running:
            self._running.add(key)
            threading.Thread(
                target=self._try, args=(key, judge, self._doubts), name="trial", daemon=True
            ).start()

    def _try(self, key: str, judge: Callable[[], None], doubts: int) -> None:
        try:
            judge()
        except Ended as ended:
            self._ended[key] = ended
        except NoSandbox:
            pass  # no fault of the filter: the next batch is another trial
        except FilterError:
            self._cleared[key] = doubts  # it comes to an end; what else there is to say the stream will
        else:
            self._cleared[key] = doubts
        finally:
            self._running.discard(key)
