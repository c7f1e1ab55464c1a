"""Trials: after the process of an owner had to be ended, a stream waits for none of the owner's filters.

Each of them first has to judge a batch in time, more than once if it did well for a while: a new process does
that beside the stream, and gives way to everybody else. Until it has, the filter has no verdicts, which its
channel sees as a gap. So an owner whose filters loop holds up a stream once, however many of them there are
and whenever they begin to.

With each time of the last minutes a filter has to pass four times as many trials, so that nobody gains by
behaving well on trial.

For some seconds after that there is an alarm: who of the others takes far longer than ever before is not
waited for until its time is up. So many owners whose filters loop at one moment do not add up.

The processes of one machine tell each other by files in a folder of theirs, one for each owner and one for
the alarm. Who is just waiting for such an owner goes on too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path

from filters.errors import FilterError
from filters.sandbox.errors import Ended, NoSandbox

_TOLD_SECONDS = 600.0
"""So long an owner is remembered by other processes: as long as a strike counts."""
_ALARM, _ALARM_SECONDS = "alarm", 10.0
_BACKS_OFF, _MOST_BACK = 4, 5
_HURRY: ContextVar[Path | None] = ContextVar("hurry", default=None)


@contextlib.contextmanager
def in_a_hurry(folder: Path) -> Iterator[None]:
    """Within, nobody waits for the filters of an owner whose process had to be ended.

    folder: that the processes of this machine share which must not be held up.
    """
    token = _HURRY.set(folder)
    try:
        yield
    finally:
        _HURRY.reset(token)


def nobody_waits() -> bool:
    """Whether the caller is in a hurry."""
    return _HURRY.get() is not None


class Trials:
    """Of the filters of one owner. owner: the name."""

    def __init__(self, owner: str) -> None:
        self._file = f"struck-{sha256(owner.encode()).hexdigest()[:16]}"
        self._doubts, self._heard = 0, 0.0
        self._recent: deque[float] = deque()  # when the doubts of the last minutes came up
        self._passed: dict[str, tuple[int, int]] = {}  # filter -> doubts, trials passed since then
        self._cleared: dict[str, int] = {}  # filter -> doubts when it last showed that it comes to an end
        self._running: set[str] = set()
        self._ended: dict[str, Ended] = {}

    def doubt(self) -> None:
        """From now on each filter of the owner has to show what it is."""
        self._count()
        if (folder := _HURRY.get()) is not None:
            with contextlib.suppress(OSError):  # others learn it by themselves
                self._heard = _touched(folder / self._file)

    def alarm(self) -> None:
        """The owner's process had to be ended: for a while nobody is waited for as usual."""
        if (folder := _HURRY.get()) is not None:
            with contextlib.suppress(OSError):
                _touched(folder / _ALARM)

    def is_alarm(self) -> bool:
        """Whether a process of any owner had to be ended on this machine just now."""
        folder = _HURRY.get()
        return folder is not None and time.time() - _when(folder / _ALARM) < _ALARM_SECONDS

    def told(self) -> bool:
        """Whether another process of this machine had to end the owner's, since we have heard of it."""
        if (folder := _HURRY.get()) is None:
            return False
        told = _when(folder / self._file)
        if told <= self._heard or time.time() - told > _TOLD_SECONDS:
            return False
        self._heard = told
        self._count()
        return True

    def _count(self) -> None:
        self._doubts += 1
        self._recent.append(time.monotonic())

    @property
    def _needed(self) -> int:
        """How many trials a filter has to pass: four times as many with each doubt of the last minutes."""
        while self._recent and time.monotonic() - self._recent[0] > _TOLD_SECONDS:
            self._recent.popleft()
        return int(_BACKS_OFF ** min(len(self._recent) - 1, _MOST_BACK))

    def wanted(self, key: str) -> bool:
        """Whether a filter needs a trial. Raises Ended when its last trial ended its process."""
        if (ended := self._ended.pop(key, None)) is not None:
            raise ended
        self.told()
        return self._cleared.get(key, 0) < self._doubts

    def is_running(self, key: str) -> bool:
        """Whether a trial of a filter is under way."""
        return key in self._running

    def begin(self, key: str, judge: Callable[[], None]) -> None:
        """Begin a trial in a thread.

        Parameters
        ----------
        key
            Of the filter.
        judge
            Has it judge a batch; raises what comes between.
        """
        self._running.add(key)
        threading.Thread(target=self._try, args=(key, judge, self._doubts), name="trial", daemon=True).start()

    def _try(self, key: str, judge: Callable[[], None], doubts: int) -> None:
        try:
            judge()
        except Ended as ended:
            self._ended[key] = ended
        except NoSandbox:
            pass  # no fault of the filter: the next batch is another trial
        except FilterError:
            self._passes(key, doubts)  # it comes to an end; what else there is to say the stream will
        else:
            self._passes(key, doubts)
        finally:
            self._running.discard(key)

    def _passes(self, key: str, doubts: int) -> None:
        since, passed = self._passed.get(key, (0, 0))
        passed = passed + 1 if since == doubts else 1
        self._passed[key] = doubts, passed
        if passed >= self._needed:
            self._cleared[key] = doubts


def _touched(file: Path) -> float:
    """Say that it happened now; when that was. Raises OSError."""
    file.touch()
    return file.stat().st_mtime


def _when(file: Path) -> float:
    """When it last happened (Unix time, s); 0 where it never did."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
