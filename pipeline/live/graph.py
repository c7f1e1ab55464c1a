"""The live graph: ranges of offsets in, reports out, the work between them on Dask.

    KafkaRanges ─► OnWorkers(read ► decode ► filter ► publish + commit) ─► settle

The four steps are one fused task: as separate tasks they reach two thirds of the rate, since each hands its
batch through the scheduler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from streamz import Stream

from pipeline.live.fleet.fleet import Fleet, Process
from pipeline.worker.work import Report, Work

log = logging.getLogger(__name__)


def connect(source: Stream, function: Process, fleet: Fleet, settle: Callable[[Report], None]) -> OnWorkers:
    """Build the live graph behind its source.

    Parameters
    ----------
    source
        Emits work.
    function
        What a worker does with it.
    fleet
        The workers.
    settle
        Called with each report.
    """
    on_workers = OnWorkers(source, function, fleet)
    on_workers.sink(settle)
    return on_workers


class OnWorkers(Stream):
    """Runs each piece of work on the workers, and emits the reports as they come.

    The source decides how much is in flight: it asks the fleet whether there is room.

    Parameters
    ----------
    upstream
        The node that emits work.
    function
        What a worker does with a piece of work.
    fleet
        The workers.
    """

    def __init__(self, upstream: Stream, function: Process, fleet: Fleet) -> None:
        super().__init__(upstream, stream_name="read ► decode ► filter ► publish + commit")
        self._function, self._fleet = function, fleet
        self._in_flight: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def update(self, work: Work, who: Stream | None = None, metadata: object = None) -> None:
        """Start one piece of work; its report is emitted later. Called by streamz.

        Parameters
        ----------
        work
            The work.
        who
            Not used.
        metadata
            Not used.
        """
        task = asyncio.create_task(self._hand_on(await self._fleet.take(self._function, work)))
        self._in_flight.add(task)
        task.add_done_callback(self._landed)

    async def _hand_on(self, report: asyncio.Future[Report]) -> None:
        await asyncio.gather(*self._emit(await report))

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)  # otherwise the stream would hide the error and wait for ever

    async def finish(self, seconds: float) -> int:
        """Wait for what is in flight; returns how many batches were handed back instead."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=seconds)
        left = len(self._in_flight)
        for task in self._in_flight:
            task.cancel()
        return left
