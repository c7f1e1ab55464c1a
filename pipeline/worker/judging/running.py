"""Which filter is running, written where it survives the death of the worker.

User code runs in the worker's process. When it loops for ever or eats the memory, the process ends,
and the next attempt must be able to name the cause: a few bytes in a file beside the
worker's scratch folder, one file a partition, survive even SIGKILL (the page cache is not the
process's). The time limit is SIGALRM, which needs no GIL: `faulthandler` writes the traceback even inside
a C loop that never lets go, and hands the signal on to its default, the end of the process. (A timer is one
system call a filter; `dump_traceback_later` would start and join a thread, ten times a batch.)
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import re
import signal
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from distributed import get_worker

from pipeline.worker.work import Work

_SIZE, _CHANNEL = 512, 128  # bytes of a note, and where in it the name of the channel begins


class Culprit(NamedTuple):
    """The filter that was running when an attempt ended ("" when none was), and where in it."""

    channel: str
    traceback: str


def scratch_folder() -> Path:
    """A folder that all workers of this machine share and that outlives each of them."""
    try:
        parent = Path(get_worker().local_directory).parent
    except ValueError:  # not in a worker: a backfill in the user's own process
        parent = Path(tempfile.gettempdir())
    folder = parent / f"zads-running-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


class RunningNote:
    """The note of one attempt. A context manager: the note is gone when the attempt ends alive."""

    def __init__(self, work: Work) -> None:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{work.run}.{work.partition}")
        self._path = scratch_folder() / name
        self._trace = self._path.with_name(name + ".traceback")
        self._low, self._attempt = work.low, work.attempt

    def left_by_an_attempt_before(self) -> Culprit | None:
        """What was running when an earlier attempt ended; None if none began here, or it has been told.

        Not only the last attempt: that may have been lost with another's worker before it began.
        """
        try:
            page = self._path.read_bytes()
            note = json.loads(page[:_CHANNEL].strip() or "{}")
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if note.get("low") != self._low or note["attempt"] >= self._attempt:
            return None
        words = self._trace.read_text() if self._trace.exists() else ""
        return Culprit(page[_CHANNEL:].decode().strip(), words)

    def __enter__(self) -> RunningNote:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, b" " * _SIZE, 0)  # a disk that is full says so now
            self._page = mmap.mmap(file, _SIZE)
        finally:
            os.close(file)
        self._trace_file = self._trace.open("w")
        faulthandler.register(signal.SIGALRM, file=self._trace_file, chain=True)
        note = json.dumps({"low": self._low, "attempt": self._attempt})
        self._page[:] = note.encode().ljust(_CHANNEL) + _NOBODY
        return self

    def __exit__(self, *exc: object) -> None:
        self._page.close()
        faulthandler.unregister(signal.SIGALRM)
        self._trace_file.close()
        self.remove()

    def remove(self) -> None:
        """Take the note away: it has been read, or there is nothing to tell."""
        self._path.unlink(missing_ok=True)
        self._trace.unlink(missing_ok=True)

    def running(self, channel: str, seconds: float) -> _Running:
        """Within, `channel` is on record as running; after `seconds` the process ends with a traceback.

        Parameters
        ----------
        channel
            Name of the channel.
        seconds
            The time limit.
        """
        return _Running(self._page, channel, seconds)


class _Running:
    """A context manager. It is entered for each filter of each batch, so it does as little as it can."""

    __slots__ = ("_channel", "_page", "_seconds")

    def __init__(self, page: mmap.mmap, channel: str, seconds: float) -> None:
        self._page, self._channel, self._seconds = page, channel, seconds

    def __enter__(self) -> None:
        self._page[_CHANNEL:] = _named(self._channel)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._page[_CHANNEL:] = _NOBODY


@cache
def _named(channel: str) -> bytes:
    return channel.encode().ljust(_SIZE - _CHANNEL)


_NOBODY = _named("")
