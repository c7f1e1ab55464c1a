"""The live graph: ranges of offsets in, reports out, the work between them on Dask.

    KafkaRanges ─► OnWorkers(read ► decode ► filter ► publish + commit) ─► settle

The four steps are one fused task a batch: as separate tasks they reach two thirds of the rate, since
each hands its batch through the scheduler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from streamz import Stream

from pipeline.fleet import Fleet
from pipeline.work import Report, Work

log = logging.getLogger(__name__)


def connect(
    source: Stream,
    function: Callable[[Work], Report],
    fleet: Fleet,
    batches_per_worker: int,
    settle: Callable[[Report], None],
) -> OnWorkers:
    """Put the live graph together behind `source`."""
    on_workers = OnWorkers(source, function, fleet, batches_per_worker)
    on_workers.sink(settle)
    return on_workers


class OnWorkers(Stream):
    """Runs `function` on the workers, a bounded number at a time, and emits its reports as they come.

    `update` returns as soon as there is a place, so that a full fleet holds the source back.
    """

    def __init__(
        self, upstream: Stream, function: Callable[[Work], Report], fleet: Fleet, batches_per_worker: int
    ) -> None:
        super().__init__(upstream, stream_name="read ► decode ► filter ► publish + commit")
        self._function, self._fleet = function, fleet
        self._batches_per_worker = batches_per_worker
        self._in_flight: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def update(self, work: Work, who: Stream | None = None, metadata: object = None) -> None:
        while len(self._in_flight) >= self._batches_per_worker * max(1, self._fleet.workers):
            await asyncio.wait(self._in_flight, return_when="FIRST_COMPLETED")
        task = asyncio.create_task(self._run(work))
        self._in_flight.add(task)
        task.add_done_callback(self._landed)

    async def _run(self, work: Work) -> None:
        report = await self._fleet.run(self._function, work)
        await asyncio.gather(*self._emit(report))

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)  # a stream that swallowed it would stand still for ever

    async def finish(self, seconds: float) -> int:
        """Wait for what is in flight; returns how many batches were handed back instead."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=seconds)
        left = len(self._in_flight)
        for task in self._in_flight:
            task.cancel()
        return left
