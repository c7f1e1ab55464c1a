"""The exposure channels of a run: a process beside it that is watched, blamed and begun anew."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.broker.partition import Partition
from pipeline.channels.channel import ChannelSet
from pipeline.live.exposures.reader import NAME_BYTES, Orders, Task, Told, run

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 5.0
_SILENT_SECONDS = 90.0  # without a word, filters' time not counted: it hangs in a call of Kafka's
_END_SECONDS = 20.0
_OVERRUNS, _DEATHS = 2, 4  # of one filter, until its channel is suspended

Suspend = Callable[[str, str, str], None]
"""Called with a channel, why, and a traceback."""


class Exposures:
    """Runs the channels that judge whole exposures, in a process of its own, for as long as there are any.

    Parameters
    ----------
    task
        What the process is to do.
    channels
        That judge whole exposures.
    tell
        Called with what it has done.
    suspend
        Called when a channel's filter ends the process again and again.
    """

    def __init__(
        self, task: Task, channels: ChannelSet, tell: Callable[[Told], None], suspend: Suspend
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="zads-exposures-")
        self._trace = Path(self._folder.name) / "traceback"
        self._task = replace(task, traceback=str(self._trace))
        self._tell, self._suspend = tell, suspend
        self._orders = Orders(channels.to_bytes())
        self._wanted = bool(channels.channels)
        self._process: Any = None
        self._deaths: Counter[tuple[str, bool]] = Counter()
        self._in_a_row, self._not_before, self._heard = 0, 0.0, 0.0
        self._reached = asyncio.Event()

    def follow(self, channels: ChannelSet, suspended: Mapping[str, str]) -> None:
        """From the next exposure on these channels, without those that are suspended."""
        self._wanted = bool(channels.channels)
        self._give(replace(self._orders, channels=channels.to_bytes(), suspended=dict(suspended)))

    def leave_out(self, suspended: Mapping[str, str]) -> None:
        """Run these channels no more; what they miss becomes gaps."""
        if dict(suspended) != self._orders.suspended:
            self._give(replace(self._orders, suspended=dict(suspended)))

    def _give(self, orders: Orders) -> None:
        self._orders = orders
        if self._process is not None:
            with suppress(OSError):  # the next process begins with them
                self._ours.send(orders)

    async def watch(self) -> None:
        """Keep the process going; never returns."""
        while True:
            if self._wanted and self._process is None and time.monotonic() >= self._not_before:
                self._begin()
            elif not self._wanted and self._process is not None:
                await asyncio.to_thread(self.close)
            elif self._process is not None:
                self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def reach(self, targets: Mapping[Partition, int]) -> None:
        """Return when everything below these offsets has been judged and committed."""
        if not self._wanted or not targets:
            return
        self._reached.clear()
        self._give(replace(self._orders, targets=dict(targets)))
        await self._reached.wait()
        self._give(replace(self._orders, targets=None))

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._running = context.Array("c", NAME_BYTES, lock=False)
        arguments = (self._task, self._orders, theirs, self._running)
        self._process = context.Process(target=run, args=arguments, name="exposures", daemon=True)
        self._process.start()
        theirs.close()
        self._heard = time.monotonic()

    def _look(self) -> None:
        """Hear what it has done; blame and begin anew when it is dead, or has been silent for long."""
        with suppress(EOFError, OSError):  # it is dead, or about to be
            while self._ours.poll(0):
                self._hear(self._ours.recv())
        silent = time.monotonic() - self._heard > _SILENT_SECONDS + self._task.seconds
        if silent and self._process.is_alive():
            log.error("exposures: no sign from their process, ending it")
            self._process.kill()
        if not self._process.is_alive():
            self._bury()

    def _hear(self, told: Told) -> None:
        self._heard, self._in_a_row = time.monotonic(), 0
        self._tell(told)
        if told.reached:
            self._reached.set()

    def _bury(self) -> None:
        """The process has ended by itself: whose fault was it?"""
        self._process.join()
        culprit = self._running.value.decode(errors="replace")
        traceback = self._trace.read_text() if self._trace.exists() else ""
        self._process = None
        self._in_a_row += 1
        backoff = min(0.5 * 2 ** min(self._in_a_row, 8), _LONGEST_BACKOFF_SECONDS)
        self._not_before = time.monotonic() + backoff
        log.warning("exposures: their process ended%s", f" while {culprit} was running" if culprit else "")
        if not culprit:
            return
        self._deaths[culprit, bool(traceback)] += 1
        if traceback and self._deaths[culprit, True] >= _OVERRUNS:
            self._suspend(culprit, "took too long", traceback)
        elif self._deaths[culprit, False] >= _DEATHS:
            self._suspend(culprit, "ended its process (too much memory?)", "")

    def close(self) -> None:
        """End the process: what it has not committed the next one does."""
        if self._process is None:
            return
        with suppress(OSError):
            self._ours.send(None)
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        with suppress(EOFError, OSError):
            while self._ours.poll(0):
                self._hear(self._ours.recv())
        self._process = None
